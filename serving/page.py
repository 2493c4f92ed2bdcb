"""The page at `/`: what is served, how much it is asked, and what is watched.

Everything comes from the server at once: no script, no picture, no font. The browser is told to
refuse anything else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from learning.card import ModelCard
from learning.few import TOO_FEW
from learning.result_names import headline
from learning.schema import Column
from serving.answering import Served
from serving.dataplane import DataPlane
from serving.drift import ColumnDrift
from serving.monitor import Watched

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text(encoding="utf-8")
_SHA = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_TEMPLATE = Environment(autoescape=True, undefined=StrictUndefined).from_string(
    (_HERE / "page.html").read_text(encoding="utf-8")
)
BAR_HEIGHT, BAR_WIDTH = 32, 8
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_SHA}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def page(plane: DataPlane, visible: Callable[[str], bool]) -> str:
    """The page.

    Args:
        plane: What is served.
        visible: Whether the reader may know of a model.
    """
    names = [name for name in plane.catalogue.names if visible(name)]
    versions = [
        _version(plane, served) for name in names for served in plane.catalogue.served(name)
    ]
    return _TEMPLATE.render(
        style=_STYLE,
        ready=plane.ready,
        under_way=plane.turnstile.under_way,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        traffic=_traffic(plane, names),
        versions=versions,
        height=BAR_HEIGHT,
        width=BAR_WIDTH,
    )


def _traffic(plane: DataPlane, names: list[str]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for model, results in plane.metrics.results().items():
        if model in names:
            other = {result: count for result, count in results.items() if result != "ok"}
            found.append(
                {
                    "model": model,
                    "answered": results.get("ok", 0),
                    "other": sum(other.values()),
                    "why": ", ".join(f"{count} {result}" for result, count in other.items()),
                }
            )
    return found


def _version(plane: DataPlane, served: Served) -> Mapping[str, Any]:
    name = served.model.card.name
    card, watched = served.model.card, plane.monitor.watch(served.model)
    return {
        **_card(card),
        "current": plane.can_answer(name) and plane.catalogue.find(name) is served,
        "alerts": sorted(watched.look()),
        "asked": watched.drift.rows,
        "reference": _reference(watched),
        "columns": _columns(watched),
        "groups": _calibration(watched),
        "several": len(watched.calibration.outcomes) > 1,
        "labels": bool(watched.calibration.outcomes),
    }


def _card(card: ModelCard) -> Mapping[str, Any]:
    hospitals = "1 hospital" if card.cohort_size == 1 else f"{card.cohort_size} hospitals"
    return {
        "label": card.label,
        "intended_use": card.intended_use,
        "task": card.task.name,
        "rounds": card.rounds,
        "hospitals": hospitals,
        "created": card.created,
        "privacy": _privacy(card),
        "metrics": [
            {"name": name, **{key: f"{getattr(one, key):.3f}" for key in ("value", "low", "high")}}
            for name, one in sorted(headline(card.metrics).items())
        ],
        "digests": [
            (name, getattr(card.digests, name)) for name in ("job", "roster", "layout", "weights")
        ],
    }


def _privacy(card: ModelCard) -> str:
    privacy = card.privacy
    if privacy.epsilon is None:
        return "Trained without differential privacy."
    return (
        f"Privacy of one {privacy.unit}: epsilon {privacy.epsilon:.3g} at delta "
        f"{privacy.delta:.1g}, mode {privacy.mode}."
    )


def _reference(watched: Watched) -> str:
    """What inputs are compared with."""
    tabled, early = watched.drift.tabled, watched.settings.reference_rows
    told = []
    if watched.reference is not None:
        which = "" if len(tabled) == len(watched.drift.bins.names) else f" ({len(tabled)} columns)"
        told.append(f"the released table {watched.reference.label} of all hospitals{which}")
    if len(tabled) < len(watched.drift.bins.names):
        missing = early - watched.drift.rows
        soon = f", of which {missing} are still to come" if missing > 0 else ""
        told.append(f"the first {early} rows{soon}")
    return f"Compared with {' and '.join(told)}." if told else "Nothing is watched."


def _columns(watched: Watched) -> list[Mapping[str, Any]]:
    drift = watched.drift.columns()
    return [
        {
            "name": column.name,
            "kind": column.kind,
            "unit": column.unit,
            "taken": _values(column),
            **_drift(watched, column.name, drift.get(column.name)),
        }
        for column in watched.model.task.schema.columns
    ]


def _drift(watched: Watched, name: str, drift: ColumnDrift | None) -> Mapping[str, Any]:
    """A column's cells about drift."""
    if drift is None:
        waits = "not yet told" if name in watched.drift.bins.names else "not watched"
        return {"index": "", "drifts": False, "verdict": waits, "bars": (), "reference": ""}
    found, drifts = drift.stability, drift.drifts(watched.settings.psi)
    verdict = "yes" if drifts else "no" if found is not None else f"{TOO_FEW} rows"
    index = "" if found is None else f"{found.index:.3f} ({found.low:.3f} to {found.high:.3f})"
    return {
        "index": index,
        "drifts": drifts,
        "verdict": verdict,
        "bars": _bars(drift),
        "reference": watched.reference_of(name),
    }


def _bars(drift: ColumnDrift) -> Sequence[Mapping[str, Any]]:
    """Of each bin a bar for the last rows and a line for the reference, as parts of the highest."""
    shares = [
        np.maximum(one.count_B, 0.0) / max(float(np.maximum(one.count_B, 0.0).sum()), 1.0)
        for one in (drift.found, drift.expected)
    ]
    most = max(float(one.max()) for one in shares) or 1.0
    heights = [(one / most * BAR_HEIGHT).round(1).tolist() for one in shares]
    return [
        {"x": place * BAR_WIDTH, "found": found, "expected": expected}
        for place, (found, expected) in enumerate(zip(*heights, strict=True))
    ]


def _calibration(watched: Watched) -> list[Mapping[str, Any]]:
    """Rows of the table of what came true."""
    gaps, settings = watched.calibration.gaps(), watched.settings
    return [
        {
            "outcome": outcome,
            "group": f"{column} = {label}" if column else "all",
            "rows": gap.rows,
            "predicted": f"{gap.predicted:.3f}",
            "observed": f"{gap.observed:.3f}",
            "gap": f"{gap.observed - gap.predicted:+.3f}",
            "wrong": gap.sure and abs(gap.observed - gap.predicted) > settings.gap,
        }
        for (outcome, column, label), gap in gaps.items()
    ]


def _values(column: Column) -> str:
    if column.kind in {"number", "array"}:
        low, high = column.bounds
        return f"{low:g} to {high:g}"
    return ", ".join(column.labels)
