"""`fedward server deliver`: have a finished model handed on to hospitals that lack it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from protocol.deliveries import CONTEXT, VERSION, Delivery, quorum_of
from protocol.errors import Code, InputError
from protocol.jobs import Job
from protocol.roster import Roster
from server.archive import Archive
from server.config import Folder
from server.delivery_folder import DeliveryArchive
from server.delivery_view import DeliveryRecord
from server.follow import conclude, follow_delivery
from server.job_folder import JobFolder
from server.options import DEFAULT, Json, Server
from server.presence import require_present

_HOURS = 24.0
_HINTS: dict[str, str] = {
    Code.POLICY: "its policy says no: a holder names the recipient under hand_on_to, a recipient "
    "says accept_models: true and lists the task, and neither hands on what was trained without "
    "privacy",
    Code.ROSTER: "it has pinned another roster, or has not confirmed the other hospital: send it "
    "roster.json, to be trusted, and deliver again if yours has changed meanwhile",
    Code.COHORT: "too few of the holders are hospitals that it has confirmed",
    Code.SESSION: "it does not hold the model, or not as its node signed it, or got it from others",
    Code.TASK: "it cannot build such a model: the task is not installed there",
    Code.VERSION: "it runs another release",
    Code.INTEGRITY: "too few holders said the same of the model that came",
    Code.WAITING: "its administrator has not decided: fedward client jobs approve",
    Code.BUSY: "its node is paused, or its disk is full",
    Code.DEADLINE: "it did not answer in time",
}
"""What a code comes to in a delivery, for the coordinator's administrator."""


def deliver(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="The finished job that made it: name, folder, or first digits of its digest.",
        ),
    ],
    *,
    to: Annotated[
        list[str], typer.Option("--to", metavar="HOSPITAL", help="Who gets it; may be repeated.")
    ],
    hours: Annotated[
        float, typer.Option("--hours", min=0.01, max=720, help="How long it may take.")
    ] = _HOURS,
    server: Server = DEFAULT,
    as_json: Json = False,
) -> None:
    """Have a finished model handed on to a hospital that did not train it, or was lost.

    The hospitals that hold the model seal it to keys that the recipient makes for this delivery, so
    that it passes through the coordinator unread. The recipient believes it only if enough holders
    sign that theirs is the same: one more than may collude by the job's colluding_sites, and at
    least two, all connected at the same time.

    Hospitals decide: holders name the recipient under policy.hand_on_to, recipients say
    policy.accept_models: true; where a node's approval is manual, the delivery waits for
    `fedward client jobs approve`. A model of mode none is never handed on. At the recipient it is a
    version like any other, in use only after `fedward client models promote`.

    Asking again is harmless: who has the model stores no second version. Ctrl-C leaves the delivery
    alone. The exit code is 0 if every recipient has the model, 1 if not, 2 if it cannot be asked.
    """
    folder = Folder.open(server)
    key = folder.load_key()
    roster = folder.load_roster(key.fingerprint)
    kept = completed(Archive(folder.jobs), model)
    delivery = planned(
        kept.job, roster, tuple(dict.fromkeys(to)), key.fingerprint, timedelta(hours=hours)
    )
    require_present(folder)
    made = DeliveryArchive(folder).create(delivery, key.sign(CONTEXT, delivery.to_bytes()))
    console = Console(quiet=as_json)
    console.print(f"Delivering {made.title}, kept as {made.path.name}", soft_wrap=True)
    record = follow_delivery(folder, made, console)
    conclude(console, record, as_json=as_json, hints=_HINTS, last=_next_step(record))


def completed(archive: Archive, wanted: str) -> JobFolder:
    """The completed job that somebody means; of jobs of one name, the one that was completed.

    Raises:
        InputError: There is none, or more than one, or it was not completed.
    """
    named = [one for one in archive.jobs() if one.job.name == wanted and _is_completed(one)]
    kept = named[0] if len(named) == 1 else archive.find(wanted)
    if not _is_completed(kept):
        status = "one that is under way" if kept.outcome is None else kept.outcome.status
        raise InputError(
            f"job {kept.job.name!r} has no model", expected="one that was completed", found=status
        )
    return kept


def planned(
    job: Job, roster: Roster, recipients: tuple[str, ...], coordinator: str, valid: timedelta
) -> Delivery:
    """The delivery of a job's model: all hospitals of the job are asked that do not get it.

    Args:
        job: A completed job.
        roster: Today's roster.
        recipients: Who gets the model.
        coordinator: Fingerprint of the coordinator.
        valid: Until when.

    Raises:
        InputError: A recipient is not in the roster, the job had no privacy, or too few hospitals
            of the job are left to vouch for the model.
    """
    for name in recipients:
        roster.card(name)
    if job.privacy.mode == "none":
        raise InputError(
            f"the model of job {job.name!r} is not handed on",
            expected="a job of mode distributed or local",
            found="mode none, in which nothing bounds what the model tells of a patient",
        )
    members = {card.name for card in roster.members}
    asked = (site.name for site in job.sites)
    holders = tuple(one for one in asked if one in members and one not in recipients)
    needed = quorum_of(job)
    if len(holders) < needed:
        raise InputError(
            f"nobody could believe the model of job {job.name!r}",
            expected=f"{needed} hospitals of the job that vouch for it"
            f" (colluding_sites: {job.privacy.colluding_sites})",
            found=f"{len(holders)} in the roster beside the recipients",
            remedy="deliver to fewer hospitals at once, or hand it on by yourselves: one that holds"
            " it exports it with 'fedward client models export', and the other serves it with that"
            " hospital among the signers",
        )
    now = datetime.now(UTC)
    return Delivery(
        version=VERSION,
        name=job.name,
        nonce=secrets.token_hex(16),
        created=now.isoformat(timespec="seconds"),
        expires=(now + valid).isoformat(timespec="seconds"),
        coordinator=coordinator,
        roster=roster.digest,
        job=job.digest,
        holders=holders,
        recipients=recipients,
        timeout_s=job.timeout_s,
    )


def _is_completed(kept: JobFolder) -> bool:
    return kept.outcome is not None and kept.outcome.status == "completed"


def _next_step(record: DeliveryRecord) -> str:
    if not record.received:
        return ""
    return (
        f"In the store of {', '.join(record.received)}; in use there after: fedward client "
        f"models promote CONFIG {record.name}"
    )
