"""What an administrator writes about serving; relative paths are relative to the file."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

from protocol.errors import InputError

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:\s]+):([0-9]{1,5})")
_REFERENCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[1-9][0-9]{0,8})?")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """Certificate of the server, and of whom it lets in.

    Args:
        certificate: The server's certificate chain (PEM).
        key: Its secret key (PEM).
        clients: Certificates that clients' certificates must descend from (PEM); None to ask for
            none.
    """

    certificate: Path
    key: Path
    clients: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be asked.

    Args:
        request_mb: Largest request, unpacked.
        rows: Most rows in a request.
        concurrent: Requests under way at a time.
        per_second: Requests a second of one client.
        deadline_s: Longest time that an answer may take.
        drain_s: How long requests under way may go on after the server was told to end.
    """

    request_mb: float = 16.0
    rows: int = 4096
    concurrent: int = 64
    per_second: float = 1000.0
    deadline_s: float = 10.0
    drain_s: float = 20.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise InputError(name, expected="above 0", found=str(value))

    @property
    def request_bytes(self) -> int:
        """Largest request."""
        return int(self.request_mb * 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Rows that were asked, kept for jobs over them; they are patients' data.

    Args:
        folder: Where, in a folder for each version; readable by the owner alone.
        rows: Most rows of a version; the oldest make room.
        days: How long a row stays, and at most an hour more.
    """

    folder: Path = Path("asked")
    rows: int = 100_000
    days: float = 30.0

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= 10_000_000:
            raise InputError("keep.rows", expected="1 to 10000000", found=str(self.rows))
        if not 0 < self.days <= 3660:
            raise InputError("keep.days", expected="above 0, at most 3660", found=str(self.days))


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """A model that is served.

    Args:
        name: Its name in the store.
        versions: Versions that are served beside the one in use.
        explain: Whether clients may ask what moved a prediction; needs the extra `explain`.
        reference: Table of a statistics job in the same store that inputs are compared with, as
            NAME or NAME/VERSION. None for the one that the model's numbers are scaled by, and where
            there is none for the first rows.
        keep: How rows that were asked are kept; None for not at all.
    """

    name: str
    versions: tuple[int, ...] = ()
    explain: bool = False
    reference: str | None = None
    keep: Keeping | None = None

    def __post_init__(self) -> None:
        if self.reference is not None and not _REFERENCE.fullmatch(self.reference):
            raise InputError(
                f"reference of model {self.name!r}",
                expected="NAME or NAME/VERSION of a table in the store",
                found=repr(self.reference),
            )


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """What is watched of inputs and predictions.

    Args:
        folder: Where sums are kept over a restart.
        reference_rows: The first rows of a version, which later ones are compared with where no
            table is the reference.
        window_rows: Last rows that are compared with them.
        psi: Stability index of a column above which it drifts, if it is beyond chance, too.
        gap: Difference of predicted and observed shares above which it is an alert, likewise.
    """

    folder: Path = Path("monitoring")
    reference_rows: int = 1000
    window_rows: int = 1000
    psi: float = 0.2
    gap: float = 0.05

    def __post_init__(self) -> None:
        # Of fewer a row would show: ten are told at a time, and a window is forgotten by halves.
        for name, least in (("reference_rows", 10), ("window_rows", 20)):
            if not least <= getattr(self, name) <= 1_000_000:
                raise InputError(f"monitoring.{name}", expected=f"{least} to 1000000")
        for name in ("psi", "gap"):
            if getattr(self, name) <= 0:
                raise InputError(f"monitoring.{name}", expected="above 0")


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """A server's configuration file.

    Args:
        store: Folder of finished models, as in the hospital's configuration.
        signers: Fingerprints of the keys whose models are served: this hospital's own.
        models: What is served.
        rest: Address of the REST server, port 0 for any free one; None for no such server.
        grpc: The same of the gRPC server.
        tls: Certificate and key; required beyond this machine.
        tokens: File of bearer tokens; this or `tls.clients` is required beyond this machine.
        limits: How much may be asked.
        refresh_s: How often to look whether another version was promoted.
        monitoring: What is watched.
    """

    store: Path
    signers: tuple[str, ...]
    models: tuple[ServedModel, ...]
    rest: str | None = "127.0.0.1:8080"
    grpc: str | None = "127.0.0.1:8081"
    tls: Tls | None = None
    tokens: Path | None = None
    limits: Limits = field(default_factory=Limits)
    refresh_s: float = 0.5
    monitoring: Monitoring = field(default_factory=Monitoring)

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if not names or len(set(names)) < len(names):
            raise InputError("models", expected="one or more, each named once")
        if not self.signers or not all(map(_FINGERPRINT.fullmatch, self.signers)):
            raise InputError(
                "signers",
                expected="fingerprints of 64 hexadecimal digits",
                remedy="`fedward client models verify` prints the hospital's own",
            )
        if not 0.05 <= self.refresh_s <= 3600:
            raise InputError("refresh_s", expected="from 0.05 to 3600", found=str(self.refresh_s))
        addresses = [one for one in (self.rest, self.grpc) if one is not None]
        if not addresses:
            raise InputError("rest and grpc", expected="at least one address")
        for address in addresses:
            self._check(address)

    def _check(self, address: str) -> None:
        """Nothing but this machine reaches a server that does not know who asks."""
        host, _ = split_address(address)
        if is_loopback(host):
            return
        if self.tls is None or (self.tokens is None and self.tls.clients is None):
            raise InputError(
                f"address {address} is open to other machines",
                expected="tls, and either tokens or tls.clients",
                remedy="add them, or bind 127.0.0.1",
            )


def split_address(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        InputError: It is no address.

    >>> split_address("[::1]:8080")
    ('::1', 8080)
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise InputError("an address", expected="HOST:PORT", found=repr(address))
    return match[1].strip("[]"), int(match[2])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of names, only `localhost` surely.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
