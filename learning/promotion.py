"""Which version of a model is in use: one small file for each name, replaced in one step.

The file has the whole history, so that a rollback knows where to and a later reader knows what was
served when. A version's number is never given twice, even when the newest version was removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from learning.artefact import INCOMING, versions
from protocol.config import parse
from protocol.errors import InputError, IntegrityError
from protocol.keyfile import replace_file, sync_folder

RECORD = "promotion.json"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One decision about which version is in use.

    Args:
        kind: `promote`, or `rollback` to what was in use before.
        version: The version in use from then on.
        time: RFC 3339 time.
    """

    kind: Literal["promote", "rollback"]
    version: int
    time: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was decided about a model's versions.

    Args:
        history: Every decision, oldest first.
        highest: The highest version that was ever removed.

    >>> one, two = (Change(kind="promote", version=v, time="") for v in (1, 2))
    >>> Record(history=(one, two)).past
    (1, 2)
    >>> Record(history=(one, two, Change(kind="rollback", version=1, time=""))).past
    (1,)
    """

    history: tuple[Change, ...] = ()
    highest: int = 0

    @property
    def past(self) -> tuple[int, ...]:
        """Versions in the order of their promotion, without what was rolled back; last: in use."""
        past: list[int] = []
        for change in self.history:
            if change.kind == "rollback":
                del past[len(past) - past[::-1].index(change.version) :]
            else:
                past.append(change.version)
        return tuple(past)

    @property
    def promoted(self) -> int | None:
        """The version in use, None if none was promoted."""
        return self.history[-1].version if self.history else None


def load_record(store: Path, name: str) -> Record:
    """What was decided about a model; an empty record if nothing was.

    Raises:
        IntegrityError: The file is no such record.
    """
    path = store / name / RECORD
    try:
        record = parse(Record, json.loads(path.read_bytes()), "record")
        _ = record.past
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, InputError) as error:
        raise IntegrityError(
            f"{path}: no record of promotions", remedy="remove it and promote a version again"
        ) from error
    return record


def next_version(store: Path, name: str) -> int:
    """The number of the next version of a model."""
    return max((load_record(store, name).highest, *versions(store, name))) + 1


def promote(store: Path, name: str, version: int, now: datetime) -> Record:
    """Put a version into use; nothing changes where it is in use already.

    Raises:
        InputError: There is no such version. Whether it is whole is the caller's to verify.
    """
    with _held(store, name):
        record = load_record(store, name)
        _require(store, name, version)
        if record.promoted == version:
            return record
        return _changed(store, name, record, "promote", version, now)


def rollback(store: Path, name: str, now: datetime) -> Record:
    """Put the version into use again that was in use before and still exists.

    Raises:
        InputError: No version was in use before.
    """
    with _held(store, name):
        record = load_record(store, name)
        there = set(versions(store, name)) - {record.promoted}
        for version in reversed(record.past[:-1]):
            if version in there:
                return _changed(store, name, record, "rollback", version, now)
    raise InputError(
        f"model {name}: no version was in use before", remedy="promote one of its versions"
    )


def remove(store: Path, name: str, chosen: Sequence[int]) -> None:
    """Delete versions; each is gone whole or there whole.

    Raises:
        InputError: There is no such version, or it is in use.
    """
    with _held(store, name):
        record = load_record(store, name)
        for version in chosen:
            _require(store, name, version)
            if version == record.promoted:
                raise InputError(
                    f"model {name}/{version} is in use", remedy="promote another version first"
                )
        highest = max((record.highest, *versions(store, name)))
        _save(store, name, replace(record, highest=highest))
        for version in chosen:
            # Under this name `clear_stale` finishes what a crash interrupts.
            leaving = Path(tempfile.mkdtemp(prefix=INCOMING, dir=store / name))
            (store / name / str(version)).rename(leaving / str(version))
            sync_folder(store / name)
            shutil.rmtree(leaving)


def superseded(store: Path, name: str, keep: int) -> tuple[int, ...]:
    """Versions that retention would remove: all but the newest `keep` and the one in use."""
    promoted = load_record(store, name).promoted
    older = versions(store, name)[: -keep or None]
    return tuple(version for version in older if version != promoted)


def _require(store: Path, name: str, version: int) -> None:
    there = versions(store, name)
    if version not in there:
        raise InputError(
            f"model {name}/{version} is not in the store",
            expected="one of " + (", ".join(map(str, there)) or "no version"),
        )


def _changed(
    store: Path,
    name: str,
    record: Record,
    kind: Literal["promote", "rollback"],
    version: int,
    now: datetime,
) -> Record:
    change = Change(kind=kind, version=version, time=now.isoformat(timespec="seconds"))
    changed = replace(record, history=(*record.history, change))
    _save(store, name, changed)
    return changed


def _save(store: Path, name: str, record: Record) -> None:
    text = json.dumps(asdict(record), indent=2)
    replace_file(store / name / RECORD, f"{text}\n".encode())


@contextmanager
def _held(store: Path, name: str) -> Iterator[None]:
    """Keep other processes from deciding about the same model meanwhile."""
    try:
        handle = os.open(store / name, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise InputError(f"no model {name!r} is in the store") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
