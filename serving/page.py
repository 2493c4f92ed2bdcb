"""The page at `/`: what is served, how much it is asked, and what is watched.

Everything comes from the server at once: no script, no picture, no font. The browser is told to
refuse anything else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from learning.card import ModelCard
from learning.schema import Column
from serving.dataplane import DataPlane
from serving.monitor import Watched

_HERE = Path(__file__).parent
_STYLE = (_HERE / "page.css").read_text(encoding="utf-8")
_SHA = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_TEMPLATE = Environment(autoescape=True, undefined=StrictUndefined).from_string(
    (_HERE / "page.html").read_text(encoding="utf-8")
)
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
        _version(plane, name, str(version))
        for name in names
        for version in plane.catalogue.versions(name)
    ]
    return _TEMPLATE.render(
        style=_STYLE,
        ready=plane.ready,
        under_way=plane.turnstile.under_way,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        traffic=_traffic(plane, names),
        versions=versions,
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


def _version(plane: DataPlane, name: str, version: str) -> Mapping[str, Any]:
    served = plane.catalogue.find(name, version)
    card, watched = served.model.card, plane.monitor.watch(served.model)
    return {
        **_card(card),
        "current": plane.can_answer(name) and plane.catalogue.find(name) is served,
        "alerts": sorted(watched.look()),
        "asked": watched.drift.rows,
        "reference": _reference(watched),
        "columns": _columns(watched),
        "groups": [
            {
                "name": f"{column} = {label}" if column else "all",
                "rows": gap.rows,
                "predicted": f"{gap.predicted:.3f}",
                "observed": f"{gap.observed:.3f}",
            }
            for (column, label), gap in watched.calibration.gaps().items()
        ],
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
            for name, one in sorted(card.metrics.items())
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
    missing = watched.settings.reference_rows - watched.drift.rows
    if missing > 0:
        return f"Drift is told once {watched.settings.reference_rows} rows are the reference."
    return f"Compared with the first {watched.settings.reference_rows} of them."


def _columns(watched: Watched) -> list[Mapping[str, Any]]:
    indices = watched.drift.indices()
    found: list[Mapping[str, Any]] = []
    for column in watched.model.task.schema.columns:
        index, sure = indices.get(column.name, (None, False))
        drifts = index is not None and sure and index > watched.settings.psi
        verdict = "yes" if drifts else "no" if index is not None else "not watched"
        found.append(
            {
                "name": column.name,
                "kind": column.kind,
                "unit": column.unit,
                "taken": _values(column),
                "index": "" if index is None else f"{index:.3f}",
                "drifts": drifts,
                "verdict": verdict,
            }
        )
    return found


def _values(column: Column) -> str:
    if column.kind in {"number", "array"}:
        low, high = column.bounds
        return f"{low:g} to {high:g}"
    return ", ".join(column.labels)
