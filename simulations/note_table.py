"""Invented admission notes whose law is known: what is found in a patient decides the outcome.

A note says of some findings that they are there and of others that they are not, in the words of
its hospital, between sentences that mean nothing. So single words do not do: "fever" and "no fever"
are opposites; and a hospital alone has not seen the others' words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from learning.task import FloatArray

Cells = dict[str, list[str]]

HOSPITALS = ("north", "south", "east", "west", "centre")

# What a finding adds to the log-odds of the outcome, and its words; hospitals prefer one each.
FINDINGS: tuple[tuple[float, tuple[str, ...]], ...] = (
    (1.8, ("fever", "pyrexia")),
    (2.4, ("hypotension", "circulatory shock")),
    (2.0, ("confusion", "delirium")),
    (1.6, ("dyspnoea", "breathlessness")),
    (1.4, ("rigors", "shivering")),
    (1.2, ("tachycardia", "racing heart")),
    (-1.6, ("good appetite", "hunger")),
    (0.0, ("back pain", "lumbago")),
    (0.0, ("constipation", "sluggish bowels")),
)
THERE = ("reports", "shows")
ABSENT = ("no", "denies")
FILLERS = (
    "admitted from home by ambulance",
    "seen together with the senior physician",
    "relatives were informed by telephone",
    "medication as on the attached list",
    "allergies not known",
    "lives with spouse on the second floor",
    "bloods taken and sent",
    "plan discussed with patient",
    "vaccinations up to date as far as known",
    "observation continued overnight",
    "smoker until 2011",
    "weight 72 kg, height 171 cm",
)
BASE, AGE_SLOPE = -2.9, 0.03
MENTIONED, PRESENT, OWN_WORDS = 0.7, 0.5, 0.75


@dataclass(frozen=True)
class Notes:
    """Invented notes.

    Args:
        table: Their patients, as they would stand in a file.
        chance_N: Each patient's chance of the outcome, given everything in the row.
    """

    table: Cells
    chance_N: FloatArray  # noqa: N815 - the shape is part of the name


def notes(each: int = 400, seed: int = 20261121) -> Notes:
    """Notes of all hospitals.

    Args:
        each: At each hospital.
        seed: What they are drawn from.
    """
    rng = np.random.default_rng(seed)
    table: Cells = {name: [] for name in ("hospital", "age", "note", "sepsis")}
    chances: list[float] = []
    for place, hospital in enumerate(HOSPITALS):
        for _ in range(each):
            age = float(rng.integers(30, 95))
            note, sum_of_findings = _note(place, rng)
            log_odds = BASE + AGE_SLOPE * (age - 60) + sum_of_findings
            chances.append(float(1 / (1 + np.exp(-log_odds))))
            table["hospital"].append(hospital)
            table["age"].append(f"{age:.0f}")
            table["note"].append(note)
            table["sepsis"].append("yes" if rng.random() < chances[-1] else "no")
    return Notes(table, np.array(chances))


def _note(hospital: int, rng: np.random.Generator) -> tuple[str, float]:
    """A note and what its findings add up to; what it does not mention is not there."""
    sentences = [FILLERS[line] for line in rng.choice(len(FILLERS), size=4, replace=False)]
    total = 0.0
    for number, (weight, phrases) in enumerate(FINDINGS):
        if rng.random() >= MENTIONED:
            continue
        present = rng.random() < PRESENT
        own = (hospital + number) % len(phrases)
        chosen = own if rng.random() < OWN_WORDS else int(rng.integers(len(phrases)))
        lead = THERE if present else ABSENT
        sentences.append(f"{lead[rng.integers(len(lead))]} {phrases[chosen]}")
        total += weight if present else 0.0
    order = rng.permutation(len(sentences))
    return ". ".join(sentences[line].capitalize() for line in order) + ".", total
