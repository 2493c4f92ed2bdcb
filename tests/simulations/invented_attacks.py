"""Results that no attack gave, for tests of what follows from results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from simulations.attack_config import AttackConfig
from simulations.attack_guesses import Guesses
from simulations.attack_jobs import Defence
from simulations.attack_records import FloatArray, invent
from simulations.attack_results import Attacks, Line, Told
from simulations.attack_score import Score
from tests.simulations.attacked import EVERY, NONE, generator

RECORDS = 8
REFUSED = {"both, epsilon 3": {"weights named in the job": "no", "weights added to a sum": "no"}}


def scored(hits: int, truth_NF: FloatArray) -> Score:
    """The first records exactly, noise for the others."""
    noise_NF = generator().uniform(-2, 2, size=truth_NF.shape)
    back_N = np.arange(len(truth_NF)) < hits
    return Score(
        errors_N=np.where(back_N, 0.0, 1.2),
        nearest_NF=np.where(back_N[:, None], truth_NF, noise_NF),
        control=0.0,
    )


def line(hits: Mapping[Defence, int], **changes: Any) -> Line:
    """Eight records, of which so many came back; none where nothing is said."""
    truth_NF = invent(RECORDS, generator()).x_NF
    scores = {defence: scored(hits.get(defence, 0), truth_NF) for defence in EVERY}
    fields = {"attack": "inversion", "records": 1, "summed": 1, "colluders": 0}
    return Line(truth_NF=truth_NF, scores=scores, **{**fields, **changes})


def guesses(shift: float, *, models: int = 12, pool: int = 60) -> Guesses:
    """Normal scores, members' larger by so many deviations."""
    rng = generator()
    inside_MN = rng.random((models, pool)) < 0.5
    scores_MN: FloatArray = rng.normal(size=(models, pool)) + shift * inside_MN
    return Guesses(scores_MN=scores_MN, inside_MN=inside_MN)


def invented(
    *lines: Line,
    told: Mapping[Defence, float] | None = None,
    refused: Mapping[str, Mapping[str, str]] = REFUSED,
    **changes: Any,
) -> Attacks:
    """A result without a fault, but for what is said."""
    shifts = {defence: 1.0 if defence is NONE else 0.0 for defence in EVERY} | dict(told or {})
    found = {defence: guesses(shift) for defence, shift in shifts.items()}
    return Attacks(
        config=AttackConfig(name="invented", epsilons=(3.0,), **changes),
        lines=lines or (line({NONE: RECORDS}),),
        told=(Told(colluders=0, pool=60, guesses=found),),
        refused=refused,
    )
