"""`fedward server init`: what a coordinator has before there is a hospital."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from rich.console import Console

from protocol.errors import InputError
from protocol.keyfile import load_secret, replace_file, save_secret
from protocol.roster import VERSION, Roster, split_address
from protocol.signing import SigningKey, in_groups
from protocol.templates import template
from server.certificates import (
    Issued,
    load_certificate,
    load_key,
    make_authority,
    make_server,
    new_key_pem,
)
from server.config import Folder

CONFIG = "server.yaml"


def init(
    folder: Annotated[Path, typer.Argument(help="Where everything will live.")] = Path(),
    *,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where hospitals will reach the coordinator."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make what a coordinator needs: configuration, keys, certificates, an empty roster.

    What exists is kept, so the command can be repeated. Keys are made here, have mode 0600 and are
    never overwritten; the authority vouches for the host of the address and for nothing else.
    """
    found = create(folder, address, datetime.now(UTC))
    key = found.load_key()
    if as_json:
        told = {
            "config": str(found.file),
            "address": found.config.address,
            "coordinator": key.fingerprint,
        }
        typer.echo(json.dumps(told))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"Coordinator at {found.config.address}, in {found.file.parent}", markup=False)
    console.print(f"Fingerprint    {in_groups(key.fingerprint)}")
    console.print(
        "Read the fingerprint to every hospital over another channel.\n"
        "Next: fedward server enrol CARD for each hospital's card, then fedward server up"
    )


def create(folder: Path, address: str | None, now: datetime) -> Folder:
    """Make what is missing in a coordinator's folder.

    Args:
        folder: The folder; made if it is absent.
        address: Public host:port; None where the configuration exists already.
        now: Present time with a time zone.

    Raises:
        InputError: No address is known or it is another than before, something cannot be written,
            or a key file may be read by others.
    """
    found = _configured(folder, address)
    for path in (found.signing_key, found.ca):
        _make_folder(path.parent)
    if not found.signing_key.exists():
        SigningKey.generate().save(found.signing_key)
    key = found.load_key()
    host, _ = split_address(found.config.address)
    authority = kept(found.ca_key, found.ca, lambda own: make_authority(host, now, own))
    kept(
        found.certificate_key,
        found.certificate,
        lambda own: make_server(host, now, authority, own),
    )
    if not found.roster.exists():
        roster = Roster(
            version=VERSION,
            sequence=1,
            coordinator=key.public,
            address=found.config.address,
            members=(),
            ca=found.ca.read_text(),
        )
        replace_file(found.roster, roster.sign(key))
    found.load_roster(key.fingerprint)
    return found


def kept(key_path: Path, path: Path, issue: Callable[[EllipticCurvePrivateKey], Issued]) -> Issued:
    """The certificate and key of two files; what is missing of them is made.

    Raises:
        InputError: A file cannot be read or written, others may read the key, or the two do not
            belong together.
    """
    if not key_path.exists():
        if path.exists():
            raise InputError(
                f"{path}: its key is missing",
                expected=str(key_path),
                remedy="put the key back, or move the certificate away to make both anew",
            )
        save_secret(key_path, new_key_pem())
    key = load_key(load_secret(key_path), str(key_path))
    if not path.exists():
        replace_file(path, issue(key).pem)
    certificate = load_certificate(path.read_bytes(), str(path))
    if certificate.public_key() != key.public_key():
        raise InputError(f"{path}: not the certificate of {key_path.name}")
    return Issued(certificate, key)


def _configured(folder: Path, address: str | None) -> Folder:
    path = folder / CONFIG
    if not path.exists():
        if address is None:
            raise InputError(
                "the coordinator's address is not known",
                remedy="name it: fedward server init --address fedward.example.org:443",
            )
        split_address(address)
        _make_folder(folder)
        replace_file(path, template("server/example.yaml", _values(address)).encode())
    found = Folder.open(path)
    if address not in (None, found.config.address):
        raise InputError(
            f"{path}: names another address",
            expected=address,
            found=found.config.address,
            remedy="change it there, then see docs/keys.md",
        )
    return found


def _values(address: str) -> dict[str, str | None]:
    return {"address": json.dumps(address), "webhook": None}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be created", found=error.strerror) from None
