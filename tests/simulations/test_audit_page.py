"""The page on audits says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from simulations.audit import audit
from simulations.audit_claim import GUESS_DELTA
from simulations.audit_evidence import ALARM, CONFIDENCE
from simulations.audit_statistics import resolution
from tests.simulations.canaries import configured
from tests.simulations.test_audit_faults import FAULTS

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of its first column, without the heading."""
    table = PAGE.read_text(encoding="utf-8").split(f"\n| {heading} |")[1].split("\n\n")[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_the_checks_are_listed_in_their_order() -> None:
    found = audit(configured(canaries=100))
    assert [row[0] for row in rows("check")] == [check.name for check in found.checks]
    keys = {key for row in rows("key") for key in re.findall(r"`(\w+)`", row[0])}
    assert keys == set(found.to_json()) - {"name"}


@pytest.mark.parametrize("row", rows("canaries"), ids=lambda row: row[0])
def test_the_resolution_is_that_of_half_the_canaries_inside(row: list[str]) -> None:
    assert f"{resolution(int(2.5 * int(row[0])), ALARM):.2f}" == row[1]


def test_every_fault_of_the_table_is_planted_with_these_alarms() -> None:
    for name, alarms in rows("fault"):
        assert FAULTS[name].alarms == set(alarms.split(", ")), name


def test_levels_are_those_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"at a p-value of {ALARM:.0e}".replace("e-0", "e-") in text
    assert f"at {CONFIDENCE * 100:.0f} % confidence" in text
    assert f"at delta {GUESS_DELTA:g}" in text
