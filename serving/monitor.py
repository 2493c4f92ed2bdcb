"""What is watched while models are served: drift, calibration, alerts; kept over a restart.

Everything is a sum of bounded length by version. Alerts are lines of the log and metrics; nobody is
called.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learning.artefact import Model
from protocol.errors import FedwardError
from protocol.keyfile import replace_file
from serving.bins import Bins
from serving.calibration import Calibration, Place
from serving.config import Monitoring
from serving.drift import Drift
from serving.feedback import Feedback, reader_of
from serving.reference import Reference

log = logging.getLogger("fedward.serving")


@dataclass(eq=False)
class Watched:
    """One version.

    Args:
        model: The version.
        settings: How it is watched.
        reference: The table that its inputs are compared with; None where there is none.
    """

    model: Model
    settings: Monitoring
    reference: Reference | None = None
    drift: Drift = field(init=False)
    calibration: Calibration = field(init=False)
    alerts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        task, settings = self.model.task, self.settings
        self.drift = Drift(
            Bins.of(task.schema, self.reference),
            settings.reference_rows,
            settings.window_rows,
            self.reference,
        )
        reader = reader_of(task)
        outcomes = () if reader is None else reader.outcomes
        self.calibration = Calibration(task.schema, outcomes, settings.window_rows)

    def look(self) -> frozenset[str]:
        """What is wrong now; what began or ended since the last look is logged."""
        columns = self.drift.columns().items()
        found = {f"drift of {name}" for name, one in columns if one.drifts(self.settings.psi)}
        for place, gap in self.calibration.gaps().items():
            if gap.sure and abs(gap.predicted - gap.observed) > self.settings.gap:
                found.add(_miscalibrated(place))
        for alert in sorted(found - self.alerts):
            log.warning("alert: %s: %s", self.model.card.label, alert)
        for alert in sorted(self.alerts - found):
            log.info("alert ended: %s: %s", self.model.card.label, alert)
        self.alerts = frozenset(found)
        return self.alerts

    def reference_of(self, column: str) -> str:
        """What a column is compared with, in words."""
        if self.reference is not None and column in self.reference.columns:
            return self.reference.label
        return f"first {self.settings.reference_rows} rows"

    def state(self) -> dict[str, Any]:
        """Everything that a restart must not lose, as JSON."""
        return {
            "weights": self.model.card.digests.weights,
            "drift": self.drift.state(),
            "calibration": self.calibration.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state back; of other weights nothing, of other settings what does not need them.

        Raises:
            ValueError: It is none; `KeyError` and `TypeError` say the same.
        """
        if state["weights"] == self.model.card.digests.weights:
            self.drift.restore(state["drift"])
            self.calibration.restore(state["calibration"])


def _miscalibrated(place: Place) -> str:
    """The alert's name."""
    outcome, column, group = place
    parts = ["calibration", outcome and f"of {outcome}", column and f"where {column} = {group}"]
    return " ".join(filter(None, parts))


def _no_reference(_: Model) -> None:
    """Where only the first rows are compared with."""


class Monitor:
    """All versions that are served.

    Args:
        folder: Where sums are kept; readable by the owner alone.
        settings: How they are kept.
        references: Finds the table that a version's inputs are compared with.
    """

    def __init__(
        self,
        folder: Path,
        settings: Monitoring,
        references: Callable[[Model], Reference | None] = _no_reference,
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._references = references
        self._complained = False
        self.watched: dict[str, Watched] = {}

    def watch(self, model: Model) -> Watched:
        """Watch a version from now on, with what is known of it from before.

        Raises:
            FedwardError: The table that it is to be compared with cannot be used.
        """
        label = model.card.label
        if label not in self.watched:
            watched = Watched(model, self._settings, self._references(model))
            self._restore(watched)
            self.watched[label] = watched
        return self.watched[label]

    def keep_only(self, labels: frozenset[str]) -> None:
        """Stop watching what is served no more; its sums stay on the disk."""
        for label in set(self.watched) - labels:
            self._save(self.watched.pop(label))

    def add(self, label: str, feedback: Feedback) -> None:
        """Take labels into account."""
        self.watched[label].calibration.add(feedback)

    def look(self) -> None:
        """Look after alerts, and save."""
        versions = list(self.watched.values())
        for watched in versions:
            watched.look()
        saved = [self._save(watched) for watched in versions]
        if all(saved):
            self._complained = False

    def _path(self, watched: Watched) -> Path:
        return self._folder / f"{watched.model.card.label.replace('/', '-')}.json"

    def _save(self, watched: Watched) -> bool:
        """Whether it could be written; that it could not is told once, until it can again."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path(watched), json.dumps(watched.state()).encode())
        except (FedwardError, OSError) as error:
            if not self._complained:
                log.error("monitoring is not kept: %s", error)  # noqa: TRY400 - one line
            self._complained = True
            return False
        return True

    def _restore(self, watched: Watched) -> None:
        try:
            watched.restore(json.loads(self._path(watched).read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            log.warning("monitoring of %s begins anew", watched.model.card.label)
