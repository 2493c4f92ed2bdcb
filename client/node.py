"""A hospital's node: the process behind `fedward client up`.

    fedward client up          this process: Flower's local interface, refusals, status, log
    ├── flower-supernode       speaks TLS with the coordinator; keeps no key but the transport's
    └── zygote                 imports, forks, computes nothing
        └── one worker a job   opens the hospital, holds the job's keys, answers

Each of them is started by exec and ends with this process, however that ends.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client.children import ZYGOTE, Nursery
from client.hospital import JOURNAL_WAIT_S, HospitalConfig
from client.node_config import NodeConfig
from client.node_log import logging_to
from client.node_state import StateFolder
from client.stopping import Stop, signals
from client.supernode import Link, SuperNode
from client.supervisor import POLL_S, Desk, Supervisor
from client.watched import Files, dismiss_outdated
from learning.pretrained import ENVIRONMENT as PRETRAINED
from protocol.config import read
from protocol.errors import BusyError, FedwardError, InputError
from protocol.journal import Journal
from protocol.roster import Roster, Trust, load_pinned
from protocol.signing import SigningKey

_LOOK_S = 1.0
_LOG = logging.getLogger(__name__)
# What the children need of this process' environment; anything else may be a secret.
_KEPT = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", PRETRAINED,
)  # fmt: skip
_PROXIES = ("https_proxy", "all_proxy", "no_proxy")
_ALWAYS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    # Large messages come and go; without these the allocator keeps their memory.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def run(
    config_path: Path, *, zygote_command: Sequence[str] = ZYGOTE, stop: Stop | None = None
) -> None:
    """Be a hospital's node until a signal ends it.

    Args:
        config_path: The hospital's configuration file.
        zygote_command: Starts the zygote; a test's own opens hospitals in its own way.
        stop: In place of the signals SIGTERM and SIGINT.

    Raises:
        InputError: A file is missing or wrong, or the pinned roster leads to no coordinator.
        BusyError: A node runs on this folder already.
    """
    config_path = config_path.resolve()
    config = read(HospitalConfig, config_path)
    base, node = config_path.parent, config.node
    folder = StateFolder(base / node.state)
    with ExitStack() as stack:
        stack.enter_context(folder.locked())
        desk = stack.enter_context(_open_desk(config, base, folder))
        link = _link(desk.roster, base / config.keys, folder, node)
        stack.enter_context(logging_to(folder.logs, size_mb=node.log_mb, kept=node.log_files))
        if stop is None:
            stop = stack.enter_context(signals(float(node.stop_s)))
        # This process speaks to its own SuperNode, never through a proxy, and tells the coordinator
        # of a dead one, through the hospital's.
        os.environ.update(_ways(node, os.environ))
        supernode = SuperNode(link)
        stack.callback(supernode.close)
        nursery = Nursery(
            config_path,
            node.limits,
            command=zygote_command,
            environment={**link.environment, **_threads(node)},
        )
        stack.callback(nursery.close)
        pinned = Files(base / config.trust, base / config.roster)
        _Node(desk, supernode, nursery, stop, pinned).run()


def environment(node: NodeConfig, folder: Path, own: Mapping[str, str]) -> dict[str, str]:
    """The environment of the node's children.

    Args:
        node: The section `node`.
        folder: The state folder.
        own: The environment that this process was started with.
    """
    kept = {name: own[name] for name in _KEPT if name in own}
    return {**kept, **_ALWAYS, **_ways(node, own), "FLWR_HOME": str(folder / "flwr")}


def _ways(node: NodeConfig, own: Mapping[str, str]) -> dict[str, str]:
    """The ways out, as `client.dialling.proxy_for` finds them; never to this machine itself.

    In both spellings, since who finds two of them may follow either.
    """
    found = {name.lower(): own[name] for name in own if name.lower() in _PROXIES and own[name]}
    if node.proxy is not None:
        found = {"https_proxy": node.proxy}
    spared = f"127.0.0.1,localhost,{found.get('no_proxy', '')}".rstrip(",")
    ways = {**found, "no_proxy": spared}
    return {**ways, **{name.upper(): value for name, value in ways.items()}}


def _threads(node: NodeConfig) -> dict[str, str]:
    count = str(node.limits.threads)
    return {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}


def _link(roster: Roster, keys: Path, folder: StateFolder, node: NodeConfig) -> Link:
    if not roster.ca:
        raise InputError(
            "the pinned roster names no certificate authority",
            remedy="ask the coordinator for a roster of a real consortium, and pin it",
        )
    return Link(
        address=roster.address,
        ca=roster.ca,
        key=keys / "node.key",
        folder=folder.path,
        port=node.runtime_port,
        environment={
            **environment(node, folder.path, os.environ),
            # At this level Flower says that a connection was lost; most lines are dropped.
            "FLWR_LOG_LEVEL": "DEBUG",
        },
    )


@contextmanager
def _open_desk(config: HospitalConfig, base: Path, folder: StateFolder) -> Iterator[Desk]:
    key = SigningKey.load(base / config.keys / "signing.key")
    roster = load_pinned(base / config.roster, Trust.load(base / config.trust))
    with Journal.open(base / config.journal, key, wait_s=JOURNAL_WAIT_S) as journal:
        yield Desk(
            name=config.name,
            config=config.node,
            key=key,
            roster=roster,
            journal=journal,
            folder=folder,
        )


class _Node:
    """The loop, and what it says of itself."""

    def __init__(
        self, desk: Desk, supernode: SuperNode, nursery: Nursery, stop: Stop, pinned: Files
    ) -> None:
        self._desk = desk
        self._supernode = supernode
        self._nursery = nursery
        self._stop = stop
        self._pinned = pinned
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._shown: dict[str, Any] = {}
        self._supervisor = Supervisor(
            desk, nursery, stopping=lambda: stop.impatient, report=self._report
        )

    def run(self) -> None:
        """Answer tasks until told to stop, then let the last reply leave."""
        _LOG.info("node started", extra={"hospital": self._desk.name, "version": _version()})
        self._nursery.start()
        looked = 0.0
        while not self._stop.told:
            self._supernode.keep_running()
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                self._supervisor.dismiss_left()
                self._report()
            if dismiss_outdated(self._pinned, self._nursery):
                _LOG.info("roster or confirmations changed: jobs go on with them")
            if not self._poll():
                self._stop.wait(POLL_S)
        _LOG.info("node stops")
        self._supernode.wait_sent()
        self._report()

    def _poll(self) -> bool:
        runtime = self._supernode.runtime
        if runtime is None:
            return False
        try:
            answered = self._supervisor.poll(runtime)
        except BusyError as error:
            _LOG.debug("%s", error)
            return False
        if answered:
            self._supernode.note_reply()
        return answered

    def _report(self) -> None:
        """Write the status where it changed."""
        activity = self._supervisor.activity
        status = {
            "hospital": self._desk.name,
            "coordinator": self._desk.roster.address,
            "version": _version(),
            "pid": os.getpid(),
            "since": self._since,
            "connected": self._supernode.connected,
            "node": self._supernode.node,
            "supernode": {"pid": self._supernode.pid, "starts": self._supernode.starts},
            "answered": activity.answered,
            "last_error": activity.last_error,
            "jobs": {digest: asdict(job) for digest, job in activity.jobs.items()},
            "processes": self._nursery.pids,
        }
        if status == self._shown:
            return
        try:
            self._desk.folder.save_status(status)
        except FedwardError as error:
            # A full disk is no reason to end; what is to be said stays to be said.
            _LOG.debug("%s", error)
        else:
            self._shown = status


def _version() -> str:
    return version("fedward")
