"""Which version is in use, through promotions, rollbacks and removals."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from learning.artefact import INCOMING, save, versions
from learning.promotion import (
    RECORD,
    load_record,
    next_version,
    promote,
    remove,
    rollback,
    superseded,
)
from protocol.errors import InputError, IntegrityError
from tests.learning.test_artefact import WEIGHTS_P, finished

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for version in (1, 2, 3):
        save(tmp_path, finished(WEIGHTS_P, version), WEIGHTS_P)
    return tmp_path


def test_nothing_is_in_use_until_it_is_promoted(store: Path) -> None:
    assert load_record(store, "sepsis").promoted is None
    assert promote(store, "sepsis", 2, NOW).promoted == 2
    assert load_record(store, "sepsis").promoted == 2


def test_promoting_what_is_in_use_changes_nothing(store: Path) -> None:
    first = promote(store, "sepsis", 2, NOW)
    assert promote(store, "sepsis", 2, NOW) == first


def test_a_rollback_goes_back_step_by_step_and_the_history_stays(store: Path) -> None:
    for version in (1, 3, 2):
        promote(store, "sepsis", version, NOW)
    assert [rollback(store, "sepsis", NOW).promoted for _ in range(2)] == [3, 1]
    with pytest.raises(InputError, match="no version was in use before"):
        rollback(store, "sepsis", NOW)
    told = [(change.kind, change.version) for change in load_record(store, "sepsis").history]
    assert told == [
        ("promote", 1), ("promote", 3), ("promote", 2), ("rollback", 3), ("rollback", 1),
    ]  # fmt: skip


def test_a_rollback_passes_over_what_was_removed(store: Path) -> None:
    for version in (1, 3, 2):
        promote(store, "sepsis", version, NOW)
    remove(store, "sepsis", [3])
    assert rollback(store, "sepsis", NOW).promoted == 1


def test_the_version_in_use_is_not_removed(store: Path) -> None:
    promote(store, "sepsis", 2, NOW)
    with pytest.raises(InputError, match="sepsis/2 is in use"):
        remove(store, "sepsis", [1, 2])
    assert versions(store, "sepsis") == (1, 2, 3)


def test_a_removed_number_is_never_given_again(store: Path) -> None:
    assert next_version(store, "sepsis") == 4
    remove(store, "sepsis", [2, 3])
    assert versions(store, "sepsis") == (1,)
    assert next_version(store, "sepsis") == 4
    assert not list((store / "sepsis").glob(f"{INCOMING}*"))


def test_retention_keeps_the_newest_and_the_one_in_use(store: Path) -> None:
    promote(store, "sepsis", 1, NOW)
    assert superseded(store, "sepsis", keep=1) == (2,)
    assert superseded(store, "sepsis", keep=9) == ()


def test_versions_and_models_that_are_not_there(store: Path) -> None:
    with pytest.raises(InputError, match="sepsis/7 is not in the store; expected one of 1, 2, 3"):
        promote(store, "sepsis", 7, NOW)
    with pytest.raises(InputError, match="no model 'asthma'"):
        rollback(store, "asthma", NOW)
    assert next_version(store, "asthma") == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"history": [{"kind": "rollback", "version": 1, "time": ""}]}', '{"promoted": 1}'],
)
def test_a_damaged_record_is_refused(store: Path, text: str) -> None:
    (store / "sepsis" / RECORD).write_text(text)
    with pytest.raises(IntegrityError, match="no record of promotions"):
        load_record(store, "sepsis")
