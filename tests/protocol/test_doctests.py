"""The examples in the documentation of `protocol` run as they stand."""

import doctest
import importlib
import pkgutil

import pytest

import protocol

MODULES = [module.name for module in pkgutil.iter_modules(protocol.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"protocol.{name}"))
    assert result.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(f"protocol.{name}") for name in MODULES]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) > 10
