"""The ServerApp of the coordinator: what it carries out, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Context, RecordDict

from privacy.plan import PrivacyRequest
from protocol.bundle import SignedJob
from protocol.errors import BusyError, InputError, IntegrityError
from protocol.signing import SigningKey
from server.archive import Archive
from server.config import ENVIRONMENT, Folder
from server.history import Record
from server.job_folder import JobFolder
from server.launched import LOCK, carry_out, main
from server.presence import hold
from simulations.engine import Way, inline_app
from simulations.inline import InlineGrid
from tests.consortium import make_consortium, make_job, make_request
from tests.server.premises import settle


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Folder, JobFolder, SignedJob]:
    """A job of a consortium of three virtual hospitals in a coordinator's folder."""
    consortium = make_consortium(tmp_path / "hospitals")
    folder = settle(tmp_path, consortium.coordinator, consortium.roster)
    job = make_job(
        consortium, make_request(rounds=1, privacy=PrivacyRequest(mode="distributed", epsilon=3.0))
    )
    signature = consortium.coordinator.sign("job", job.to_bytes())
    made = Archive(folder.jobs).create(job, signature)
    return folder, made, SignedJob(job=job.to_bytes(), signature=signature)


def grid_of(tmp_path: Path) -> tuple[Way, int]:
    way = Way(
        folder=tmp_path / "hospitals", names=("north", "south", "east"), noise_seed=None,
        split_seed=0,
    )  # fmt: skip
    return way, 3


def test_a_job_is_carried_out_and_its_end_is_kept(
    kept: tuple[Folder, JobFolder, SignedJob], tmp_path: Path
) -> None:
    folder, job, signed = kept
    way, hospitals = grid_of(tmp_path)
    with inline_app(way) as app:
        grid = InlineGrid(app, hospitals)
        carry_out(folder, signed, grid, poll_s=0.0)
        assert job.outcome is not None
        assert job.outcome.status == "completed", job.outcome.reason
        asked = len(grid.seen)
        carry_out(folder, signed, grid, poll_s=0.0)
        assert len(grid.seen) == asked  # a second run of an ended job asks nobody
    record = Record.of(job)
    assert (record.round, record.rounds, record.epsilon) == (1, 1, 3.0)
    assert record.bytes_up > 0
    assert record.bytes_down > 0
    assert datetime.fromisoformat(record.ended) <= datetime.now(UTC)


class TestRefusals:
    def test_a_job_that_somebody_else_signed(
        self, kept: tuple[Folder, JobFolder, SignedJob]
    ) -> None:
        folder, _, signed = kept
        stranger = SigningKey.generate().sign("job", signed.job)
        with pytest.raises(IntegrityError, match="signature of a 'job' does not hold"):
            self.start(folder, SignedJob(job=signed.job, signature=stranger))

    def test_a_job_that_is_not_in_the_folder(
        self, kept: tuple[Folder, JobFolder, SignedJob]
    ) -> None:
        folder, job, signed = kept
        job.path.rename(folder.jobs / ".away")
        with pytest.raises(InputError, match="no such job"):
            self.start(folder, signed)

    def test_a_job_that_another_process_carries_out(
        self, kept: tuple[Folder, JobFolder, SignedJob], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, job, signed = kept
        monkeypatch.setattr("server.launched.HANDOVER_S", 0.0)
        with (
            hold(job.path / LOCK),
            pytest.raises(BusyError, match="another process is at work there"),
        ):
            self.start(folder, signed)

    def test_the_run_names_the_job_and_the_environment_the_folder(
        self,
        kept: tuple[Folder, JobFolder, SignedJob],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        context = Context(
            run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={"job": "x"}
        )
        way, hospitals = grid_of(tmp_path)
        with inline_app(way) as app:
            monkeypatch.delenv(ENVIRONMENT, raising=False)
            with pytest.raises(InputError, match="no FEDWARD_SERVER in the environment"):
                main(InlineGrid(app, hospitals), context)
            monkeypatch.setenv(ENVIRONMENT, str(kept[0].file))
            with pytest.raises(InputError, match="not a signed job"):
                main(InlineGrid(app, hospitals), context)

    def start(self, folder: Folder, signed: SignedJob) -> None:
        with inline_app(grid_of(folder.file.parent)[0]) as app:
            grid = InlineGrid(app, 3)
            carry_out(folder, signed, grid, poll_s=0.0)
