"""`fedward server stop` and `resume`: ask for a job's end, or that it goes on at once."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Console

from protocol.errors import InputError
from protocol.lockfile import is_locked
from server.config import Folder
from server.delivery_folder import DeliveryFolder, find_either
from server.delivery_view import DeliveryRecord
from server.history import Record
from server.job_folder import JobFolder
from server.options import DEFAULT, Job, Json, Server
from server.presence import lock_of, require_present
from server.requested import request_resume

_LOOK_S = 0.2


def stop(
    job: Job,
    *,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Seconds to wait until it has ended.")
    ] = 60.0,
    server: Server = DEFAULT,
    as_json: Json = False,
) -> None:
    """End a job: hospitals settle their budgets and drop its keys. Or end a delivery.

    What has been released stays spent. Hospitals that are away keep their reservation. A job that
    was stopped cannot be resumed. A delivery is named by its folder or the first digits of its
    digest; a model that a hospital has received stays there.
    """
    folder = Folder.open(server)
    kept = _unfinished(folder, job)
    kept.request_stop()
    request_resume(folder, kept.digest)
    end = time.monotonic() + wait_s
    while kept.outcome is None and is_locked(lock_of(folder)) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    record = _record(kept)
    said = f"{record.name}: {record.status}"
    if kept.outcome is None:
        up = "when its hospitals answer" if is_locked(lock_of(folder)) else "at fedward server up"
        said = f"{record.name}: will be stopped {up}"
    _say(record, said, as_json=as_json)


def resume(job: Job, *, server: Server = DEFAULT, as_json: Json = False) -> None:
    """Let an unfinished job or delivery go on at once, where it waits after failures.

    The coordinator resumes unfinished jobs by itself, with growing pauses; this ends the pause.
    """
    folder = Folder.open(server)
    kept = _unfinished(folder, job)
    require_present(folder)
    request_resume(folder, kept.digest)
    record = _record(kept)
    where = f" from round {record.round}" if isinstance(record, Record) else ""
    _say(record, f"{record.name}: goes on{where}", as_json=as_json)


def _unfinished(folder: Folder, name: str) -> JobFolder | DeliveryFolder:
    kept = find_either(folder, name)
    if kept.outcome is not None:
        raise InputError(
            f"{kept.title} has ended",
            found=kept.outcome.status,
            remedy="launch it again with fedward run; it is a new job then, with its own budget"
            if isinstance(kept, JobFolder)
            else "deliver the model again; who has it stores no second version",
        )
    return kept


def _record(kept: JobFolder | DeliveryFolder) -> Record | DeliveryRecord:
    return DeliveryRecord.of(kept) if isinstance(kept, DeliveryFolder) else Record.of(kept)


def _say(record: Record | DeliveryRecord, line: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record.to_json()))
    else:
        Console().print(line, soft_wrap=True)
