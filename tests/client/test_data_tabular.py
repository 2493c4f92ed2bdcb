from __future__ import annotations

import csv
import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.data.mapped import Mapped
from client.data.source import DroppedError, Source
from client.data.source import read as read_all
from client.data.tabular import CsvSource
from protocol.errors import InputError

PATIENT = "Zaphod-4711"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "records.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path: Path, *columns: str, delimiter: str = ",", **renamed: str) -> dict[str, object]:
    return dict(read_all(source(path, delimiter, **renamed), columns))


def source(path: Path, delimiter: str = ",", **renamed: str) -> Source:
    return Mapped(CsvSource(path, delimiter), str(path), renamed)


def test_reads_the_named_columns_in_the_files_order(tmp_path: Path) -> None:
    path = write(tmp_path, "age,sex,smoker\n64,f,yes\n,m,\n71,f,no\n")
    assert source(path).columns() == ("age", "sex", "smoker")
    assert read(path, "smoker", "age") == {"smoker": ["yes", None, "no"], "age": ["64", None, "71"]}


def test_columns_are_found_under_the_hospitals_own_names(tmp_path: Path) -> None:
    path = write(tmp_path, "ALTER,age,sex\n64,wrong,f\n")
    mapped = source(path, age="ALTER")
    assert mapped.columns() == ("age", "sex")
    assert read_all(mapped, ["sex", "age"]) == {"sex": ["f"], "age": ["64"]}


def test_cells_stay_as_they_stand(tmp_path: Path) -> None:
    path = write(tmp_path, 'a;b\n 1,5 ;"x;""y""\nz"\n')
    assert read(path, "a", "b", delimiter=";") == {"a": [" 1,5 "], "b": ['x;"y"\nz']}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_every_system_blank_lines_and_a_byte_order_mark(
    tmp_path: Path, end: str, last: bool
) -> None:
    text = f"a,b{end}1,2{end}{end}3,ü" + (end + end if last else "")
    path = write(tmp_path, text.encode("utf-8-sig"))
    assert source(path).columns() == ("a", "b")
    assert read(path, "a", "b") == {"a": ["1", "3"], "b": ["2", "ü"]}


def test_a_file_without_records_has_empty_columns(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a,b"), "b") == {"b": []}


cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
rows = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), max_size=6)
)


@given(rows=rows, delimiter=st.sampled_from(",;\t|"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_back_whatever_a_csv_writer_wrote(
    tmp_path: Path, rows: list[list[str]], delimiter: str
) -> None:
    width = len(rows[0]) if rows else 2
    names = string.ascii_letters[:width]
    path = tmp_path / "records.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([names, *rows])
    table = read_all(CsvSource(path, delimiter), names)
    expected = {
        name: [row[position] or None for row in rows] for position, name in enumerate(names)
    }
    assert table == expected


def test_columns_are_known_without_reading_a_record(tmp_path: Path) -> None:
    """What follows the header would be an error if anyone looked at it."""
    path = write(tmp_path, b'a,b\n\xff\0"\n1,2,3\n')
    assert source(path).columns() == ("a", "b")
    with pytest.raises(InputError, match="line 2"):
        read(path, "a")


DAMAGED = {
    "too few cells": (f"a,b\n1,2\n{PATIENT}\n", "line 3: row; expected 2 cells .*; found 1"),
    "too many cells": (f"a,b\n{PATIENT},2,3\n", "line 2: row; expected 2 cells .*; found 3"),
    "after a long cell": (f'a,b\n"1\n\n",2\n{PATIENT}\n', "line 5: row"),
    "a long cell itself": (f'a,b\n1,2\n"{PATIENT}\n\n"\n', "line 3: row"),
    "a quote that never ends": (f'a,b\n1,2\n3,"{PATIENT}\n', "line 3: is no CSV"),
    "text after a quote": (f'a,b\n"{PATIENT}"x,2\n', "line 2: is no CSV"),
    "a bare carriage return": (f"a,b\n{PATIENT}\r1,2\n", "line 2: is no CSV"),
    "a cell without measure": (f"a,b\n1,{PATIENT * 20_000}\n", "line 2: is no CSV"),
    "a NUL byte": (f"a,b\n1,2\n{PATIENT},\0\n", "line 3: bytes; expected text; found a NUL"),
    "latin 1": (
        f"a,b\n1,2\n{PATIENT},".encode() + b"\xe4\n",
        "line 3: bytes; expected text in UTF",
    ),
    "utf 16": ("a,b\n1,2\n".encode("utf-16"), "line 1: bytes; expected text in UTF-8"),
    "a column twice": ("a,b,a\n1,2,3\n", "line 1: header; .*; found column 3 like 1"),
    "a column without name": ("a,,b\n1,2,3\n", "line 1: header; .*; found column 2 without a name"),
    "two without name": ("a,,\n1,2,3\n", "line 1: header; .*; found column 2 without a name"),
    "an empty file": ("", "no header"),
    "an empty first line": ("\na,b\n1,2\n", "no header"),
    "a missing column": (f"b,A\n{PATIENT},2\n", "no column 'a'; expected one of b, A"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_an_error_with_its_line_and_no_value(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=message) as caught:
        read(path, "a")
    told = str(caught.value)
    assert told.startswith(str(path))
    assert PATIENT not in told
    assert not re.search(r"\b4711\b", told)


def test_a_missing_column_says_where_to_name_it(tmp_path: Path) -> None:
    path = write(tmp_path, "Age,sex\n1,f\n")
    with pytest.raises(InputError, match=r"mean 'Age'\? name the .* source\.columns\.age"):
        read(path, "age")
    for ask in (lambda: read(path, "sex", sex="geschlecht"), source(path, x="Sex").columns):
        with pytest.raises(InputError, match="no column"):
            ask()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read; found"):
        source(tmp_path / "none.csv").columns()
    with pytest.raises(InputError, match=r"no file in this folder ends in \.csv"):
        source(tmp_path).columns()


def test_a_folder_is_read_in_the_order_of_its_files_names(tmp_path: Path) -> None:
    for name, text in (("2.csv", "a,b\n3,x\n"), ("1.csv", "a,b\n1,x\n2,x\n"), ("rest", "c\n")):
        (tmp_path / name).write_text(text)
    assert read(tmp_path, "a") == {"a": ["1", "2", "3"]}
    (tmp_path / "3.csv").write_text("b,a\n4711,5\n")
    with pytest.raises(InputError, match=r"3\.csv: another header") as caught:
        read(tmp_path, "a")
    assert "4711" not in str(caught.value)


def test_a_folder_whose_oldest_file_is_removed_meanwhile_is_read_again(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text(f"age\n{ord(name)}\n")
    source = CsvSource(tmp_path)
    batches = source.batches(["age"])
    assert next(batches) == {"age": ["97"]}
    (tmp_path / "b.csv").unlink()
    with pytest.raises(DroppedError, match="removed while its folder was read"):
        next(batches)
    assert read_all(source, ["age"]) == {"age": ["97", "99"]}


@pytest.mark.parametrize(
    "record",
    [f"61.25,{PATIENT}", f"{PATIENT},2026-01-02", "ZZ,ZZ,-3.5", "Zaphod,yes,yes", "Zaphod,Alterio"],
)
def test_a_record_in_place_of_the_header_is_not_shown(tmp_path: Path, record: str) -> None:
    source = CsvSource(write(tmp_path, f"{record}\n"))
    for reader in (source, Mapped(source, "records", {"age": "alter"})):
        with pytest.raises(InputError, match="is the first line a record") as caught:
            list(reader.batches(["age"]))
        assert not [cell for cell in record.split(",") if cell in str(caught.value)]
