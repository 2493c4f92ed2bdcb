from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.data.config import SourceConfig
from client.data.opening import open_source
from client.data.source import Source
from client.data.source import read as read_all
from protocol.config import parse, read
from protocol.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Holder:
    source: SourceConfig


def config(**changes: Any) -> SourceConfig:
    written = {"kind": "csv", "path": "records.csv"} | changes
    return parse(Holder, {"source": written}, "").source


def test_a_configuration_opens_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "hospital.yaml").write_text(
        'source:\n  kind: csv\n  path: data/patients.tsv\n  delimiter: "\\t"\n'
        '  columns:\n    age: "AGE (years)"\n'
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "patients.tsv").write_text("AGE (years)\tsex\n64\tf\n")
    source: Source = open_source(read(Holder, tmp_path / "hospital.yaml").source, tmp_path)
    assert source.columns() == ("age", "sex")
    assert read_all(source, ("age",)) == {"age": ["64"]}


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
