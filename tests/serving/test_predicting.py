"""Predictions of a file: whole or not at all, the same whatever the format, and after any stop."""

from __future__ import annotations

import csv
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer

import fedward
from learning.artefact import Model, load
from protocol.errors import BusyError, InputError
from serving.parts import Job
from serving.predicting import predict_file
from tests.serving.ward import KEY, SCHEMA, add, put

TABLE = {**SCHEMA, "columns": SCHEMA["columns"][:3], "patient": "pid"}
HEADER = ["pid", "age", "ward", "smoker", "ill"]
VALUE = "917"
ROWS: list[list[Any]] = [
    [f"p{row}", age, ward, smoker, "yes"]
    for row, (age, ward, smoker) in enumerate(
        [(60, "a", "yes"), ("", "b", "no"), (VALUE, "3", ""), (71.5, "zz", "no"), (1, "a", "no")]
    )
]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    place = add(tmp_path / "models", "sepsis", TABLE, 1)
    put(tmp_path / "models", "sepsis", 1)
    return load(place)


def written(folder: Path, suffix: str, header: list[str] | None = None) -> Path:
    """ROWS as a file."""
    path = folder / f"in{suffix}"
    header = header or HEADER
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *ROWS])
        return path
    columns: dict[str, Any] = dict(zip(header, map(list, zip(*ROWS, strict=True)), strict=True))
    columns["age"] = [None if age == "" else float(age) for age in columns["age"]]
    pl.DataFrame(columns).write_parquet(path)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).to_dicts()
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected(model: Model) -> np.ndarray[Any, Any]:
    columns = dict(zip(HEADER, map(list, zip(*ROWS, strict=True)), strict=True))
    return model.predict(model.task.features(columns)[0])


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("source", [".csv", ".parquet"])
@pytest.mark.parametrize("target", [".csv", ".parquet"])
def test_every_row_is_predicted_to_the_last_bit(
    tmp_path: Path, model: Model, source: str, target: str, rows: int
) -> None:
    job = Job(
        model=model, source=written(tmp_path, source), target=tmp_path / f"out{target}",
        keep=("pid",), rows=rows,
    )  # fmt: skip
    summary = predict_file(job)
    found = read(job.target)
    assert [*found[0]] == ["row", "pid", "probabilities:no", "probabilities:yes", "label"]
    assert [int(one["row"]) for one in found] == [1, 2, 3, 4, 5]
    assert [one["pid"] for one in found] == [row[0] for row in ROWS]
    assert [float(one["probabilities:yes"]) for one in found] == expected(model)[:, 1].tolist()
    problems = [(int(one["row"]), one["column"], one["problem"]) for one in read(job.problems)]
    assert problems == [
        (2, "age", "missing"),
        (3, "age", "outside the schema's bounds"),
        (3, "smoker", "missing"),
        (4, "ward", "unreadable or an unknown category"),
    ]
    assert (summary.rows, summary.resumed, summary.problems["ward", problems[3][2]]) == (5, 0, 1)
    assert VALUE not in job.problems.read_text()
    assert not job.parts.exists()
    assert job.target.stat().st_mode & 0o777 == 0o600


def test_a_column_that_is_kept_never_gives_way_to_one_of_the_output(
    tmp_path: Path, model: Model
) -> None:
    header = ["row", "age", "ward", "smoker", "probabilities:no"]
    source = written(tmp_path, ".csv", header)
    for name, other in (("row", "probabilities:no"), ("probabilities:no", "row")):
        job = Job(
            model=model, source=source, target=tmp_path / "out.csv", keep=(name,), ignore=(other,)
        )
        with pytest.raises(InputError, match=f"columns of its own named '{name}'"):
            predict_file(job)


@pytest.mark.parametrize("first", [0, 2])
def test_a_column_that_is_empty_for_long_has_its_values_behind(
    tmp_path: Path, model: Model, first: int
) -> None:
    source, beds = tmp_path / "in.parquet", [7 if row == first else None for row in range(5)]
    columns = {"age": [60.0] * 5, "ward": ["a"] * 5, "smoker": ["no"] * 5, "beds": beds}
    pl.DataFrame(columns).write_parquet(source)
    job = Job(model=model, source=source, target=tmp_path / "out.parquet", keep=("beds",), rows=2)
    predict_file(job)
    assert [one["beds"] for one in read(job.target)] == beds


class Stop(Exception):  # noqa: N818 - a person pressed a key
    pass


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, model: Model, suffix: str) -> None:
    whole, stopped = (
        Job(
            model=model, source=written(tmp_path, suffix), target=tmp_path / f"{name}{suffix}",
            rows=2,
        )
        for name in ("whole", "stopped")
    )  # fmt: skip
    predict_file(whole)

    def stop(rows: int) -> None:
        if rows == 4:
            raise Stop

    with pytest.raises(Stop):
        predict_file(stopped, stop)
    assert not stopped.target.exists()
    (stopped.parts / f"draft-000002{suffix}").write_bytes(b"half")
    seen: list[int] = []
    summary = predict_file(stopped, seen.append)
    assert (summary.rows, summary.resumed, seen) == (5, 4, [4, 5])
    assert sum(summary.problems.values()) == 4
    assert read(stopped.target) == read(whole.target)
    assert stopped.problems.read_bytes() == whole.problems.read_bytes()


def test_a_run_that_stopped_between_its_two_files_goes_on(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(model=model, source=written(tmp_path, ".csv"), target=tmp_path / "out.csv", rows=2)
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if target == job.target:
            raise Stop
        return replace(path, target)

    with monkeypatch.context() as stopped:
        stopped.setattr(Path, "replace", stop)
        with pytest.raises(Stop):
            predict_file(job)
    assert job.problems.exists()
    assert predict_file(job).resumed == 5
    assert len(read(job.target)) == 5
    assert not job.parts.exists()


def test_parts_of_another_input_are_not_taken(tmp_path: Path, model: Model) -> None:
    job = Job(model=model, source=written(tmp_path, ".csv"), target=tmp_path / "out.csv", rows=2)

    def stop(rows: int) -> None:
        if rows:
            raise Stop

    with pytest.raises(Stop):
        predict_file(job, stop)
    with job.source.open("a") as file:
        file.write("p9,1,a,no,no\n")
    with pytest.raises(InputError, match="parts of another input"):
        predict_file(job)


def test_one_process_at_a_time_and_nothing_is_overwritten(tmp_path: Path, model: Model) -> None:
    job = Job(model=model, source=written(tmp_path, ".csv"), target=tmp_path / "out.csv")
    job.parts.mkdir()
    lock = os.open(job.parts, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(BusyError):
        predict_file(job)
    os.close(lock)
    job.target.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        predict_file(job)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (["pid", "agee", "ward", "smoker", "ill"], "lacks 'age'.*is 'age' the same as 'agee'"),
        (["pid", "bmi", "ward", "smoker", "ill"], "lacks 'age'"),
        (["note", "age", "ward", "smoker", "ill"], "does not know 'note'.*--keep NAME.*--ignore"),
        (["age", "age", "ward", "smoker", "ill"], "each once"),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_what_to_do(
    tmp_path: Path, model: Model, header: list[str], told: str
) -> None:
    job = Job(model=model, source=written(tmp_path, ".csv", header), target=tmp_path / "out.csv")
    with pytest.raises(InputError, match=told) as caught:
        predict_file(job)
    assert VALUE not in str(caught.value)
    assert not job.parts.exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pid,age,ward,smoker\np1,2,a,no\np2,5,a\n", "row 2; expected 4 cells.*found 3"),
        ("pid,age,ward,smoker\n", "no rows"),
        ("", "header"),
    ],
)
def test_damaged_tables_are_refused_by_row(
    tmp_path: Path, model: Model, text: str, told: str
) -> None:
    source = tmp_path / "in.csv"
    source.write_text(text)
    with pytest.raises(InputError, match=told):
        predict_file(Job(model=model, source=source, target=tmp_path / "out.csv"))
    with pytest.raises(InputError, match="cannot be read"):
        predict_file(Job(model=model, source=tmp_path / "no.csv", target=tmp_path / "out.csv"))
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        predict_file(Job(model=model, source=source, target=tmp_path / "out.xlsx"))
    source.with_suffix(".parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="a Parquet file"):
        predict_file(Job(model=model, source=tmp_path / "in.parquet", target=tmp_path / "out.csv"))


def test_a_model_that_reads_arrays_is_refused(tmp_path: Path) -> None:
    model = load(add(tmp_path / "models", "sepsis", SCHEMA, 1))
    with pytest.raises(InputError, match="reads arrays"):
        predict_file(
            Job(model=model, source=written(tmp_path, ".csv"), target=tmp_path / "out.csv")
        )


def run(*arguments: object) -> None:
    words = ["predict", *map(str, arguments)]
    typer.main.get_command(fedward.app)(args=words, standalone_mode=False)


def test_the_command(tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    source, store = written(tmp_path, ".csv"), tmp_path / "models"
    run(store / "sepsis", source, tmp_path / "out.csv", "--signer", KEY.fingerprint)
    told = capsys.readouterr().out
    assert "5 rows by sepsis/1" in told
    assert "ward: unreadable or an unknown category in 1 rows" in told
    assert model.card.intended_use in told
    run(store / "sepsis" / "1", source, tmp_path / "again.csv", "--keep", "pid")
    (store / "other").mkdir()
    with pytest.raises(InputError, match="no version of this model is in use"):
        run(store / "other", source, tmp_path / "out2.csv")
