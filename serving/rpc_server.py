"""Which of two servers gRPC has: the fast one where the installed grpcio is known to allow it.

Both run the same services with the same answers, and `tests/serving/test_rpc_server.py` holds both
to them. `serving.rpc_loop` uses a layer of grpcio that is not public and may change with any
release; with one that it was not tried with, grpcio's own asyncio server takes its place.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from serving.rpc_loop import LoopServer

log = logging.getLogger("fedward.serving")
# From the first release to before the second. Tried: 1.70, 1.76, 1.80 and 1.85.
_FITS = (1, 70), (1, 90)


def rpc_server(options: Sequence[tuple[str, Any]], calls: int) -> LoopServer | grpc.aio.Server:
    """A server for services, which is not started yet.

    Args:
        options: The core's, as `grpc.aio.server` takes them.
        calls: Calls at a time; those beyond are refused.
    """
    logging.getLogger("grpc._cython.cygrpc").addFilter(_unquoting)
    if fits(grpc.__version__):
        from serving.rpc_loop import LoopServer  # noqa: PLC0415 - what it imports may not exist

        return LoopServer(options, calls)
    log.warning(
        "gRPC is slower than it could be: grpcio %s is not one that was tried", grpc.__version__
    )
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=calls)


def _unquoting(record: logging.LogRecord) -> bool:
    """Whether a line of grpcio's holds no value of a client's; one holds headers, not in UTF-8."""
    return not str(record.msg).startswith("Invalid encoding")


def fits(version: str) -> bool:
    """Whether a release of grpcio is known to have what `LoopServer` uses.

    >>> fits("1.85.1"), fits("1.90.0rc1"), fits("1.62.3"), fits("2.0.0")
    (True, False, False, False)
    """
    first, before = _FITS
    major, minor = version.split(".")[:2]
    return first <= (int(major), int(minor)) < before
