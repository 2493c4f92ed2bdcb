"""Kills a hospital's process at each write that is made to last, and looks at what it left.

Run as a program, so that forking meets no thread. For each synchronisation to disk that answering
one message takes, a child answers that message and kills itself there, without any clean-up. The
parent then opens the hospital from its folder and checks what must hold.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from client.store import DiskSessions
from learning.artefact import verify, versions
from protocol.jobs import Job
from protocol.journal import verify_journal
from protocol.messages import Packet
from simulations.consortium import Consortium
from tests.client.coordinator import Coordinator
from tests.client.stage import Stage
from tests.consortium import make_consortium, make_job, make_request

VICTIM = "north"
WRITES = 40
ENDED = 99
# The first step and the finish; without noise nothing is repeated.
MESSAGES = {"distributed": (1, 4), "none": (1,)}


def main(folder: Path, mode: str) -> None:
    """Kill at every write of every message; prints how often."""
    torch.set_num_threads(1)
    consortium = make_consortium(folder / "c", rows=30)
    job = make_job(consortium, make_request(rows=30, mode=mode, epsilon=100.0))  # type: ignore[arg-type]
    kills = 0
    for message in MESSAGES[mode]:
        for write in range(WRITES):
            shutil.rmtree(folder / "copy", ignore_errors=True)
            shutil.copytree(folder / "c", folder / "copy")
            copy = Consortium(**{**vars(consortium), "folder": folder / "copy"})
            status = _child(partial(_die, copy, job, message, write))
            if status == ENDED:
                break
            if status != -signal.SIGKILL:
                raise SystemExit(f"message {message}, write {write}: the child ended with {status}")
            kills += 1
            _check(copy, job)
            # What came back does its part in the rest of the job.
            if mode != "none" and _child(partial(_go_on, copy, job)) != 0:
                raise SystemExit(f"message {message}, write {write}: the job did not go on")
        else:
            raise SystemExit("more writes than expected")
    sys.stdout.write(f"{kills}\n")


def _child(act: Callable[[], None]) -> int:
    """What a forked process that does this ends with; negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a child must not go on as its parent
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _die(consortium: Consortium, job: Job, message: int, write: int) -> None:
    """Run the job up to one message, and be killed in it; `ENDED` if it takes fewer writes."""
    stage = Stage(consortium, job, disk=True)
    heard = iter(range(1000))
    real, left = os.fsync, [write]

    def fatal(descriptor: Any) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        real(descriptor)

    def watch(_: int, name: str, send: Callable[[], Packet]) -> Packet | None:
        if name != VICTIM or next(heard) != message:
            return send()
        os.fsync = fatal  # type: ignore[assignment]
        send()
        os._exit(ENDED)

    Coordinator(stage, watch).run()


def _check(consortium: Consortium, job: Job) -> None:
    """Everything on the disk holds, and the session knows of every release in the ledger."""
    with consortium.open(VICTIM) as hospital:
        hospital.ledger.verify()
        verify_journal(consortium.folder / VICTIM / "journal.jsonl", hospital.key.public)
        record = DiskSessions(consortium.folder / VICTIM / "sessions").recall(job.digest)
        account = hospital.ledger.account(job.digest)
        if account is not None and account.releases:
            if record is None or record.attempt < account.attempts:
                raise SystemExit("a release that the session does not know")
            if set(account.releases) - set(record.released):
                raise SystemExit("a purpose that the session does not know")
        for version in versions(hospital.models, job.name):
            verify(hospital.models / job.name / str(version))


def _go_on(consortium: Consortium, job: Job) -> None:
    """All are restarted, and the job comes to its one model."""
    stage = Stage(consortium, job, disk=True)
    Coordinator(stage).run()
    for name, hospital in stage.hospitals.items():
        if versions(hospital.models, job.name) != (1,):
            raise SystemExit(f"{name} has another number of models than one")
        if list(stage.folder(name).iterdir()) or list((hospital.models / job.name).glob(".*")):
            raise SystemExit(f"{name} left something behind")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
