"""Every process of a federation is killed once, and its job completes nevertheless."""

from __future__ import annotations

import sys

import pytest

from tests.end_to_end.federation import Federation
from tests.end_to_end.killing import HEADER, VICTIMS, survive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_job_outlives_whatever_is_killed(place: Federation, victim: str) -> None:
    survived = survive(place, f"kill-{victim.replace(' ', '-').lower()}", victim, round_=1)

    sys.stdout.write(f"\n{HEADER}\n{survived.row()}\n")
    assert survived.victim == victim
    assert survived.sound, survived.row()
    assert survived.voids <= 1
