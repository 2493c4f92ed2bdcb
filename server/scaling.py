"""Scaling of a job's features by what an earlier statistics job has released."""

from __future__ import annotations

from dataclasses import replace

from learning.scaling import scaled_by
from server.archive import Archive
from server.released import released
from server.requests import JobRequest


def scaled(request: JobRequest, archive: Archive) -> JobRequest:
    """The request with the released numbers in its schema, and nothing left to look up.

    Raises:
        InputError: There is no such job, its table is not here, or it does not fit the schema.
    """
    if request.scaling is None:
        return request
    kept = archive.find(request.scaling.statistics)
    schema = scaled_by(request.schema, released(kept), kept.digest)
    return replace(request, schema=schema, scaling=None)
