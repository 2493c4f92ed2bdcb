"""A coordinator's folder for tests: keys, certificates, roster and configuration, made quickly."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from privacy.keys import Identity
from protocol.card import Card
from protocol.roster import Roster
from protocol.signing import SigningKey
from server.config import Folder

HOSPITALS = ("north", "south", "east")
CONFIGS = Path(__file__).parents[2] / "configs"


def found(base: Path, *, port: int = 0, **config: object) -> Folder:
    """A folder as `fedward server init` and `enrol` leave it, with three hospitals' keys beside.

    Args:
        base: An empty folder.
        port: Where the SuperLink will listen; 0 for one that is free now.
        config: Further keys of server.yaml.
    """
    folder = lay_out(base, port, config)
    key = SigningKey.generate()
    key.save(folder.signing_key)
    certify(folder)
    cards = tuple(Identity.create(base / "hospitals" / name, name).card() for name in HOSPITALS)
    write_roster(folder, key, cards)
    return folder


def settle(base: Path, key: SigningKey, roster: Roster) -> Folder:
    """The folder of a coordinator that has a key and a roster, and needs no certificate."""
    folder = lay_out(base, 0, {"address": roster.address})
    key.save(folder.signing_key)
    folder.roster.write_bytes(roster.sign(key))
    return folder


def lay_out(base: Path, port: int, config: Mapping[str, object]) -> Folder:
    """The configuration and empty folders; hospitals are not waited for long."""
    address = f"127.0.0.1:{port or free_port()}"
    (base / "server.yaml").write_text(
        yaml.safe_dump({"address": address, "bind": address, "patience_s": 0.5, **config})
    )
    folder = Folder.open(base / "server.yaml")
    for path in (folder.signing_key, folder.certificate, folder.jobs / "x"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    return folder


def write_roster(folder: Folder, key: SigningKey, cards: tuple[Card, ...], number: int = 1) -> None:
    """Sign a roster of these cards."""
    roster = Roster(
        version=1,
        sequence=number,
        coordinator=key.public,
        address=folder.config.address,
        members=cards,
        ca=folder.ca.read_text(),
    )
    folder.roster.write_bytes(roster.sign(key))


def write_job(path: Path, **changes: object) -> Path:
    """A job for the three hospitals: the one that `fedward new job` writes."""
    document = yaml.safe_load((CONFIGS / "jobs" / "template.yaml").read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**document, **changes}), encoding="utf-8")
    return path


def certify(folder: Folder, *, days: int = 30) -> None:
    """A private authority and a server certificate for this machine."""
    authority = ec.generate_private_key(ec.SECP384R1())
    server = ec.generate_private_key(ec.SECP384R1())
    root = _build("Test authority", authority, authority, "Test authority", days, authority_of=True)
    leaf = _build("Test coordinator", server, authority, "Test authority", days)
    folder.ca.write_bytes(root.public_bytes(Encoding.PEM))
    folder.certificate.write_bytes(leaf.public_bytes(Encoding.PEM))
    for path, key in ((folder.ca_key, authority), (folder.certificate_key, server)):
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)


def _build(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: str,
    days: int,
    *,
    authority_of: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=abs(days) + 1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority_of, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA384())
    )


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
