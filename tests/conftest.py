"""What tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import is_hypothesis_test, settings

from tests.postgres import NO_SERVER, Postgres, found, running

# How long an example takes says how busy the machine is.
settings.register_profile("quick", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=200)


def pytest_configure(config: pytest.Config) -> None:
    """Try properties on few examples among the quick tests, and on many among the slow ones."""
    settings.load_profile("thorough" if _only_slow(config) else "quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count properties among the slow tests, too."""
    if not _only_slow(config):
        return
    for item in items:
        if isinstance(item, pytest.Function) and is_hypothesis_test(item.function):
            item.add_marker(pytest.mark.slow)


def _only_slow(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "slow")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what was not tested, even where reasons are not shown."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum(NO_SERVER in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} tests were skipped: {NO_SERVER}", red=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL, started once."""
    if found() is None:
        pytest.skip(NO_SERVER)
    with running() as server:
        yield server
