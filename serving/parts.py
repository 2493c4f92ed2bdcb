"""The parts of a prediction's output, in a folder beside it, each whole or not at all.

A run that was interrupted finds there what is done; the output appears in one step at the end.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from learning.artefact import Model
from protocol.errors import BusyError, InputError
from protocol.keyfile import replace_file, sync_folder
from serving.tables import Columns, batches_of, join_parts, write_part

BATCH_ROWS = 4096
ROW = "row"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is predicted.

    Args:
        model: A verified model.
        source: Table of the records, `.csv` or `.parquet`.
        target: Where the predictions go, `.csv` or `.parquet`.
        keep: Columns that are copied beside the predictions.
        ignore: Columns that neither model nor output uses.
        rows: Rows of a batch.
    """

    model: Model
    source: Path
    target: Path
    keep: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    rows: int = BATCH_ROWS

    @property
    def problems(self) -> Path:
        """Where rows and fields stand that the model could not take as they were."""
        return self.target.with_name(f"{self.target.stem}.problems.csv")

    @property
    def parts(self) -> Path:
        """Folder of what is done so far."""
        return self.target.with_name(f".{self.target.name}.parts")


@contextmanager
def begun(job: Job) -> Iterator[list[int]]:
    """Hold the folder of parts, and say how many rows each part that is done has.

    Raises:
        InputError: The parts belong to another file or model, or cannot be written.
        BusyError: Another process holds it.
    """
    try:
        job.parts.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"{job.target}: cannot be written", found=error.strerror) from None
    lock = os.open(job.parts, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(f"{job.target}: another process is writing it") from None
        _check_same(job)
        yield _done(job)
    finally:
        os.close(lock)


def _check_same(job: Job) -> None:
    with job.source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    card = job.model.card
    stated = {
        "input": digest,
        "model": [card.label, card.digests.weights],
        "keep": list(job.keep),
        "rows": job.rows,
    }
    path, text = job.parts / "run.json", json.dumps(stated).encode()
    if path.exists() and path.read_bytes() != text:
        raise InputError(
            f"{job.parts} holds parts of another input, model or choice of columns",
            remedy=f"remove that folder to begin anew, or choose another output than {job.target}",
        )
    replace_file(path, text)


def _done(job: Job) -> list[int]:
    """Rows of each whole part; only the last of a file has fewer than a batch."""
    found: list[int] = []
    while (path := part_of(job, len(found), job.target.suffix)).exists():
        names = [ROW]
        batches = batches_of(path, names, job.rows + 1, 0) if not found else _rows_of(job, path)
        found.append(sum(len(batch[ROW]) for batch in batches))
    return found


def _rows_of(job: Job, path: Path) -> Iterator[Columns]:
    """A part behind the first, whose CSV has no header."""
    if path.suffix == ".parquet":
        yield from batches_of(path, [ROW], job.rows + 1, 0)
        return
    with path.open(encoding="utf-8", newline="") as file:
        yield {ROW: [line[0] for line in csv.reader(file)]}


def counted(job: Job, parts: int) -> Counter[tuple[str, str]]:
    """The problems of the parts that are done."""
    found: Counter[tuple[str, str]] = Counter()
    for part in range(parts):
        with part_of(job, part, ".csv", "problems-").open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))[1 if part == 0 else 0 :]
            found.update((name, problem) for _, name, problem in lines)
    return found


def part_of(job: Job, number: int, suffix: str, kind: str = "") -> Path:
    """The file of a part."""
    return job.parts / f"{kind}{number:06d}{suffix}"


def write_one(path: Path, columns: Columns, *, header: bool) -> None:
    """Write a part under another name, and give it its own once it is on the disk."""
    draft = path.with_stem(f"draft-{path.stem}")
    write_part(draft, columns, header=header)
    _settle(draft, path)


def finish(job: Job, parts: int) -> None:
    """The output and its problems, each in one step; then the parts are in nobody's way."""
    if not parts:
        shutil.rmtree(job.parts)
        raise InputError(f"{job.source}: has no rows")
    for target, kind, suffix in (
        (job.problems, "problems-", ".csv"),
        (job.target, "", job.target.suffix),
    ):
        draft = job.parts / f"whole-{kind}{suffix}"
        join_parts([part_of(job, part, suffix, kind) for part in range(parts)], draft)
        _settle(draft, target)
    shutil.rmtree(job.parts)


def _settle(draft: Path, target: Path) -> None:
    draft.chmod(0o600)
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    sync_folder(target.parent)
