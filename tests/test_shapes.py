"""Every array that a public function of learning or client.data takes or gives has a told shape.

That every public module, class and function has a docstring at all is ruff's to say (rules D).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("learning/*.py"), *ROOT.glob("client/data/*.py")])
ARRAYS = re.compile(r"\b(?:FloatArray|FloatVector|IntVector|BoolVector|NDArray|Array|Tensor)\b")
# Arrays by name have the shapes of a layout; what a function is called with is told where it is.
BY_NAME = re.compile(r"^(?:Mapping|dict|Callable|Iterator)\[")
# One letter for each axis at the end of a name: x_NF, count_2B.
SUFFIX = re.compile(r"_\d?[A-Z][A-Z0-9]*$")
# (N,), N x F, (1 + L) x D, C numbers, or a word about it.
TOLD = re.compile(r"\([\w +-]+,\)|[\w)] x [\w(]|\bshape|\b[A-Z] (?:public|numbers|zeros)")

Function = ast.FunctionDef
Untold = tuple[str, str]
"""A function or class, and what of it has no told shape."""


def untold(tree: ast.Module) -> Iterator[Untold]:
    """What has no told shape in a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _of_class(node)
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield from _of_function(node, node.name, "")


def _of_class(node: ast.ClassDef) -> Iterator[Untold]:
    about = ast.get_docstring(node) or ""
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            name = part.target.id
            if not name.startswith("_") and _is_untold(name, part.annotation, about):
                yield node.name, name
        elif isinstance(part, Function) and not re.match(r"_(?!_init__|_call__)", part.name):
            yield from _of_function(part, f"{node.name}.{part.name}", about)


def _of_function(node: Function, name: str, about: str) -> Iterator[Untold]:
    told = ast.get_docstring(node) or ""
    if node.name.startswith("__"):
        told += "\n" + about
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    for argument in arguments:
        if _is_untold(argument.arg, argument.annotation, told):
            yield name, argument.arg
    if _has_arrays(node.returns) and not (TOLD.search(told) or SUFFIX.search(node.name)):
        yield name, "returns"


def _is_untold(name: str, annotation: ast.expr | None, docstring: str) -> bool:
    if not _has_arrays(annotation) or SUFFIX.search(name):
        return False
    told = re.search(rf"\b{name}:(.*?)(?:\n\s*\w+:|\Z)", docstring, re.DOTALL)
    return told is None or TOLD.search(told[1]) is None


def _has_arrays(annotation: ast.expr | None) -> bool:
    text = "" if annotation is None else ast.unparse(annotation)
    return ARRAYS.search(text) is not None and BY_NAME.search(text) is None


def test_every_shape_is_told() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {where}: {what}"
        for path in FILES
        for where, what in untold(ast.parse(path.read_text("utf-8")))
    ]
    assert len(FILES) > 80
    assert found == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('def f(x: Tensor) -> Tensor:\n    """Doubled."""', [("f", "x"), ("f", "returns")]),
        ('def f(x_N: Tensor) -> Tensor:\n    """Doubled."""', [("f", "returns")]),
        ('def f(x_N: Tensor) -> Tensor:\n    """Doubled, (N,)."""', []),
        ('def f(x: Tensor) -> None:\n    """Args:\n    x: N x F."""', []),
        (
            'def f(x: Tensor) -> None:\n    """Args:\n    x: A thing.\n    y: N x F."""',
            [("f", "x")],
        ),
        ('class A:\n    """A."""\n    x: FloatArray', [("A", "x")]),
        ('class A:\n    """A."""\n    def f(self, x: Array) -> None:\n        ""', [("A.f", "x")]),
        ('class A:\n    """x: (N,)."""\n    def __init__(self, x: Array) -> None:\n        ""', []),
        ("def _f(x: Tensor) -> Tensor:\n    pass\nclass _A:\n    x: Tensor", []),
        ("def f(x: Mapping[str, Tensor], y: float) -> dict[str, Tensor]:\n    pass", []),
    ],
)
def test_what_is_not_told_is_found(text: str, found: list[Untold]) -> None:
    assert list(untold(ast.parse(text))) == found
