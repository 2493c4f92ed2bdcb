"""One suite over every kind of source: what client.data.source.Source promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from client.data.config import SourceConfig
from client.data.opening import open_source
from client.data.source import Source, read
from learning.task import Cells
from protocol.config import parse
from protocol.errors import InputError
from tests.postgres import Postgres
from tests.source_cases import CASES, ROWS, Case, table


@dataclass(frozen=True)
class Holder:
    source: SourceConfig


def build(case: Case, folder: Path, **changes: Any) -> Source:
    folder.mkdir(exist_ok=True)
    written = case.write(folder) | changes
    return open_source(parse(Holder, {"source": written}, "").source, folder)


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def texts(cells: Cells) -> list[str | None]:
    """Values as the split and the schema compare them."""
    from learning.schema import as_text

    plain = cells.tolist() if isinstance(cells, np.ndarray) else cells
    gaps = (None, "nan")
    found = [None if cell is None else as_text(cell) for cell in plain]
    return [None if text in gaps else text for text in found]


def test_every_kind_has_a_case(tmp_path: Path) -> None:
    hints = [get_type_hints(member)["kind"] for member in get_args(SourceConfig)]
    folders = {name: tmp_path / str(place) for place, name in enumerate(CASES)}
    for folder in folders.values():
        folder.mkdir()
    shown = {CASES[name].write(folder)["kind"] for name, folder in folders.items()}
    # OMOP's tables are in PostgreSQL, and have a file of tests of their own.
    assert {kind for hint in hints for kind in get_args(hint)} == shown | {"omop"}


@every_case
def test_the_same_records_come_in_the_same_order(case: Case, tmp_path: Path) -> None:
    source = build(case, tmp_path)
    assert {*case.columns, case.array} - {None} <= {*source.columns()}
    found = read(source, list(case.columns))
    assert {name: texts(cells) for name, cells in found.items()} == {
        name: texts(cells) for name, cells in case.columns.items()
    }


@every_case
@pytest.mark.parametrize("rows", [1, 2, 3, ROWS, 1000])
def test_batches_are_small_and_say_the_same(case: Case, rows: int, tmp_path: Path) -> None:
    source = build(case, tmp_path)
    names = [*reversed(list(case.columns)), *([case.array] if case.array else [])]
    whole = read(source, names)
    batches = list(source.batches(names, rows))
    lengths = [{len(cells) for cells in batch.values()} for batch in batches]
    assert all(len(length) == 1 for length in lengths)
    assert all(1 <= min(length) <= rows for length in lengths)
    assert sum(min(length) for length in lengths) == ROWS
    for name in case.columns:
        assert [text for batch in batches for text in texts(batch[name])] == texts(whole[name])
    if case.array:
        array_N = np.concatenate([np.asarray(batch[case.array]) for batch in batches])
        assert np.array_equal(array_N, np.asarray(whole[case.array]))


@every_case
def test_only_the_named_columns_come_and_an_array_has_its_row_first(
    case: Case, tmp_path: Path
) -> None:
    source = build(case, tmp_path)
    one = next(iter(case.columns))
    assert list(read(source, [one])) == [one]
    if case.array:
        array_N = read(source, [case.array])[case.array]
        assert isinstance(array_N, np.ndarray)
        assert array_N.dtype.kind in "fiu"
        assert array_N.shape[0] == ROWS
        assert array_N.ndim >= 2


@every_case
def test_columns_go_by_the_jobs_names(case: Case, tmp_path: Path) -> None:
    theirs = next(iter(case.columns))
    source = build(case, tmp_path, columns={"ours": theirs})
    assert "ours" in source.columns()
    assert theirs not in source.columns()
    assert texts(read(source, ["ours"])["ours"]) == texts(case.columns[theirs])


@every_case
def test_a_column_that_is_not_there_is_named_with_what_there_is(case: Case, tmp_path: Path) -> None:
    source = build(case, tmp_path)
    remedy = r"source\.columns\.wingspan"
    with pytest.raises(InputError, match=f"no column 'wingspan'; expected one of .*{remedy}"):
        list(source.batches(["wingspan"]))
    with pytest.raises(InputError, match="no column 'wings'"):
        build(case, tmp_path / "other", columns={"ours": "wings"}).columns()


@every_case
def test_a_source_that_is_gone_is_a_persons_mistake(case: Case, tmp_path: Path) -> None:
    config = parse(Holder, {"source": case.write(tmp_path)}, "").source
    gone = open_source(config, tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        gone.columns()
    assert caught.value.exit_code == 2
    with pytest.raises(InputError):
        list(gone.batches(list(case.columns)))


def test_nan_is_what_stands_for_nothing_in_numbers(tmp_path: Path) -> None:
    (age_N,) = read(build(CASES["csv"], tmp_path), ["age"]).values()
    assert [cell is None for cell in age_N] == [age is None for age in table()["age"]]
    assert not any(isinstance(cell, float) and math.isnan(cell) for cell in age_N)


def quoted(cell: object) -> str:
    return "NULL" if cell is None else repr(cell)


class TestPostgreSQL:
    def test_keeps_the_contract_too(self, postgres: Postgres, tmp_path: Path) -> None:
        postgres.execute(
            "DROP TABLE IF EXISTS contract",
            "CREATE TABLE contract (patient text, age integer, sex text)",
            *(
                f"INSERT INTO contract VALUES ({', '.join(map(quoted, row))})"  # noqa: S608
                for row in zip(*table().values(), strict=True)
            ),
        )
        written = {
            "kind": "sql",
            "database": {"url": postgres.url()},
            "query": "SELECT patient, age, sex FROM contract ORDER BY patient",
        }
        case = Case(lambda _: dict(written), table())
        test_the_same_records_come_in_the_same_order(case, tmp_path)
        for rows in (1, 3, ROWS, 1000):
            test_batches_are_small_and_say_the_same(case, rows, tmp_path)
        test_columns_go_by_the_jobs_names(case, tmp_path)
        test_a_column_that_is_not_there_is_named_with_what_there_is(case, tmp_path)
