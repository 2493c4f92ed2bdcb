"""Scaling of a job's features by what an earlier statistics job has released."""

from __future__ import annotations

from dataclasses import replace

from learning.scaling import scaled_by
from protocol.errors import InputError
from server.archive import Archive
from server.released import released
from server.requests import JobRequest


def scaled(request: JobRequest, archive: Archive) -> JobRequest:
    """The request with the released numbers in its schema, and nothing left to look up.

    Raises:
        InputError: There is no such job, its table is not here, does not fit the schema, or bears
            no noise while the request promises privacy.
    """
    if request.scaling is None:
        return request
    kept = archive.find(request.scaling.statistics)
    if kept.job.privacy.mode == "none" and request.privacy.mode != "none":
        # Its exact means would stand in the new job's text, and no epsilon would say so.
        raise InputError(
            f"the table of job {kept.job.name!r} bears no noise",
            expected=f"a table of mode distributed or local, as the job is {request.privacy.mode}",
            found="mode none",
            remedy="run the statistics job privately, or write centre and spread into the schema",
        )
    schema = scaled_by(request.schema, released(kept), kept.digest)
    return replace(request, schema=schema, scaling=None)
