"""The coordinator's configuration file and what lies in the folder around it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from protocol.config import read
from protocol.errors import FedwardError, InputError
from protocol.roster import Roster, split_address
from protocol.signing import SigningKey

ENVIRONMENT = "FEDWARD_SERVER"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """A coordinator's configuration file; relative paths are relative to the file.

    Args:
        address: Where hospitals reach the coordinator, as host:port; the roster says the same.
        bind: Where the SuperLink listens on this machine, as host:port.
        shielded: Says that something else (a reverse proxy, a firewall) keeps everybody but this
            machine from the Control and Runtime APIs; without it only a loopback address is bound.
        keys: Folder of the signing key.
        tls: Folder of the certificates and their keys.
        roster: The signed roster.
        jobs: Folder with one folder for each job.
        models: Store of the models that hospitals hand over.
        state: What the running coordinator keeps: the SuperLink's database and the logs.
        webhook: URL that is told when a job or delivery ends and when a hospital is lost.
        patience_s: Seconds that a job waits for hospitals to come, or to come back.
    """

    address: str
    bind: str = "127.0.0.1:8000"
    shielded: bool = False
    keys: Path = Path("keys")
    tls: Path = Path("tls")
    roster: Path = Path("roster.json")
    jobs: Path = Path("jobs")
    models: Path = Path("models")
    state: Path = Path("state")
    webhook: str | None = None
    patience_s: float = 600.0

    def __post_init__(self) -> None:
        split_address(self.address)
        host = self.listens[0]
        if not self.shielded and not _is_loopback(host):
            raise InputError(
                "bind",
                expected="a loopback address such as 127.0.0.1:8000",
                found=f"host {host}",
                remedy="the SuperLink serves its Control and Runtime APIs on the same port, which"
                " start and stop runs for whoever knows a secret; put a proxy in front that lets"
                " only the Fleet API through (configs/deploy/nginx.conf), or say shielded: true"
                " where something else keeps them from others",
            )
        if self.webhook is not None and not _is_web_address(self.webhook):
            raise InputError("webhook", expected="a URL that begins with https:// or http://")
        if self.patience_s < 0:
            raise InputError("patience_s", expected=">= 0", found=str(self.patience_s))

    @property
    def listens(self) -> tuple[str, int]:
        """Host and port of `bind`.

        Raises:
            InputError: It is not host:port.
        """
        try:
            return split_address(self.bind)
        except InputError as error:
            raise error.at("bind") from None


@dataclass(frozen=True)
class Folder:
    """A coordinator's folder.

    Args:
        config: The configuration.
        file: The configuration file, absolute.
    """

    config: ServerConfig
    file: Path

    @classmethod
    def open(cls, file: Path) -> Folder:
        """The folder of a configuration file.

        Raises:
            InputError: The file cannot be read or is no such configuration.
        """
        return cls(read(ServerConfig, file), file.absolute())

    def path(self, relative: Path) -> Path:
        """A path of the configuration, absolute."""
        return self.file.parent / relative

    @property
    def signing_key(self) -> Path:
        """The Ed25519 key that signs jobs, rosters and messages."""
        return self.path(self.config.keys) / "signing.key"

    @property
    def ca(self) -> Path:
        """Certificate of the consortium's own authority, which hospitals get with the roster."""
        return self.path(self.config.tls) / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The authority's key; only needed to make or renew a server certificate."""
        return self.path(self.config.tls) / "ca.key"

    @property
    def certificate(self) -> Path:
        """Server certificate; its names include the public host, 127.0.0.1 and localhost."""
        return self.path(self.config.tls) / "server.pem"

    @property
    def certificate_key(self) -> Path:
        """Key of the server certificate."""
        return self.path(self.config.tls) / "server.key"

    @property
    def roster(self) -> Path:
        """The signed roster."""
        return self.path(self.config.roster)

    @property
    def jobs(self) -> Path:
        """Base folder of the archive of jobs."""
        return self.path(self.config.jobs)

    @property
    def models(self) -> Path:
        """Store of the models that hospitals hand over, as a hospital's own is."""
        return self.path(self.config.models)

    @property
    def state(self) -> Path:
        """What the running coordinator keeps."""
        return self.path(self.config.state)

    @property
    def superlink_secret(self) -> Path:
        """What the running SuperLink wants to hear from the coordinator; new with each start."""
        return self.state / "superlink.secret"

    def load_key(self) -> SigningKey:
        """The coordinator's signing key.

        Raises:
            InputError: It cannot be read, or others may read it.
        """
        return SigningKey.load(self.signing_key)

    def load_roster(self, coordinator: str) -> Roster:
        """The roster, verified as this coordinator's own.

        Args:
            coordinator: Fingerprint of the coordinator's key.

        Raises:
            InputError: The file cannot be read or holds no roster.
            IntegrityError: Another coordinator signed it, or a signature does not hold.
        """
        try:
            return Roster.verify(self.roster.read_bytes(), coordinator)
        except OSError as error:
            raise InputError(
                f"{self.roster}: cannot be read",
                found=error.strerror,
                remedy="enrol a hospital first",
            ) from None
        except FedwardError as error:
            raise error.at(str(self.roster)) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_web_address(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
