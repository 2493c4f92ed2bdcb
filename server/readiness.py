"""What must be right before a coordinator starts: keys, roster, certificates, port, disk.

Each check says what is wrong and what to do, so that nothing is found out from a SuperLink's log.
"""

from __future__ import annotations

import ipaddress
import shutil
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from protocol.errors import InputError
from protocol.keyfile import load_secret
from protocol.roster import Roster, split_address
from server.config import Folder, ServerConfig

RENEW_BEFORE = timedelta(days=30)
LEAST_DISK_BYTES = 200 * 2**20
LITTLE_DISK_BYTES = 2 * 2**30
_LOOPBACK = "127.0.0.1"
_LOOK_S = 0.2


def check_ready(folder: Folder, now: datetime) -> tuple[str, ...]:
    """Check everything that a coordinator needs but the port.

    Args:
        folder: The coordinator's folder.
        now: Present time with a time zone.

    Returns:
        Warnings: what works now and should be looked after.

    Raises:
        InputError: Something is missing or wrong.
        IntegrityError: The roster is not this coordinator's.
    """
    roster = folder.load_roster(folder.load_key().fingerprint)
    warnings = (*check_certificates(folder, now), *check_disk(folder))
    check_roster(folder, roster)
    return warnings


def check_roster(folder: Folder, roster: Roster) -> None:
    """Refuse a roster that sends hospitals elsewhere.

    Raises:
        InputError: It names another address than the configuration.
    """
    if roster.address != folder.config.address:
        raise InputError(
            f"{folder.roster}: another address than {folder.file.name}",
            expected=folder.config.address,
            found=roster.address,
            remedy="sign a new edition of the roster, or change the configuration back",
        )
    if roster.ca and roster.ca.strip() != folder.ca.read_text("ascii", "replace").strip():
        raise InputError(
            f"{folder.ca}: not the authority that the roster names",
            remedy="hospitals believe the roster's; put that one back, or sign a new edition",
        )


def check_certificates(folder: Folder, now: datetime) -> tuple[str, ...]:
    """Check that hospitals, and this machine, will believe the SuperLink.

    Returns:
        Warnings of certificates that end soon.

    Raises:
        InputError: A file is missing, does not fit the others, or is not valid now.
    """
    authority, server = _certificate(folder.ca), _certificate(folder.certificate)
    if _public(_key(folder.certificate_key)) != _public(server.public_key()):
        raise InputError(f"{folder.certificate_key}: not the key of {folder.certificate.name}")
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise InputError(
            f"{folder.certificate}: not issued by {folder.ca.name}",
            remedy="hospitals believe the authority in their roster and no other",
        ) from None
    for host in (_LOOPBACK, split_address(folder.config.address)[0]):
        _check_name(folder.certificate, server, host)
    found = ((folder.ca, authority), (folder.certificate, server))
    return tuple(warning for path, made in found for warning in _check_period(path, made, now))


def check_disk(folder: Folder) -> tuple[str, ...]:
    """Check that there is room for a job's files.

    Returns:
        A warning where little is left.

    Raises:
        InputError: The disk is full.
    """
    free = shutil.disk_usage(folder.file.parent).free
    if free < LEAST_DISK_BYTES:
        raise InputError(
            f"{folder.file.parent}: the disk is full",
            expected=f"{LEAST_DISK_BYTES >> 20} MiB free",
            found=f"{free >> 20} MiB",
            remedy="free some space; jobs go on where they stood",
        )
    if free < LITTLE_DISK_BYTES:
        return (f"{folder.file.parent}: only {free >> 20} MiB are left on the disk",)
    return ()


def check_port(config: ServerConfig, *, wait_s: float = 0.0) -> None:
    """Refuse a port that somebody listens on.

    Args:
        config: Says where the SuperLink listens.
        wait_s: How long to wait for a SuperLink whose coordinator was killed to notice it.

    Raises:
        InputError: The address cannot be bound.
    """
    end = time.monotonic() + wait_s
    while (found := _try_port(config)) is not None:
        if time.monotonic() >= end:
            raise InputError(
                f"bind: {config.bind} cannot be listened on",
                found=found,
                remedy="stop what listens there, or choose another port",
            )
        time.sleep(_LOOK_S)


def _try_port(config: ServerConfig) -> str | None:
    """Why a port cannot be listened on, None if it can."""
    host, port = config.listens
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        return error.strerror
    return None


def _check_name(path: Path, certificate: x509.Certificate, host: str) -> None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = names.get_values_for_type(x509.IPAddress)
        known = host in names.get_values_for_type(x509.DNSName)
        known = known or ipaddress.ip_address(host) in addresses
    except (x509.ExtensionNotFound, ValueError):
        known = False
    if not known:
        raise InputError(
            f"{path}: does not name {host}",
            expected=f"{host} among its alternative names",
            remedy="renew the server's certificate with all of its names",
        )


def _check_period(path: Path, certificate: x509.Certificate, now: datetime) -> tuple[str, ...]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now < end:
        raise InputError(
            f"{path}: not valid now",
            expected=f"a time from {begin:%Y-%m-%d} to {end:%Y-%m-%d}",
            found=f"{now:%Y-%m-%d %H:%M} UTC on this machine's clock",
            remedy="renew the certificate, or set the clock right",
        )
    if end - now < RENEW_BEFORE:
        return (f"{path}: ends on {end:%Y-%m-%d}; renew it before",)
    return ()


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read", found=error.strerror) from None
    except ValueError:
        raise InputError(f"{path}: no certificate", expected="X.509 in PEM") from None


def _key(path: Path) -> PublicKeyTypes:
    try:
        return load_pem_private_key(load_secret(path), password=None).public_key()
    except (ValueError, TypeError):
        raise InputError(f"{path}: no private key", expected="PEM without a password") from None


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
