"""The SuperLink's process: Flower's server, behind a secret that each start draws anew.

Flower's program would serve the Control API to whoever reaches the port, and start a process with
the code of any run. Here both APIs that act for the coordinator ask for the secret, and the
SuperLink starts nothing: `server.runs` does.

Source: `flwr.superlink.cli.flower_superlink` of Flower 1.41, whose settings are repeated here.
"""

from __future__ import annotations

import hmac
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from flwr.common.constant import (
    ACCESS_TOKEN_KEY,
    ISOLATION_MODE_PROCESS,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    TRANSPORT_TYPE_GRPC_RERE,
)
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.auth.typing import (
    AccountAuthCredentials,
    AccountAuthLoginDetails,
    AccountInfo,
)
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

from protocol.keyfile import load_secret
from server.config import ENVIRONMENT, Folder


class Guard(ControlAuthnPlugin):
    """Lets in whoever knows the secret, as the one account that Flower has without accounts.

    Args:
        secret: What a request must carry.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, AccountInfo | None]:
        """Whether a request carries the secret, and for whom it speaks then."""
        given = str(dict(metadata).get(ACCESS_TOKEN_KEY, "")).encode()
        if not hmac.compare_digest(given, self._secret):
            return False, None
        return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

    def get_login_details(self) -> AccountAuthLoginDetails | None:
        """Nobody logs in."""
        return None

    def get_auth_tokens(self, device_code: str) -> AccountAuthCredentials | None:
        """Nobody logs in."""
        del device_code
        return None

    def refresh_tokens(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[Sequence[tuple[str, str | bytes]] | None, AccountInfo | None]:
        """Nobody logs in."""
        del metadata
        return None, None


def settings(folder: Folder) -> SuperLinkLifespanConfig:
    """What Flower is told.

    Raises:
        InputError: The secret cannot be read, or others may read it.
    """
    host, port = folder.config.listens
    secret = load_secret(folder.superlink_secret)
    files = (folder.ca, folder.certificate, folder.certificate_key)
    ca, certificate, key = (path.read_bytes() for path in files)
    return SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=host,
        port=port,
        insecure=False,
        certificates=(ca, certificate, key),
        superexec_auth_secret=secret,
        authn_plugin=Guard(secret),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=str(folder.ca),
        ssl_certfile=str(folder.certificate),
        ssl_keyfile=str(folder.certificate_key),
        database=str(folder.state / "superlink.sqlite"),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )


def main() -> None:
    """Serve until told to end, or until the parent, whose number is the argument, is gone."""
    start_parent_process_monitor(int(sys.argv[1]))
    config = settings(Folder.open(Path(os.environ[ENVIRONMENT])))
    uvicorn.run(
        app=create_app(config, SuperLinkLifespan),
        host=config.host,
        port=config.port,
        # Otherwise every request is a line in the log.
        log_config=get_uvicorn_log_config(logging.WARNING),
        ssl_certfile=config.ssl_certfile,
        ssl_keyfile=config.ssl_keyfile,
        workers=1,
    )


if __name__ == "__main__":
    main()
