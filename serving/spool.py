"""Rows that were asked, kept for jobs over them: text files in the model's own columns and units.

They are patients' data like a hospital's other sources: in a folder that its owner alone may enter,
bounded in number and in age. Only finished files are read by jobs; the one that still grows has a
name that no source takes. Texts and arrays are not kept, nor is any word that is none of the
schema's.
"""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np

from learning.artefact import Model
from learning.schema import Schema
from learning.task import Table
from protocol.errors import InputError
from serving.config import Keeping, ServedModel
from serving.flags import FlagArray
from serving.spool_files import GROWING, cut, drop, finish
from serving.spool_lines import LABEL, Rows, header, kept, lines

log = logging.getLogger("fedward.serving")

_SEAL_AFTER: Final = timedelta(hours=1)
_MOST_WAITING: Final = 100_000


@dataclass(eq=False)
class Spool:
    """The kept rows of one version.

    Args:
        folder: Where they are.
        schema: The model's schema.
        settings: How many, and how long.
        clock: Present time.
    """

    folder: Path
    schema: Schema
    settings: Keeping
    clock: Callable[[], datetime]
    _waiting: list[Rows] = field(default_factory=list)
    _waiting_rows: int = 0
    _lost: bool = False
    _growing: int = 0
    _since: datetime | None = None
    _lock: Lock = field(default_factory=Lock)
    _writing: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        if LABEL in self.schema.column_names:
            raise InputError(f"rows with a column {LABEL!r} cannot be kept: the name is taken")

    def take(self, table: Table, flag_NC: FlagArray, patients: Sequence[str | None]) -> None:
        """Take note of rows; they are written later, by another thread.

        Args:
            table: The rows.
            flag_NC: What happened to each value.
            patients: Of each the patient, as the request says it; None where it does not.
        """
        # An array may be an image, and waits for nothing.
        cells = {one.name: table[one.name] for one in kept(self.schema)}
        with self._lock:
            self._waiting_rows += len(patients)
            if self._waiting_rows <= _MOST_WAITING:
                moved_N = np.asarray(flag_NC.any(axis=1), dtype=np.bool_)
                self._waiting.append(Rows(cells, moved_N, patients))
                return
        self._complain("rows come faster than they can be written")

    def write(self) -> None:
        """Write what waits, finish the file if it is large or old, drop what is too old."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            too_many, self._waiting_rows = self._waiting_rows > _MOST_WAITING, 0
        with self._complaining():
            if waiting:
                self._append(waiting)
            if self._growing >= max(1, min(5000, self.settings.rows // 10)) or self._is_old():
                self.seal()
            drop(self.folder, self.settings, self.clock(), self._growing)
            if waiting and not too_many:
                self._calm_down()

    def close(self) -> None:
        """Write what waits, and finish the file."""
        self.write()
        with self._complaining():
            self.seal()

    def seal(self, made: datetime | None = None) -> None:
        """Finish the file that grows, so that jobs read it.

        Args:
            made: When its last row was written; now if not given.
        """
        if self._growing:
            finish(self.folder, self._growing, made or self.clock())
            self._growing, self._since = 0, None

    def recover(self) -> None:
        """Finish what a server that was killed has left; a line that it left half is cut off.

        Its rows are as old as they are, however long no server ran.
        """
        if (self.folder / GROWING).exists():
            self._growing, made = cut(self.folder)
            self.seal(made)
            (self.folder / GROWING).unlink(missing_ok=True)

    def _append(self, waiting: Sequence[Rows]) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One that was there keeps the mode that somebody gave it.
        self.folder.chmod(0o700)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        handle = os.open(self.folder / GROWING, flags, 0o600)
        with os.fdopen(handle, "ab", buffering=0) as file:
            size = file.tell()
            if not size:
                self._growing, self._since = 0, self.clock()
            rest = memoryview(self._text(waiting, headed=not size))
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                # A disk that fills up takes a part, and half a line would spoil the file.
                file.truncate(size)
                raise
        self._growing += sum(len(rows.patients) for rows in waiting)

    def _text(self, waiting: Sequence[Rows], *, headed: bool) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if headed:
            writer.writerow(header(self.schema))
        for rows in waiting:
            writer.writerows(lines(self.schema, rows))
        return text.getvalue().encode()

    def _is_old(self) -> bool:
        return self._since is not None and self.clock() - self._since >= _SEAL_AFTER

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """One writer at a time; a disk that refuses is told, and stops nobody."""
        # A server that ends does not wait for the thread that writes.
        with self._writing:
            try:
                yield
            except OSError as error:
                self._complain(error.strerror or type(error).__name__)

    def _complain(self, why: str) -> None:
        if not self._lost:
            log.error("rows that were asked are not kept: %s", why)
        self._lost = True

    def _calm_down(self) -> None:
        """Say that all is well, so that the next trouble is told as well."""
        if self._lost:
            log.info("rows that were asked are kept again")
        self._lost = False


class Spools:
    """The kept rows of all versions.

    Args:
        base: Folder that relative paths start from.
        models: What is served, and how its rows are kept.
        clock: Present time.
    """

    def __init__(
        self, base: Path, models: Sequence[ServedModel], clock: Callable[[], datetime]
    ) -> None:
        self._base = base
        self._kept = {one.name: one.keep for one in models if one.keep is not None}
        self._clock = clock
        self._spools: dict[str, Spool] = {}

    def of(self, model: Model) -> Spool | None:
        """Where a version's rows go; None where they are not kept.

        Raises:
            InputError: They cannot be kept.
        """
        label, settings = model.card.label, self._kept.get(model.card.name)
        if settings is None:
            return None
        if label not in self._spools:
            folder = self._base / settings.folder / label.replace("/", "-")
            spool = Spool(folder, model.task.schema, settings, self._clock)
            try:
                spool.recover()
            except OSError as error:
                raise InputError(f"{folder}: rows cannot be kept", found=error.strerror) from None
            self._spools[label] = spool
        return self._spools[label]

    def write(self) -> None:
        """Write what waits, and drop what is too old, also of versions that are served no more."""
        for spool in list(self._spools.values()):
            spool.write()
        ours = {spool.folder for spool in self._spools.values()}
        for name, settings in self._kept.items():
            for folder in (self._base / settings.folder).glob(f"{name}-*"):
                # Not of another model whose name begins alike.
                if folder not in ours and folder.name.removeprefix(f"{name}-").isdigit():
                    drop(folder, settings, self._clock())

    def close(self) -> None:
        """Write what waits, and finish every file."""
        self.write()
        for spool in list(self._spools.values()):
            spool.close()
