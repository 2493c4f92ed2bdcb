"""Tables for simulations, and the job that comes with the built-in one."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from learning.schema import Schema
from learning.task import load_task
from protocol.config import parse
from protocol.errors import InputError
from server.jobs import Origin, resolve
from server.requests import read_request
from simulations.arrays import texts_of
from simulations.config import DataConfig
from simulations.data import INVENTED, load_data

JOB = Path(__file__).parents[2] / "configs" / "jobs" / "breast_cancer.yaml"


def test_breast_cancer_is_scikit_learns_to_the_last_bit() -> None:
    table = load_data(DataConfig(name="breast_cancer")).table
    theirs = load_breast_cancer()
    *names, label = table
    ours = np.array([[float(cell) for cell in table[name]] for name in names]).T
    np.testing.assert_array_equal(ours, theirs.data)
    assert [name.replace("_", " ") for name in names] == theirs.feature_names.tolist()
    assert label == "diagnosis"
    assert table[label] == theirs.target_names[theirs.target].tolist()
    assert texts_of(table[label]).count("malignant") == 212


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"pip install 'fedward\[simulation\]'"):
        load_data(DataConfig(name="breast_cancer"))


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(InputError, match="expected one of actg175, admissions"):
        load_data(DataConfig(name="lungs"))


@pytest.mark.parametrize("name", sorted(INVENTED))
def test_invented_data_have_the_size_and_the_seed_that_were_asked_for(name: str) -> None:
    first, again, other = (
        load_data(DataConfig(name=name, each=4, seed=seed)) for seed in (1, 1, 2)
    )
    assert len(first) == {"wards": 4 * 3 * 5}.get(name, 4 * 5)
    cells = [
        {key: np.asarray(value).tolist() for key, value in d.table.items()}
        for d in (first, again, other)
    ]
    assert cells[0] == cells[1] != cells[2]


def test_public_data_are_as_they_are() -> None:
    with pytest.raises(InputError, match=r"data\.each.*expected none, but for invented data"):
        load_data(DataConfig(name="breast_cancer", each=3))
    with pytest.raises(InputError, match=r"data\.seed.*expected none, but for invented data"):
        load_data(DataConfig(name="breast_cancer", seed=3))


def test_a_size_or_a_seed_below_the_least_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.each"):
        DataConfig(name="lesions", each=0)
    with pytest.raises(InputError, match=r"data\.seed"):
        DataConfig(name="lesions", seed=-1)


def test_a_csv_file_becomes_columns(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('age,note\n60,"a, b"\n,c\n', encoding="utf-8")
    data = load_data(DataConfig(path=path))
    assert data.table == {"age": ["60", ""], "note": ["a, b", "c"]}
    assert len(data) == 2


def test_a_csv_file_without_records_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("age,sepsis\n", encoding="utf-8")
    with pytest.raises(InputError, match="no records"):
        load_data(DataConfig(path=path))


def test_the_job_resolves_for_five_hospitals() -> None:
    request = read_request(JOB)
    job = resolve(request, Origin(coordinator="c", roster="r", now=datetime.now(UTC)))
    assert [site.name for site in job.sites] == ["north", "south", "east", "west", "centre"]
    assert (job.privacy.mode, job.privacy.epsilon) == ("distributed", 1.0)
    assert job.training.rounds == 10


def test_the_jobs_schema_covers_the_data() -> None:
    request = read_request(JOB)
    data = load_data(DataConfig(name="breast_cancer"))
    records, report = load_task(request.task, request.schema).records(data.table)
    assert (report.kept, report.findings) == (569, ())
    assert records.x_NF.shape == (569, 30)
    assert int(records.y_N.sum()) == 212


def test_one_rule_gives_the_constants_of_every_column() -> None:
    for column in parse(Schema, read_request(JOB).schema, "schema").columns:
        low, high = column.bounds
        rounding = 0.01 * (high - low)
        assert column.middle == pytest.approx(low + (high - low) / 3, abs=rounding)
        assert column.width == pytest.approx((high - low) / 6, abs=rounding)


def test_bounds_lie_outside_the_published_extremes() -> None:
    """From the table of minima and maxima in the data set's description."""
    published = load_breast_cancer().DESCR.split("Summary Statistics:")[1].split("Missing")[0]
    rows = [line.rsplit(maxsplit=2) for line in published.splitlines() if "):" in line]
    columns = parse(Schema, read_request(JOB).schema, "schema").columns
    for column, (_, low, high) in zip(columns, rows, strict=True):
        # Lengths, areas and ratios cannot be negative, so 0 needs no margin.
        assert column.bounds[0] < float(low) or column.bounds[0] == 0 == float(low)
        assert column.bounds[1] > float(high)
