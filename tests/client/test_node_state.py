"""The state folder: one node at a time, and decisions that outlast it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.known_jobs import Asked
from client.node_state import StateFolder
from protocol.errors import BusyError, FedwardError, InputError


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "node")


def asked(digest: str, *, name: str = "sepsis", seen: str = "2026-11-20") -> Asked:
    return Asked(
        digest=digest * 16, name=name, summary={}, decision="waiting", seen=seen, expires="later"
    )


def test_nobody_else_may_enter_it(folder: StateFolder) -> None:
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.path.chmod(0o755)

    with pytest.raises(InputError, match="chmod 700"):
        StateFolder(folder.path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="cannot be created"):
        StateFolder(tmp_path / "file" / "node")


def test_one_node_holds_it(folder: StateFolder) -> None:
    seen = [folder.running]
    with folder.locked():
        seen.append(folder.running)
        with pytest.raises(BusyError, match="runs on this folder already"), folder.locked():
            pass
    seen.append(folder.running)

    assert seen == [False, True, False]


def test_status_is_what_was_said_last(folder: StateFolder) -> None:
    assert folder.load_status() == {}
    folder.save_status({"answered": 1})
    folder.save_status({"answered": 2})

    assert StateFolder(folder.path).load_status() == {"answered": 2}
    assert not list(folder.path.glob(".status*"))


def test_a_status_that_cannot_be_written_leaves_nothing_behind(folder: StateFolder) -> None:
    (folder.path / "status.json").mkdir()

    with pytest.raises(FedwardError, match="cannot be written"):
        folder.save_status({"answered": 1})

    assert not list(folder.path.glob(".status*"))


def test_a_pause_outlasts_the_node(folder: StateFolder) -> None:
    folder.pause()
    folder.pause()
    assert StateFolder(folder.path).paused
    folder.resume()
    folder.resume()
    assert not StateFolder(folder.path).paused


def test_decisions_and_beginnings_do_not_overwrite_each_other(folder: StateFolder) -> None:
    folder.add_job(asked("1234"))
    folder.add_job(asked("abcd", seen="2026-11-19"))

    folder.decide("1234" * 16, "approved")
    folder.mark_begun("1234" * 16)

    first, second = folder.known()
    assert (first.digest[:4], first.decision, first.begun) == ("abcd", "waiting", False)
    assert (second.digest[:4], second.decision, second.begun) == ("1234", "approved", True)


def test_a_decision_that_is_none_is_an_error(folder: StateFolder) -> None:
    folder.add_job(asked("1234"))
    (folder.path / "known" / f"{'1234' * 16}.decision").write_text("perhaps")

    with pytest.raises(InputError, match="a decision"):
        folder.known()


def test_a_job_is_found_by_name_or_digits(folder: StateFolder) -> None:
    folder.add_job(asked("1234", name="one"))
    folder.add_job(asked("1235", name="two"))
    folder.add_job(asked("abcd", name="two"))

    assert folder.find("one").digest.startswith("1234")
    assert folder.find("1235").name == "two"
    for name in ("two", "123", "none"):
        with pytest.raises(InputError, match="of one job"):
            folder.find(name)
    assert folder.load_job("0" * 64) is None


class TestForget:
    NOW = datetime(2026, 11, 20, tzinfo=UTC)

    def test_what_has_expired_goes_with_all_its_files(self, folder: StateFolder) -> None:
        folder.add_job(replace(asked("1234"), expires="2026-11-12T00:00:00+00:00"))
        folder.decide("1234" * 16, "denied")
        folder.add_job(replace(asked("abcd"), expires="2026-11-14T00:00:00+00:00"))

        folder.forget(self.NOW)

        assert [path.name for path in (folder.path / "known").iterdir()] == [f"{'abcd' * 16}.json"]

    def test_what_is_damaged_stays_and_keeps_nothing_else(self, folder: StateFolder) -> None:
        folder.add_job(asked("1234"))
        folder.add_job(asked("abcd"))
        (folder.path / "known" / f"{'1234' * 16}.decision").write_text("perhaps")

        folder.forget(self.NOW)

        assert folder.load_job("abcd" * 16) is None
        assert len(list((folder.path / "known").iterdir())) == 2
