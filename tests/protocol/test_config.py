"""Mappings become frozen dataclasses, or errors with the full path."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.canonical import to_canonical
from protocol.config import decode, parse, read
from protocol.errors import BudgetError, FedwardError, InputError


@dataclass(frozen=True)
class Leaf:
    rounds: int
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError("rounds", expected="at least 1", found=str(self.rounds))
        if self.rate > 1:
            raise BudgetError("rate", remedy="spend less")


@dataclass(frozen=True, kw_only=True)
class Tree:
    name: str
    leaf: Leaf
    flag: bool = False
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[str, int] | None = None
    by_name: Mapping[str, Leaf] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    mode: Literal["distributed", "local", 3] = "local"
    limit: float | None = None
    either: int | float | str = 0
    old: Optional[int] = None  # noqa: UP045 - typing's own spelling is read as well
    union: Union[bool, Leaf] = False  # noqa: UP007
    folder: Path = Path()
    key: bytes = b""
    anything: Any = None
    made: str = field(default="here", init=False)


@dataclass(frozen=True)
class Empty:
    pass


@dataclass(frozen=True)
class Unsupported:
    numbers: set[int]


LEAF = {"rounds": 2}


def tree(**values: Any) -> Tree:
    return parse(Tree, {"name": "x", "leaf": LEAF, **values}, "job")


def test_every_kind_of_field_is_built() -> None:
    assert tree(
        flag=True,
        leaves=[LEAF, {"rounds": 3, "rate": 1}],
        pair=["a", 1],
        by_name={"a": LEAF},
        options={"a": [1, {"b": None}]},
        sizes={"a": 1, "b": "2.5"},
        mode="distributed",
        limit="1e-5",
        union={"rounds": 4},
        folder="data/x",
        key=b"k",
        anything=[1],
    ) == Tree(
        name="x",
        leaf=Leaf(2),
        flag=True,
        leaves=(Leaf(2), Leaf(3, 1.0)),
        pair=("a", 1),
        by_name={"a": Leaf(2)},
        options={"a": [1, {"b": None}]},
        sizes={"a": 1.0, "b": 2.5},
        mode="distributed",
        limit=1e-5,
        union=Leaf(4),
        folder=Path("data/x"),
        key=b"k",
        anything=[1],
    )
    assert tree(folder=Path("y"), leaves=({"rounds": 1},)).folder == Path("y")


def test_defaults_stand_where_keys_are_left_out() -> None:
    assert tree() == Tree(name="x", leaf=Leaf(2))
    assert tree(limit=None, old=None, pair=None).limit is None
    assert parse(Empty, {}, "") == Empty()


@pytest.mark.parametrize("value", [3, 2.5, "1e-5", "text"])
def test_a_union_keeps_the_type_a_value_has(value: object) -> None:
    found = tree(either=value).either
    assert found == value
    assert type(found) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60))
def test_numbers_and_their_texts_stand_for_floats(value: float) -> None:
    for given_value in (value, repr(value)):
        found = tree(limit=given_value).limit
        assert type(found) is float
        assert found == float(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"leaf": {"rouns": 2}}, r"^job\.leaf\.rouns: unknown key; expected one of rounds, rate;"),
        ({"leaf": {"rouns": 2}}, r"; did you mean 'rounds'\?$"),
        ({"zzz": 1}, r"^job\.zzz: unknown key; expected one of name, .*anything$"),
        ({"made": "there"}, r"^job\.made: unknown key"),
        ({1: 1}, r"^job\.1: unknown key"),
        ({"leaf": {}}, r"^job\.leaf: missing 'rounds'$"),
        ({"leaf": 3}, r"^job\.leaf: wrong type; expected a mapping of keys; found an integer"),
        ({"leaf": {"rounds": True}}, r"^job\.leaf\.rounds: wrong type; expected an integer; "),
        ({"leaf": {"rounds": 1.0}}, r"expected an integer; found a number$"),
        ({"leaf": {"rounds": "1"}}, r"expected an integer; found text$"),
        ({"leaf": {"rounds": 0}}, r"^job\.leaf: rounds; expected at least 1; found 0$"),
        ({"leaves": [LEAF, {"rounds": 0}]}, r"^job\.leaves\[1\]: rounds"),
        ({"leaves": {"a": LEAF}}, r"^job\.leaves: wrong type; expected a list; found a mapping"),
        ({"leaves": "ab"}, r"^job\.leaves: wrong type; expected a list; found text"),
        ({"pair": ["a"]}, r"^job\.pair: wrong length; expected 2 items; found 1"),
        ({"pair": ["a", "b"]}, r"^job\.pair\[1\]: wrong type"),
        ({"by_name": {"a": {"rounds": 0}}}, r"^job\.by_name\.a: rounds"),
        ({"by_name": [LEAF]}, r"^job\.by_name: wrong type; expected a mapping of keys; found a li"),
        ({"by_name": {1: LEAF}}, r"^job\.by_name: wrong type; expected text as key; found an int"),
        ({"options": 1}, r"^job\.options: wrong type"),
        ({"sizes": {"a": "many"}}, r"^job\.sizes\.a: wrong type; expected a number; found text"),
        ({"flag": 1}, r"^job\.flag: wrong type; expected true or false; found an integer"),
        ({"flag": None}, r"^job\.flag: wrong type; expected true or false; found nothing"),
        ({"limit": True}, r"^job\.limit: wrong type; expected a number; found true or false"),
        ({"limit": 10**400}, r"^job\.limit: wrong type; expected a number"),
        ({"limit": math.nan}, r"^job\.limit: not a finite number"),
        ({"limit": "inf"}, r"^job\.limit: not a finite number"),
        ({"either": None}, r"^job\.either: wrong type; expected an integer or a number or text; f"),
        ({"union": 1}, r"^job\.union: wrong type; expected true or false or a mapping of keys; "),
        ({"folder": ""}, r"^job\.folder: wrong type; expected a path; found text"),
        ({"folder": "a\0b"}, r"^job\.folder: wrong type"),
        ({"folder": 1}, r"^job\.folder: wrong type; expected a path; found an integer"),
        ({"key": "k"}, r"^job\.key: wrong type; expected bytes; found text"),
        ({"name": object()}, r"^job\.name: wrong type; expected text; found object$"),
        (
            {"mode": "distribute"},
            r"^job\.mode: no such choice; expected one of distributed, local, 3; did you mean 'di",
        ),
        ({"mode": 3.0}, r"^job\.mode: no such choice; expected one of distributed, local, 3$"),
    ],
)
def test_mistakes_are_named_with_their_path(values: dict[Any, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(Tree, {"name": "x", "leaf": LEAF, **values}, "job")


def test_all_missing_keys_are_named_at_once() -> None:
    with pytest.raises(InputError, match=r"^job: missing 'name', 'leaf'$"):
        parse(Tree, {}, "job")
    with pytest.raises(InputError, match=r"^document: missing 'name', 'leaf'$"):
        parse(Tree, {}, "")
    with pytest.raises(InputError, match=r"^name: unknown key; expected no key$"):
        parse(Empty, {"name": 1}, "")


def test_what_a_dataclass_refuses_keeps_its_class() -> None:
    with pytest.raises(BudgetError, match=r"^job\.leaf: rate; spend less$"):
        tree(leaf={"rounds": 1, "rate": 2})


@given(st.text(min_size=12))
def test_messages_never_quote_values(secret: str) -> None:
    for key in ("flag", "limit", "leaf", "leaves", "key", "mode", "union", "sizes"):
        with pytest.raises(FedwardError) as caught:
            tree(**{key: f"<{secret}>"})
        assert f"<{secret}>" not in str(caught.value)


def test_a_field_that_cannot_be_read_is_the_programmers_mistake() -> None:
    with pytest.raises(TypeError, match="is not supported"):
        parse(Unsupported, {"numbers": [1]}, "x")
    with pytest.raises(TypeError, match="no dataclass"):
        parse(int, {}, "x")


def test_files_lend_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    text = "name: x\nleaf:\n  rounds: 2\nleaves:\n  - rounds: 3\n    rate: 1e-1\n"
    path.write_text(text)
    assert read(Tree, path) == Tree(name="x", leaf=Leaf(2), leaves=(Leaf(3, 0.1),))
    for old, new, message in (
        ("rate:", "rat:", r":6: leaves\[0\]\.rat: unknown key; expected one of rounds, rate; did"),
        ("1e-1", "much", r":6: leaves\[0\]\.rate: wrong type"),
        ("rounds: 3", "rounds: 0", r":5: leaves\[0\]: rounds; expected at least 1"),
        ("rounds: 2", "rate: 2", r":3: leaf: missing 'rounds'"),
        ("name: x", "flag: true", r":1: document: missing 'name'"),
        ("name: x", "name: [x]", r":1: name: wrong type; expected text; found a list"),
        ("name: x", "name: {x: 1}", r":1: name: wrong type; expected text; found a mapping"),
    ):
        path.write_text(
            "name: x\nleaf:\n  rounds: 2\nleaves:\n  - rounds: 3\n    rate: 1e-1\n".replace(
                old, new
            )
        )
        with pytest.raises(InputError, match=r"job\.yaml" + message):
            read(Tree, path)


def test_options_of_a_file_keep_their_lines_for_a_later_reader(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("name: x\nleaf:\n  rounds: 2\noptions:\n  inner:\n    rouns: 1\n")
    options = read(Tree, path).options
    with pytest.raises(InputError, match=r"job\.yaml:6: schema\.rouns: unknown key"):
        parse(Leaf, options["inner"], "schema")


def test_decode_takes_only_the_full_form() -> None:
    leaf = Leaf(2, 0.25)
    assert decode(Leaf, to_canonical(leaf), "leaf") == leaf
    for partial in ({"rounds": 2}, {"rounds": 2, "rate": 1}, {"rounds": 2, "rate": "0.25"}):
        assert parse(Leaf, partial, "leaf").rounds == 2
        with pytest.raises(InputError, match="leaf: not in full form"):
            decode(Leaf, to_canonical(partial), "leaf")
    with pytest.raises(InputError, match="not canonical"):
        decode(Leaf, b'{"rounds": 2}', "leaf")


@dataclass(frozen=True, kw_only=True)
class Round:
    kind: Literal["disc", "ball"]
    radius: float


@dataclass(frozen=True, kw_only=True)
class Square:
    kind: Literal["square"]
    side: float


@dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Round | Square | None


class TestKinds:
    @pytest.mark.parametrize(
        ("written", "read_as"),
        [
            ({"kind": "square", "side": 2}, Square(kind="square", side=2.0)),
            ({"kind": "ball", "radius": 2}, Round(kind="ball", radius=2.0)),
            (None, None),
        ],
    )
    def test_the_kind_chooses(self, written: object, read_as: object) -> None:
        assert parse(Drawing, {"shape": written}, "").shape == read_as

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ({"kind": "squar", "side": 2}, r"^shape\.kind: no such choice.*mean 'square'"),
            ({"kind": "square", "radius": 2}, r"^shape\.radius: unknown key; expected .*side"),
            ({"side": 2}, r"^shape: missing 'kind'; expected one of disc, ball, square"),
            ({"kind": ["square"]}, r"^shape\.kind: no such choice"),
            ("square", r"^shape: wrong type; expected a mapping of keys; found text"),
        ],
    )
    def test_mistakes_are_told_by_the_chosen_kind(self, written: object, message: str) -> None:
        with pytest.raises(InputError, match=message):
            parse(Drawing, {"shape": written}, "")
