"""What attacks found, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simulations.attack_config import AttackConfig
from simulations.attack_guesses import RATE, Guesses, bound_auroc, bound_detected
from simulations.attack_jobs import Defence
from simulations.attack_score import CONFIDENCE, RECOVERED, FloatArray, Score

SEEDED_NOTE = "noise was seeded: these results say nothing of the operating system's"
_ERRORS = 3.0
"""Standard errors by which guesses may pass the largest possible area without an alarm."""
_STRONG = 0.5


@dataclass(frozen=True, kw_only=True)
class Line:
    """One attack by one set of parties, under every defence.

    Args:
        attack: `inversion`, `matching` or `imprint`.
        records: Records behind one update.
        summed: Updates in what is read: 1, or those of all hospitals.
        colluders: Hospitals on the coordinator's side.
        truth_NF: The records that were wanted.
        scores: What came back, by defence.
    """

    attack: str
    records: int
    summed: int
    colluders: int
    truth_NF: FloatArray  # noqa: N815 - the shape is part of the name
    scores: Mapping[Defence, Score]

    @property
    def amount(self) -> str:
        """Records behind what is read.

        >>> Line(attack="imprint", records=32, summed=4, colluders=0, truth_NF=np.empty((0, 0)),
        ...     scores={}).amount
        '4 x 32'
        """
        return str(self.records) if self.summed == 1 else f"{self.summed} x {self.records}"

    @property
    def reader(self) -> str:
        """Who reads."""
        return reader(self.colluders)


@dataclass(frozen=True, kw_only=True)
class Told:
    """Guesses of membership by one party, under every defence.

    Args:
        colluders: 0 for the coordinator alone, 1 for one that a hospital gives the model to.
        pool: Records that were guessed about, half of them members.
        guesses: By defence.
    """

    colluders: int
    pool: int
    guesses: Mapping[Defence, Guesses]

    @property
    def reader(self) -> str:
        """Who reads."""
        return reader(self.colluders)


def reader(colluders: int) -> str:
    """The parties of an attack in words.

    >>> reader(0), reader(1), reader(3)
    ('coordinator', '+ 1 hospital', '+ 3 hospitals')
    """
    if not colluders:
        return "coordinator"
    return f"+ {colluders} hospital{'s' if colluders > 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """Everything that one run found.

    Args:
        config: What was tried.
        lines: Attacks on records.
        told: Guesses of membership.
        refused: By encrypted defence, a node's answers to planted weights; an empty text is none.
    """

    config: AttackConfig
    lines: tuple[Line, ...]
    told: tuple[Told, ...]
    refused: Mapping[str, Mapping[str, str]]

    @property
    def faults(self) -> tuple[str, ...]:
        """What must not be: records in spite of all defences, guesses beyond the bound."""
        return (*self._recovered(), *self._beyond(), *self._taken())

    @property
    def passed(self) -> bool:
        """Whether there is no fault."""
        return not self.faults

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.faults:
            return "FAULT: " + "; ".join(self.faults)
        parts = []
        if self.lines:
            parts.append("noise and encryption together: no attack recovers a record")
        if self.told:
            parts.append("guesses of membership stay within what epsilon allows")
        if self.refused:
            parts.append("nodes refuse planted weights")
        return "PASS: " + "; ".join(parts)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        seeded = (SEEDED_NOTE,) if self.config.seeded_noise else ()
        weak = [
            f"{line.attack} of {line.amount}"
            for line in self.lines
            if not line.colluders and _undefended(line) < _STRONG
        ]
        if weak:
            text = f"weak without any defence, so that its zeros say little: {', '.join(weak)}"
            return (*seeded, text)
        return seeded

    def to_json(self) -> dict[str, Any]:
        """The results as JSON's types."""
        return {
            "name": self.config.name,
            "passed": self.passed,
            "verdict": self.verdict,
            "recovered_below_distance": RECOVERED,
            "confidence": CONFIDENCE,
            "delta": self.config.delta,
            "mode": self.config.mode,
            "hospitals": self.config.hospitals,
            "seed": self.config.seed,
            "records": [_line_json(line) for line in self.lines],
            "membership": [
                {
                    "reader": told.reader,
                    "colluding_hospitals": told.colluders,
                    "pool": told.pool,
                    "outcomes": [
                        _defence_json(defence) | _guesses_json(guesses, defence, self.config.delta)
                        for defence, guesses in told.guesses.items()
                    ],
                }
                for told in self.told
            ],
            "planted_weights": {name: dict(answers) for name, answers in self.refused.items()},
            "notes": list(self.notes),
        }

    def _recovered(self) -> Iterator[str]:
        for line in self.lines:
            for defence, score in line.scores.items():
                if defence.kind == "both" and score.hits:
                    yield (
                        f"{line.attack} ({line.amount}, {line.reader}) recovers {score.share:.1%} "
                        f"of the records behind {defence.label}"
                    )

    def _beyond(self) -> Iterator[str]:
        for told in self.told:
            for defence, guesses in told.guesses.items():
                if defence.epsilon is None:
                    continue
                bound = bound_auroc(defence.epsilon, self.config.delta)
                if guesses.auroc - _ERRORS * guesses.auroc_error > bound:
                    yield (
                        f"guesses of membership ({told.reader}) reach {guesses.auroc:.3f} behind "
                        f"{defence.label}, which allows {bound:.3f}"
                    )

    def _taken(self) -> Iterator[str]:
        for name, answers in self.refused.items():
            for way, answer in answers.items():
                if not answer:
                    yield f"a node takes {way} behind {name}"


def _undefended(line: Line) -> float:
    return next(score.share for defence, score in line.scores.items() if defence.clear)


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "attack": line.attack,
        "records_per_update": line.records,
        "updates_summed": line.summed,
        "reader": line.reader,
        "colluding_hospitals": line.colluders,
        "records": len(line.truth_NF),
        "outcomes": [
            _defence_json(defence) | _score_json(score) for defence, score in line.scores.items()
        ],
    }


def _defence_json(defence: Defence) -> dict[str, Any]:
    return {
        "defence": defence.kind,
        "epsilon": defence.epsilon,
        "encrypted": defence.encrypted,
    }


def _score_json(score: Score) -> dict[str, Any]:
    low, high = score.limits
    return {
        "recovered": score.share,
        "recovered_low": low,
        "recovered_high": high,
        "median_distance": float(np.median(score.errors_N)),
        "unused_records_hit": score.control,
    }


def _guesses_json(guesses: Guesses, defence: Defence, delta: float) -> dict[str, Any]:
    rates = np.array([RATE])
    found = {
        "auroc": guesses.auroc,
        "auroc_error": guesses.auroc_error,
        "false_alarms": RATE,
        "detected": float(guesses.detected(rates)[0]),
    }
    if defence.epsilon is None:
        return found
    return found | {
        "auroc_bound": bound_auroc(defence.epsilon, delta),
        "detected_bound": float(bound_detected(defence.epsilon, delta, rates)[0]),
    }
