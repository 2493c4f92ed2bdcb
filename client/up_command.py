"""`fedward client up`: be the hospital's node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.node import run

Config = Annotated[Path, typer.Argument(help="The hospital's configuration file.")]


def up(config: Config) -> None:
    """Run the hospital's node until it is told to end.

    The node dials out to the coordinator that the pinned roster names, over TLS, and opens no port
    that another machine could reach. It answers jobs that the pinned coordinator signed, as far as
    policy, budget and administrator allow. Ctrl-C or SIGTERM ends it after the answer under way;
    a second one ends it at once. Running jobs go on when it is started again.

    It logs to the terminal, and as JSON lines to node/logs in the configuration's folder. See how
    it stands with `fedward client status CONFIG`.
    """
    run(config)
