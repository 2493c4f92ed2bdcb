"""Templates are the examples, with a person's own values in place of some lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.errors import InputError
from protocol.templates import template

EXAMPLE = Path(__file__).parents[2] / "configs" / "hospital" / "example.yaml"


def test_without_values_it_is_the_example() -> None:
    assert template("hospital/example.yaml") == EXAMPLE.read_text(encoding="utf-8")


def test_one_line_is_replaced_and_no_nested_one() -> None:
    lines = template("hospital/example.yaml", {"name": r"\1 a \g<0>"}).splitlines()
    before = EXAMPLE.read_text(encoding="utf-8").splitlines()
    changed = [(old, new) for old, new in zip(before, lines, strict=True) if old != new]
    assert changed == [("name: north", r"name: \1 a \g<0>")]


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("hospital/none.yaml", "name", "no example 'hospital/none.yaml'; install fedward again"),
        ("hospital/example.yaml", "nam", "the example has no key 'nam'"),
    ],
)
def test_what_there_is_not_is_said(name: str, key: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        template(name, {key: "x"})
