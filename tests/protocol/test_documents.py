"""YAML files: the core schema of 1.2, and errors that point at a line."""

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.documents import Document, load_yaml
from protocol.errors import InputError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "job.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # YAML 1.2.2, examples of section 10.3.2.
        ("", None),
        ("~", None),
        ("null", None),
        ("True", True),
        ("false", False),
        ("0", 0),
        ("0o7", 7),
        ("0x3A", 58),
        ("-19", -19),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        # What YAML 1.1 would read as false, 90, 8, 1000, a date and a merge.
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("010", 10),
        ("1_000", "1_000"),
        ("2026-11-21", "2026-11-21"),
        ("<<", "<<"),
        ("1e-5", 1e-5),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("[1, [x], {y: z}]", [1, ["x"], {"y": "z"}]),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars_follow_the_core_schema(write: Write, text: str, value: object) -> None:
    found = load_yaml(write(f"key: {text}\n"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_read_and_left_to_the_type_check(write: Write) -> None:
    assert math.isnan(load_yaml(write("key: .NaN"))["key"])


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab-é"), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text("abc"), plain))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_another_writer_quotes_is_read_back(write: Write, document: dict[str, Any]) -> None:
    """PyYAML's own dumper is the oracle; it writes texts quoted and floats with a point."""
    text = yaml.safe_dump(document, default_style='"', allow_unicode=True)
    assert load_yaml(write(text)) == document


def test_documents_know_their_lines(write: Write) -> None:
    document = load_yaml(write("# title\na: 1\nb:\n  c: 2\n  d: [{e: 3},\n    {f: 4}]\n"))
    assert isinstance(document, Document)
    assert document.lines == {"a": 2, "b": 3}
    assert document["b"].lines == {"c": 4, "d": 5}
    assert [item.line for item in document["b"]["d"]] == [5, 6]
    assert copy.deepcopy(document).lines == document.lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"job\.yaml:1: not a mapping"),
        ("- 1\n", r"job\.yaml:1: not a mapping"),
        ("!!set {a}\n", r"job\.yaml:1: not a mapping"),
        ("a: 1\nb: 2\na: 3\n", r"job\.yaml:3: key: repeated key 'a'; found line 1"),
        ("t:\n  r: 1\n  r: 1\n", r"job\.yaml:3: t: repeated key 'r'; found line 2"),
        ("a: {1: x}\n", r"job\.yaml:1: a: a key is no text; put it in quotes"),
        ("a:\n  [x]: 1\n", r"job\.yaml:2: a: a key is no text"),
        ("\ntrue: 1\n", r"job\.yaml:2: key: a key is no text"),
        ("a: 1\nb: [1\nc: 2\n", r"job\.yaml:3: "),
        ("a: 1\n\tb: 2\n", r"job\.yaml:2: "),
        ("a: &x 1\nb: *x\n", r"job\.yaml:1: anchors and aliases are not read"),
        ("a: 1\nb: *x\n", r"job\.yaml:2: anchors and aliases are not read"),
        ("a: 1\n---\nb: 2\n", r"job\.yaml:2: but found another document"),
        ("a: 1\nb: \x07\n", r"job\.yaml:2: a character that YAML does not allow"),
        ("a: " + "[" * 5000 + "]" * 5000, r"job\.yaml:1: nested too deeply"),
        ("a: 1\nb:\n  - !!python/object:os.system x\n", r"job\.yaml:3: b\[0\]: unknown tag"),
        ("a: !!binary aGk=\n", r"job\.yaml:1: a: unknown tag"),
        ("a: !mine {b: 1}\n", r"job\.yaml:1: a: unknown tag; found !mine"),
        ("a: !mine [1]\n", r"job\.yaml:1: a: unknown tag"),
        ("a:\n  b: !!int x\n", r"job\.yaml:2: a\.b: not a number that can be read"),
        ("a: !!float x\n", r"job\.yaml:1: a: not a number that can be read"),
        ("a: " + "9" * 5000, r"job\.yaml:1: a: not a number that can be read"),
    ],
)
def test_errors_point_at_file_line_and_key(write: Write, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_yaml(write(text))


def test_unreadable_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read; found No such file"):
        load_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot be read; found Is a directory"):
        load_yaml(tmp_path)


def test_other_encodings_are_errors_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes("a: 1\nb: Müller\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"job\.yaml:2: not UTF-8") as caught:
        load_yaml(path)
    assert "ller" not in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_yaml(path) == {"a": 1}


def test_a_document_is_copied_by_dataclasses(write: Write) -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        values: dict[str, Any]

    document = load_yaml(write("a: {b: 1}\n"))
    copied = dataclasses.asdict(Options(document))
    assert copied == {"values": {"a": {"b": 1}}}
    assert copied["values"].lines == {}
