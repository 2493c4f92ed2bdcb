"""The consortium's own authority and the certificate of its one server.

The authority is for one host and nothing else: its certificate constrains the names for which it
vouches, so a hospital that trusts it trusts it with this connection only. Hospitals get it with
the signed roster and never put it into their systems' stores.

Source: RFC 5280, sections 4.2.1.9 (basic constraints) and 4.2.1.10 (name constraints).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.errors import InputError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
# A hospital's clock may be behind.
_EARLIER = timedelta(days=1)
# The coordinator's own programs dial the SuperLink on this machine.
_LOCAL_NAMES = ("localhost",)
_LOCAL_ADDRESSES = ("127.0.0.1", "::1")

_USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


@dataclass(frozen=True)
class Issued:
    """A certificate and its secret key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


def new_key_pem() -> bytes:
    """A new P-384 key in PEM (PKCS #8), for a file of mode 0600. Never log it."""
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(data: bytes, where: str) -> ec.EllipticCurvePrivateKey:
    """Read a key's PEM.

    Raises:
        InputError: It is no elliptic-curve key without a password.
    """
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{where}: not an elliptic-curve key", expected="PKCS #8, no password")
    return key


def load_certificate(data: bytes, where: str) -> x509.Certificate:
    """Read a certificate's PEM.

    Raises:
        InputError: It is no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError:
        raise InputError(f"{where}: not a certificate", expected="PEM") from None


def make_authority(host: str, now: datetime, key: ec.EllipticCurvePrivateKey) -> Issued:
    """The certificate of an authority that vouches for one host, and for this machine's own names.

    Args:
        host: The coordinator's public host name or address.
        now: Present time with a time zone.
        key: The authority's key.
    """
    names = [x509.DNSName(name) for name in _LOCAL_NAMES]
    networks = [x509.IPAddress(ipaddress.ip_network(text)) for text in _LOCAL_ADDRESSES]
    address = _address(host)
    if address is None:
        names.insert(0, x509.DNSName(host))
    else:
        networks.insert(0, x509.IPAddress(ipaddress.ip_network(address)))
    subject = _name(f"Fedward consortium of {host}")
    builder = (
        _builder(subject, subject, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**{**_USAGE, "key_cert_sign": True}), critical=True)
        .add_extension(x509.NameConstraints([*names, *networks], None), critical=True)
    )
    return Issued(builder.sign(key, hashes.SHA384()), key)


def make_server(
    host: str, now: datetime, authority: Issued, key: ec.EllipticCurvePrivateKey
) -> Issued:
    """The certificate of the coordinator's server.

    Args:
        host: The coordinator's public host name or address, one that the authority vouches for.
        now: Present time with a time zone.
        authority: Who signs.
        key: The server's key.

    Raises:
        InputError: The authority is for another host, or would end before the certificate.
    """
    if host not in authority_hosts(authority.certificate):
        raise InputError(
            "the authority does not vouch for this host",
            expected=" or ".join(authority_hosts(authority.certificate)),
            found=host,
            remedy="move the folder tls away and run: fedward server init, then roster refresh",
        )
    if authority.certificate.not_valid_after_utc < now + timedelta(days=SERVER_DAYS):
        raise InputError(
            "the authority ends before a new server certificate would",
            found=f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}",
            remedy="move the folder tls away and run: fedward server init, then roster refresh",
        )
    names = [x509.DNSName(name) for name in _LOCAL_NAMES]
    addresses = [x509.IPAddress(ipaddress.ip_address(text)) for text in _LOCAL_ADDRESSES]
    address = _address(host)
    own: x509.GeneralName = x509.DNSName(host) if address is None else x509.IPAddress(address)
    alternatives = dict.fromkeys([own, *names, *addresses])
    issuer = authority.certificate
    builder = (
        _builder(_name("Fedward coordinator"), issuer.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{**_USAGE, "digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    return Issued(builder.sign(authority.key, hashes.SHA384()), key)


def authority_hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    """The hosts for which an authority vouches, the public one first."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    hosts = []
    for name in found.permitted_subtrees or ():
        value = name.value
        network = isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network)
        hosts.append(str(value.network_address) if network else str(value))
    # The public one was put first among its kind.
    return tuple(sorted(hosts, key=lambda host: host in {*_LOCAL_NAMES, *_LOCAL_ADDRESSES}))


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days until a certificate ends; negative when it has."""
    return (certificate.not_valid_after_utc - now).days


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    begin = now.replace(microsecond=0) - _EARLIER
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begin,
        not_valid_after=begin + _EARLIER + timedelta(days=days),
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
