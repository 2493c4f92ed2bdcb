"""What one job may take of the machine."""

from __future__ import annotations

import resource
from dataclasses import dataclass

_MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a job may take of the machine.

    Args:
        threads: Threads that compute.
        memory_mb: Private memory. (Address space would say little: torch reserves far more.)
        disk_mb: Largest file that it may write.
        idle_s: Seconds without a message after which it ends.
    """

    threads: int
    memory_mb: int
    disk_mb: int
    idle_s: float


def apply_limits(limits: Limits) -> None:
    """Bound this process; a draw that torch makes by itself is no sibling's."""
    import torch  # noqa: PLC0415 - before a fork it is only imported

    torch.set_num_threads(limits.threads)
    torch.seed()
    _lower(resource.RLIMIT_DATA, limits.memory_mb * _MEGABYTE)
    _lower(resource.RLIMIT_FSIZE, limits.disk_mb * _MEGABYTE)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, value: int) -> None:
    """Set a limit that was not stricter before."""
    _, hard = resource.getrlimit(kind)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))
