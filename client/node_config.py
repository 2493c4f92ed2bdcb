"""How a hospital's node runs: the section `node` of its configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from client.limits import Limits
from protocol.errors import InputError


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """The section `node`; every key has a default.

    Args:
        state: The node's own folder: running jobs, decisions, status and logs.
        approval: `auto` takes part in every job that policy and budget allow; `manual` asks the
            administrator about each job first.
        threads: Threads with which one job computes; 0 for all cores.
        memory_mb: Private memory of one job's process, in MiB.
        disk_mb: Largest file that a job's process may write, and the space that must be free on
            the disk of the state folder before a job begins, in MiB.
        idle_s: Seconds without a message after which a job's process ends; the job itself stays,
            and a later message starts a new process.
        stop_s: Seconds that an answer under way gets when the node is stopped.
        runtime_port: Local port between this node and Flower's; 0 for any that is free.
        proxy: The hospital's HTTP proxy, as `http://host:port`, where there is no other way out.
        log_mb: Size at which a log file is put aside, in MiB.
        log_files: How many files that were put aside are kept.
    """

    state: Path = Path("node")
    approval: Literal["auto", "manual"] = "auto"
    threads: int = 0
    memory_mb: int = 8192
    disk_mb: int = 4096
    idle_s: int = 21_600
    stop_s: int = 30
    runtime_port: int = 0
    proxy: str | None = None
    log_mb: int = 10
    log_files: int = 5

    def __post_init__(self) -> None:
        for name, least in (
            ("threads", 0),
            ("memory_mb", 1024),
            ("disk_mb", 64),
            ("idle_s", 1),
            ("stop_s", 0),
            ("log_mb", 1),
            ("log_files", 1),
        ):
            if getattr(self, name) < least:
                raise InputError(name, expected=f">= {least}", found=str(getattr(self, name)))
        if not 0 <= self.runtime_port <= 65_535:
            raise InputError("runtime_port", expected="0 to 65535", found=str(self.runtime_port))
        if self.proxy is not None and not _is_proxy(self.proxy):
            # Not shown: it may hold a password.
            raise InputError("proxy", expected="http://host:port")

    @property
    def limits(self) -> Limits:
        """What each job's process may take."""
        return Limits(
            threads=self.threads or os.cpu_count() or 1,
            memory_mb=self.memory_mb,
            disk_mb=self.disk_mb,
            idle_s=float(self.idle_s),
        )


def _is_proxy(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False
