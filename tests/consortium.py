"""A small consortium with generated records, and jobs for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from privacy.plan import PrivacyRequest
from protocol.jobs import Job, Mode, Named, Site
from server.jobs import Origin, resolve
from server.requests import EncryptionRequest, JobRequest, TrainingRequest
from simulations.consortium import Consortium, found, hospital_names

DATASET = "sepsis"
ROWS = 60
TEST_FRACTION = 0.2
EPOCH = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
STRATEGIES = (
    "fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "fedsgd", "one_shot",
    "tally",
)  # fmt: skip


def schema(*, patients: bool = False) -> dict[str, Any]:
    """Three numbers, a binary label and, where asked for, the patient's number."""
    document: dict[str, Any] = {
        "columns": [
            {"name": "age", "kind": "number", "unit": "years", "low": 0, "high": 120},
            {"name": "pulse", "kind": "number", "unit": "1/min", "low": 30, "high": 220},
            {"name": "lactate", "kind": "number", "unit": "mmol/l", "low": 0, "high": 20},
        ],
        "label": {"name": "sepsis", "classes": ["no", "yes"]},
    }
    return {**document, "patient": "patient"} if patients else document


def records(rows: int, rng: np.random.Generator, *, patients: bool = False) -> dict[str, list[str]]:
    """Invented records within the schema's bounds, whose label follows pulse and lactate.

    With patients, two records in a row are one patient's.
    """
    age_N = 20 + 70 * rng.random(rows)
    pulse_N = 50 + 120 * rng.random(rows)
    lactate_N = 8 * rng.random(rows)
    score_N = (pulse_N - 110) / 40 + (lactate_N - 4) / 2 + rng.normal(size=rows) / 2
    columns: dict[str, list[str]] = {
        "age": [f"{value:.1f}" for value in age_N],
        "pulse": [f"{value:.1f}" for value in pulse_N],
        "lactate": [f"{value:.2f}" for value in lactate_N],
        "sepsis": ["yes" if score > 0 else "no" for score in score_N],
    }
    if patients:
        columns["patient"] = [f"P{row // 2:04}" for row in range(rows)]
    return columns


def make_consortium(
    folder: Path,
    *,
    hospitals: int = 3,
    rows: int = ROWS,
    patients: bool = False,
    seed: int = 0,
    noise_seed: int | None = None,
) -> Consortium:
    """Keys, roster, trust, configuration and records of every hospital, in an empty folder.

    Args:
        folder: Where to make it.
        hospitals: How many.
        rows: Records at each.
        patients: Whether the records name a patient; each has two records then.
        seed: Of the records and of the split.
        noise_seed: Seeded noise; None for the operating system's entropy.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    shares = {name: records(rows, rng, patients=patients) for name in hospital_names(hospitals)}
    return found(
        folder,
        shares,
        dataset=DATASET,
        test_fraction=TEST_FRACTION,
        modes=("distributed", "local", "none"),
        strategies=STRATEGIES,
        tasks=("diagnosis", "statistics"),
        noise_seed=noise_seed,
        split_seed=seed,
    )


def make_request(
    *,
    hospitals: int = 3,
    mode: Mode = "distributed",
    epsilon: float | None = 3.0,
    clear: bool = False,
    rounds: int = 2,
    rows: int = ROWS,
    patients: bool = False,
    **changes: Any,
) -> JobRequest:
    """A job for the consortium of the same arguments, in two rounds.

    Args:
        hospitals: As in `make_consortium`.
        mode: Privacy mode; `none` drops epsilon.
        epsilon: Of a private mode.
        clear: Unencrypted; only in mode `none`.
        rounds: T.
        rows: As in `make_consortium`.
        patients: As in `make_consortium`.
        changes: Further fields of the request, in place of these.
    """
    units = rows // 2 if patients else rows
    test_size = int(TEST_FRACTION * units)
    request = JobRequest(
        name="sepsis-risk",
        dataset=DATASET,
        schema=schema(patients=patients),
        task=Named(name="diagnosis", options={}),
        sites=tuple(
            Site(name=name, train_size=units - test_size, test_size=test_size)
            for name in hospital_names(hospitals)
        ),
        intended_use="tests only",
        privacy=PrivacyRequest(mode=mode, epsilon=None if mode == "none" else epsilon),
        training=TrainingRequest(rounds=rounds),
        encryption=EncryptionRequest(scheme="none" if clear else "bfv", masks=not clear),
        timeout_s=60,
    )
    return replace(request, **changes)


def make_job(consortium: Consortium | None = None, request: JobRequest | None = None) -> Job:
    """A resolved job: of a consortium, launched now, or of nobody, launched at `EPOCH`."""
    origin = (
        Origin(coordinator="c" * 64, roster="d" * 64, now=EPOCH)
        if consortium is None
        else consortium.origin()
    )
    return resolve(request or make_request(), origin)
