"""What is watched while models are served: drift, calibration, alerts; kept over a restart.

Everything is a sum of bounded length by version. Alerts are lines of the log and metrics; nobody is
called.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from learning.artefact import Model
from protocol.errors import FedwardError
from protocol.keyfile import replace_file
from serving.calibration import Calibration, Feedback
from serving.config import Monitoring
from serving.drift import Bins, Drift, Window

log = logging.getLogger("fedward.serving")


@dataclass(eq=False)
class Watched:
    """One version.

    Args:
        model: The version.
        settings: How it is watched.
    """

    model: Model
    settings: Monitoring
    drift: Drift = field(init=False)
    calibration: Calibration = field(init=False)
    alerts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        schema, settings = self.model.task.schema, self.settings
        self.drift = Drift(Bins.of(schema), settings.reference_rows, settings.window_rows)
        self.calibration = Calibration(schema, settings.window_rows)

    def look(self) -> frozenset[str]:
        """What is wrong now; what began or ended since the last look is logged."""
        found = {
            f"drift of {name}"
            for name, (index, sure) in self.drift.indices().items()
            if sure and index > self.settings.psi
        }
        for (column, label), gap in self.calibration.gaps().items():
            if gap.sure and abs(gap.predicted - gap.observed) > self.settings.gap:
                found.add(f"calibration of {column} = {label}" if column else "calibration")
        for alert in sorted(found - self.alerts):
            log.warning("alert: %s: %s", self.model.card.label, alert)
        for alert in sorted(self.alerts - found):
            log.info("alert ended: %s: %s", self.model.card.label, alert)
        self.alerts = frozenset(found)
        return self.alerts

    def state(self) -> dict[str, Any]:
        """Everything that a restart must not lose, as JSON."""
        self.drift.settle()
        return {
            "weights": self.model.card.digests.weights,
            "settings": [self.settings.reference_rows, self.settings.window_rows],
            "reference": self.drift.reference.tolist(),
            "rows": self.drift.rows,
            "recent": _plain(self.drift.recent),
            "labels": self.calibration.rows,
            "calibration": _plain(self.calibration.recent),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state back; one of other weights or settings is left alone.

        Raises:
            ValueError: It is none.
        """
        fresh = self.state()
        if any(state[key] != fresh[key] for key in ("weights", "settings")):
            return
        reference = np.array(state["reference"], dtype=np.int64)
        recent, calibration = (
            _taken(window, state[name])
            for window, name in (
                (self.drift.recent, "recent"), (self.calibration.recent, "calibration"),
            )
        )  # fmt: skip
        if reference.shape != self.drift.reference.shape:
            raise ValueError
        self.drift.reference, self.drift.rows = reference, int(state["rows"])
        self.calibration.rows = int(state["labels"])
        self.drift.recent, self.calibration.recent = recent, calibration


def _plain(window: Window) -> dict[str, Any]:
    return {"halves": [half.tolist() for half in window.halves], "seen": window.seen}


def _taken(like: Window, state: Mapping[str, Any]) -> Window:
    halves = [np.array(half, dtype=np.float64) for half in state["halves"]]
    older, newer = state["seen"]
    if [half.shape for half in halves] != [(like.length,)] * 2:
        raise ValueError
    return Window(like.length, like.rows, halves, [int(older), int(newer)])


class Monitor:
    """All versions that are served.

    Args:
        folder: Where sums are kept; readable by the owner alone.
        settings: How they are kept.
    """

    def __init__(self, folder: Path, settings: Monitoring) -> None:
        self._folder = folder
        self._settings = settings
        self._complained = False
        self.watched: dict[str, Watched] = {}

    def watch(self, model: Model) -> Watched:
        """Watch a version from now on, with what is known of it from before."""
        label = model.card.label
        if label not in self.watched:
            watched = Watched(model, self._settings)
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
        for watched in list(self.watched.values()):
            watched.look()
            self._save(watched)

    def _path(self, watched: Watched) -> Path:
        return self._folder / f"{watched.model.card.label.replace('/', '-')}.json"

    def _save(self, watched: Watched) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._path(watched), json.dumps(watched.state()).encode())
        except (FedwardError, OSError) as error:
            if not self._complained:
                log.error("monitoring is not kept: %s", error)  # noqa: TRY400 - one line
            self._complained = True

    def _restore(self, watched: Watched) -> None:
        try:
            watched.restore(json.loads(self._path(watched).read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("monitoring of %s begins anew", watched.model.card.label)
