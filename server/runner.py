"""The process of one job or delivery: it carries out the run of a token, by installed code alone.

A bundle must be exactly what this coordinator signed (`protocol.bundle.open_bundle`). It is
compared and never unpacked, installed or imported, so a run cannot bring anything that is executed.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from protocol.bundle import open_bundle
from protocol.errors import FedwardError
from server.assignment import Assignment
from server.config import ENVIRONMENT, Folder
from server.launched import carry_out

# Read without a buffer: a thread that waits in one could not be left at the end.
_INPUT = 0
_TOKEN_BYTES = 1024


def work(folder: Folder, token: str) -> None:
    """Carry out one run.

    Args:
        folder: The coordinator's folder.
        token: Of the run.

    Raises:
        FedwardError: The run is none of this coordinator's, or what it is of cannot go on now.
    """
    with Assignment(folder, token) as assignment:
        carry_out(folder, open_bundle(assignment.pull()), assignment.grid)
        assignment.finish()


def main() -> None:
    """Take the token from standard input, and end at once when nobody holds its other end."""
    token = os.read(_INPUT, _TOKEN_BYTES).decode("ascii").strip()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(Folder.open(Path(os.environ[ENVIRONMENT])), token)
    except FedwardError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("its run was ended")


def _end_with_parent() -> None:
    os.read(_INPUT, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
