"""One federation for all tests that only need it to work before and after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.federation import Federation, federation


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three hospitals and a coordinator, whose nodes run."""
    with federation(Federation(tmp_path_factory.mktemp("federation"))) as made:
        yield made
