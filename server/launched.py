"""The ServerApp of a run: it finds its job or delivery in the coordinator's folder.

What a run brings only names a job: its bytes are taken from the archive, and there must be one that
this coordinator signed. Usually `server.runner` carries a job out; where Flower's own runner does,
it imports `app`, the name that stands in every bundle.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from privacy.he.sum import SumProcess
from protocol.bundle import Signed, SignedDelivery, read_signed
from protocol.errors import InputError
from protocol.signing import SigningKey
from server.archive import Archive
from server.config import ENVIRONMENT, Folder
from server.course import Course
from server.delivering import Delivering, Handing
from server.delivery_folder import DeliveryArchive, DeliveryFolder, Handed
from server.exchange import Exchange
from server.finished import store_model
from server.job_folder import JobFolder
from server.launch import Launch, Patience
from server.presence import hold

LOCK = "lock"
POLL_S = 0.2
HANDOVER_S = 30.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the job that the run names."""
    named = os.environ.get(ENVIRONMENT, "")
    if not named:
        raise InputError(f"no {ENVIRONMENT} in the environment", remedy="use fedward server up")
    carry_out(Folder.open(Path(named)), read_signed(context.run_config), grid)


def carry_out(folder: Folder, signed: Signed, grid: Grid, *, poll_s: float = POLL_S) -> None:
    """Run one job or delivery from where it stands to its end, and keep how it ended.

    Args:
        folder: The coordinator's folder.
        signed: What the run's bundle carries.
        grid: The way to the nodes.
        poll_s: Pause between two looks for answers.

    Raises:
        InputError: There is none such in this folder.
        IntegrityError: This coordinator did not sign it.
        BusyError: Another process carries it out.
    """
    key = folder.load_key()
    signed.verify(key.public)
    kept = _find(folder, signed)
    with hold(kept.path / LOCK, wait_s=HANDOVER_S):
        if kept.outcome is not None:
            return
        exchange = Exchange(grid, poll_s=poll_s)
        if isinstance(kept, DeliveryFolder):
            kept.save_outcome(_deliver(folder, kept, key, exchange))
        else:
            _train(folder, kept, key, exchange)


def _find(folder: Folder, signed: Signed) -> JobFolder | DeliveryFolder:
    if isinstance(signed, SignedDelivery):
        return DeliveryArchive(folder).find(signed.digest)
    return Archive(folder.jobs).find(signed.digest)


def _train(folder: Folder, kept: JobFolder, key: SigningKey, exchange: Exchange) -> None:
    launch = Launch(
        job=kept.job,
        signature=kept.signature,
        key=key,
        roster=folder.load_roster(key.fingerprint),
        heads=Archive(folder.jobs).heads(),
        patience=_patience(folder.config.patience_s),
    )
    child = SumProcess() if kept.job.encryption.scheme == "bfv" else nullcontext()
    with child as sums:
        outcome = Course(launch, exchange, sums, kept).run()
    # First, and once: after the outcome nobody would come back to do it.
    store_model(folder.models, kept.job, outcome, key, datetime.now(UTC))
    kept.save_outcome(outcome)


def _deliver(folder: Folder, kept: DeliveryFolder, key: SigningKey, exchange: Exchange) -> Handed:
    try:
        job = Archive(folder.jobs).find(kept.delivery.job).job
    except InputError as error:
        # Its job's folder was taken away: no later try would find it.
        return Handed(status="failed", reason=str(error), received=(), refusals={})
    roster = folder.load_roster(key.fingerprint)
    return Delivering(Handing(kept=kept, job=job, key=key, roster=roster), exchange).run()


def _patience(wait_s: float) -> Patience:
    """How long a job waits for hospitals, as the configuration says it in one number."""
    return Patience(join_s=wait_s, rejoin_s=wait_s)
