"""Two writers on one ledger, killed at random points again and again.

Run as `python -m tests.privacy.ledger_storm FOLDER KILLS`, a process of its own that may fork. A
writer notes each release in a file after the ledger has it, as a node sends bytes after that. After
each kill the chain must verify and hold every noted release under a reservation that counts it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from itertools import count, takewhile
from pathlib import Path

from privacy.ledger import Ledger
from protocol.errors import RefusalError
from tests.privacy.ledgers import BIG, KEY, NOW, charge, gaussian_delta, mu_of

SIGMA = 30.0
KILLS_PER_LEDGER = 5
LONGEST_S = 0.15


def write(path: Path, notes: Path) -> None:
    """Reserve, release, settle and void for as long as the parent lives."""
    parent = os.getppid()
    with Ledger.open(path, KEY, busy_timeout_s=30.0) as ledger, notes.open("ab", 0) as file:
        for turn in takewhile(lambda _: os.getppid() == parent, count()):
            digest = hashlib.sha256(f"{os.getpid()} {turn}".encode()).hexdigest()
            ledger.reserve([charge(int(digest, 16), 4, sigma=SIGMA)], BIG, NOW)
            for attempt in range(1, 1 + turn % 5):
                ledger.record_release(
                    job=digest, epoch=1, attempt=attempt, purpose="update", digest=digest
                )
                file.write(f"{digest} {attempt}\n".encode())
            if turn % 5 == 0:
                ledger.void(digest, NOW)
            elif turn % 5 < 4:
                ledger.settle(digest, NOW)
            else:
                with suppress(RefusalError):
                    ledger.record_release(
                        job=digest, epoch=2, attempt=5, purpose="update", digest=digest
                    )
                    file.write(f"{digest} 5\n".encode())


def start(path: Path, notes: Path) -> int:
    """Fork a writer; its process id."""
    pid = os.fork()
    if pid == 0:
        # A writer ends by a kill; anything else is a failure that `stop` sees.
        try:
            write(path, notes)
        except BaseException:  # noqa: BLE001 - the parent's frames above must not go on here
            traceback.print_exc()
        os._exit(1)
    return pid


def stop(pid: int) -> None:
    """Kill a writer and make sure that it ran until then."""
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise SystemExit("a writer failed on its own")


def check(path: Path, notes: Path) -> int:
    """Verify the chain and hold every noted release against it; the number of releases."""
    # The notes first: what is in them was recorded before they were read.
    noted = Counter(line.split()[0].decode() for line in notes.read_bytes().splitlines())
    with Ledger.open(path, None) as ledger:
        accounts = {
            account.charges["update"].job: account
            for account in ledger.jobs()
            if account.status != "void"
        }
        spent = ledger.spent(population="cardiology", partition="train", delta=1e-5)
        ledger.verify()
    for job, releases in noted.items():
        account = accounts[job]
        recorded = len(account.releases.get("update", []))
        if not recorded >= releases <= account.used["update"]:
            raise SystemExit(f"job {job} released more than the ledger counts")
    mu = mu_of([(SIGMA, noted.total())]) if noted else 0.0
    if mu and gaussian_delta(mu, spent[0]) > 0.99e-5 * (1 + 1e-6):
        raise SystemExit("more was released than the ledger says was spent")
    return noted.total()


def storm(folder: Path, kills: int) -> int:
    """Kill one of two writers, check, start another, and so on; the number of releases."""
    path, notes = folder / "ledger.sqlite", folder / "released"
    notes.touch()
    # Both may be about to create the ledger.
    writers = [start(path, notes), start(path, notes)]
    try:
        while not (path.exists() and notes.stat().st_size):
            time.sleep(0.001)
        for _ in range(kills):
            time.sleep(secrets.randbelow(1000) / 1000 * LONGEST_S)
            stop(writers.pop(secrets.randbelow(2)))
            # The other one stands still, perhaps inside a transaction, or the chain outgrows us.
            os.kill(writers[0], signal.SIGSTOP)
            check(path, notes)
            os.kill(writers[0], signal.SIGCONT)
            writers.append(start(path, notes))
    finally:
        for pid in writers:
            os.kill(pid, signal.SIGKILL)
        for pid in writers:
            stop(pid)
    return check(path, notes)


def main(folder: Path, kills: int) -> None:
    """Storm over several ledgers, so that verification stays quick."""
    releases = 0
    for number, first in enumerate(range(0, kills, KILLS_PER_LEDGER)):
        part = folder / str(number)
        part.mkdir()
        releases += storm(part, min(KILLS_PER_LEDGER, kills - first))
    sys.stdout.write(f"{kills} kills, {releases} releases\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
