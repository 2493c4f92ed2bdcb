"""Kill one process of a running federation, bring back what systemd would, and judge the job.

A person's machine restarts services that end: the node and the coordinator are started again by
the command that started them first. All else must be brought back by the program itself.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import FedwardError
from server.history import Record
from tests.end_to_end.federation import HOSPITALS, Federation, until

VICTIMS = (
    "node child", "supervisor", "SuperNode", "ServerApp", "SuperLink", "coordinator", "command",
)  # fmt: skip
NOTHING = "nothing"
HOSPITAL = HOSPITALS[0]
FIND_S = 60.0
END_S = 400.0


@dataclass(frozen=True, kw_only=True)
class Survived:
    """What became of a job in which one process was killed.

    Args:
        victim: What was killed, or `NOTHING` if the job had ended by then.
        at_s: Seconds after the launch.
        round: The round that was reached by then.
        total_s: Seconds from launch to end.
        after_s: Seconds from the kill to the end, 0 if nothing was killed.
        voids: Attempts that were lost.
        status: How the job ended, and why if it was not completed.
        agree: Whether every hospital holds one and the same model.
        ledgers: What is wrong with the ledgers, empty if nothing is.
    """

    victim: str
    at_s: float
    round: int
    total_s: float
    after_s: float
    voids: int
    status: str
    agree: bool
    ledgers: str

    @property
    def sound(self) -> bool:
        """Whether everything is as it should be."""
        return self.status == "completed" and self.agree and not self.ledgers

    def row(self) -> str:
        """One line of a table."""
        models, ledgers = "agree" if self.agree else "DIFFER", self.ledgers or "consistent"
        return (
            f"{self.victim:<12} {self.at_s:6.1f} {self.round:5} {self.after_s:9.1f}"
            f" {self.total_s:7.1f} {self.voids:5}  {self.status:<10} {models:<7} {ledgers}"
        )


HEADER = (
    f"{'killed':<12} {'at s':>6} {'round':>5} {'to end s':>9} {'total s':>7} {'voids':>5}"
    f"  {'status':<10} {'models':<7} ledgers"
)


def survive(
    place: Federation, name: str, victim: str, *, round_: int | None = None, at_s: float = 0.0
) -> Survived:
    """Run a job of four rounds and kill one process in it, unless it ends before its moment.

    Args:
        place: The federation; everything runs before and afterwards.
        name: The job's name, used once.
        victim: One of `VICTIMS`.
        round_: Kill once this round is over; None to kill by the clock.
        at_s: Seconds after the launch, where no round is given.
    """
    place.await_nodes()
    watcher = place.launch(place.job(name))
    begin = time.monotonic()
    until(lambda: _launched(place, name), FIND_S, "the job is launched")
    kept = place.kept(name)
    if round_ is None:
        moment = begin + at_s
        until(lambda: kept.outcome or time.monotonic() >= moment, END_S, "the moment is there")
    else:
        until(lambda: _round(place, name) >= round_, END_S, f"round {round_} is over")
    reached = _round(place, name)
    hit = kept.outcome is None and kill(place, name, victim)
    killed = time.monotonic()
    until(lambda: kept.outcome is not None, END_S, f"{name} has ended")
    end = time.monotonic()
    watcher.wait(FIND_S)
    record = Record.of(kept)
    held = place.models(name)
    return Survived(
        victim=victim if hit else NOTHING,
        at_s=killed - begin,
        round=reached,
        total_s=end - begin,
        after_s=end - killed if hit else 0.0,
        voids=max((event.voids for event in kept.events()), default=0),
        status=f"{record.status} {record.reason}".strip(),
        agree=list(held) == list(HOSPITALS) and len(set(held.values())) == 1,
        ledgers=check_ledgers(place),
    )


def kill(place: Federation, name: str, victim: str) -> bool:
    """Kill a process as a loss of power would, and restart it where systemd would.

    Returns:
        Whether there was something to kill.
    """
    match victim:
        case "node child":
            return _kill_once_there(place, name, lambda: _child(place, name))
        case "supervisor":
            place.nodes[HOSPITAL].kill()
            place.nodes[HOSPITAL].start()
        case "SuperNode":
            _kill(int(place.node_status(HOSPITAL)["supernode"]["pid"]))
        case "ServerApp":
            return _kill_once_there(place, name, lambda: _below(place, "server.runner"))
        case "SuperLink":
            return _kill_once_there(place, name, lambda: _below(place, "server.superlink"))
        case "coordinator":
            place.coordinator.kill()
            place.coordinator.start()
        case "command":
            place.commands[-1].kill()
        case _:
            raise ValueError(victim)
    return True


def check_ledgers(place: Federation) -> str:
    """What is wrong with the hospitals' ledgers; empty if nothing is."""
    found = []
    for name, ledger in place.ledgers().items():
        if ledger["blocked"] or not ledger["verified"]:
            found.append(f"{name} is blocked")
        for job in ledger["jobs"]:
            if job["status"] != "settled" or not job["finished"]:
                found.append(f"{name} row {job['row']} is open")
            if job["used"] < job["released"]:
                found.append(f"{name} row {job['row']} released more than it spent")
    return ", ".join(found)


def _launched(place: Federation, name: str) -> bool:
    try:
        return place.kept(name) is not None
    except FedwardError:
        return False


def _round(place: Federation, name: str) -> int:
    """The last round that is over."""
    events = place.kept(name).events()
    return max((event.round for event in events if event.kind == "round"), default=0)


def _child(place: Federation, name: str) -> int | None:
    """The job's process at one hospital."""
    pids = place.node_status(HOSPITAL)["processes"]
    found: int | None = pids.get(place.kept(name).digest)
    return found


def _kill_once_there(place: Federation, name: str, find: Callable[[], int | None]) -> bool:
    """Kill a process as soon as there is one; a job that has ended needs none any more."""
    kept = place.kept(name)
    until(lambda: find() or kept.outcome, FIND_S, "there is something to kill")
    pid = find()
    if pid is None:
        return False
    _kill(pid)
    return True


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _below(place: Federation, word: str) -> int | None:
    """A descendant of the coordinator, by a word of its command line."""
    below = _descendants(place.coordinator.pid)
    return next((child for child in below if word in _command(child)), None)


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            yield int(child)
            yield from _descendants(int(child))


def _command(pid: int) -> str:
    try:
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return data.replace(b"\0", b" ").decode(errors="replace")
