"""Public studies: their known sizes, and codes that are words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from learning.task import load_task
from protocol.errors import InputError
from server.requests import read_request
from simulations import public_tables
from simulations.data import Data
from simulations.public_tables import actg175, gbsg2, lung

JOBS = Path(__file__).parents[2] / "configs" / "jobs"


def test_lung_has_its_institutions_and_deaths() -> None:
    table = lung()
    assert len(Data(table)) == 227
    assert len(set(table["institution"])) == 18
    assert Counter(table["died"])["yes"] == 164
    assert set(table["sex"]) == {"male", "female"}


def test_gbsg2_has_its_relapses() -> None:
    assert Counter(gbsg2()["relapsed"]) == {"yes": 299, "no": 387}


def test_the_trial_has_four_even_arms() -> None:
    table = actg175()
    counts = Counter(table["treatment"])
    assert sum(counts.values()) == 2139
    assert len(counts) == 4
    assert all(500 < count < 580 for count in counts.values())


@pytest.mark.parametrize(
    ("job", "make"), [("survival", gbsg2), ("survival_lung", lung), ("treatment", actg175)]
)
def test_every_row_is_a_record_of_its_job(
    job: str, make: Callable[[], dict[str, list[str]]]
) -> None:
    request, table = read_request(JOBS / f"{job}.yaml"), make()
    records, report = load_task(request.task, request.schema).records(table)
    assert len(records) == len(Data(table))
    assert {one.problem for one in report.findings} <= {"missing", "outside bounds"}


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_tables, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'fedward\[studies\]'"):
        lung()
