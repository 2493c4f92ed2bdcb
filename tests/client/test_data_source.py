from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.data.source import Source, SourceConfig, open_source
from learning.task import Table
from protocol.config import parse, read
from protocol.errors import InputError


def config(**changes: Any) -> SourceConfig:
    return parse(SourceConfig, {"kind": "csv", "path": "records.csv"} | changes, "source")


def test_a_configuration_opens_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "hospital.yaml").write_text(
        'kind: csv\npath: data/patients.tsv\ndelimiter: "\\t"\ncolumns:\n  age: "AGE (years)"\n'
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "patients.tsv").write_text("AGE (years)\tsex\n64\tf\n")
    source: Source = open_source(read(SourceConfig, tmp_path / "hospital.yaml"), tmp_path)
    assert source.columns() == ("age", "sex")
    table: Table = source.read(("age",))
    assert table == {"age": ["64"]}


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.csv"
    path.write_text("a\n1\n")
    assert open_source(config(path=str(path)), Path("/nowhere")).columns() == ("a",)


@pytest.mark.parametrize("delimiter", ["", ",,", '"', "\n", "\r", " "])
def test_a_delimiter_is_one_character_that_no_cell_needs(delimiter: str) -> None:
    with pytest.raises(InputError, match="delimiter; expected one character"):
        config(delimiter=delimiter)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "excel"}, "source.kind"),
        ({"columns": {"age": 3}}, "source.columns.age"),
        ({"separator": ";"}, "source.separator"),
    ],
)
def test_mistakes_in_the_configuration_are_named_by_their_path(
    changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError, match=named):
        config(**changes)
