"""Who may start runs and carry them out, against a real SuperLink that nobody serves but a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import ListNodesRequest, StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.runtime import RuntimeHttpClient

from protocol.bundle import SignedJob, pyproject
from protocol.errors import IntegrityError, RefusalError
from protocol.signing import SigningKey
from server import assignment
from server.archive import Archive
from server.config import Folder
from server.control import Control, LinkError, _Bearer, local_address
from server.job_folder import JobFolder
from server.jobs import Origin, resolve
from server.link import SuperLink
from server.requests import read_request
from server.runner import work
from server.runtime import Claim, Runtime
from server.superlink import Guard
from tests.server.premises import found, write_job

START_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A coordinator's folder whose SuperLink runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        patch.setenv("NO_PROXY", "127.0.0.1")
        made = found(tmp_path_factory.mktemp("coordinator"))
        made.state.mkdir(mode=0o700)
        link = SuperLink(made)
        link.start()
        try:
            _await(made)
            yield made
        finally:
            link.stop()


def _await(folder: Folder) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        try:
            with Control(folder) as control:
                control.nodes()
        except LinkError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError((folder.state / "superlink.log").read_text())


@pytest.fixture
def kept(folder: Folder) -> JobFolder:
    key = folder.load_key()
    roster = folder.load_roster(key.fingerprint).digest
    origin = Origin(coordinator=key.fingerprint, roster=roster, now=datetime.now(UTC))
    job = resolve(read_request(write_job(folder.file.parent / "job.yaml")), origin)
    return Archive(folder.jobs).create(job, key.sign("job", job.to_bytes()))


def submit(folder: Folder, files: dict[str, bytes]) -> Claim:
    """Start a run with any bundle, as whoever knows the secret could, and claim it."""
    secret = folder.superlink_secret.read_text()
    client = ControlHttpClient.from_server_address(
        local_address(folder.config.bind), insecure=False,
        root_certificates=folder.ca.read_bytes(), interceptors=[_Bearer(secret)],
    )  # fmt: skip
    content, _ = build_fab_from_files(dict(files))
    with client:
        run = client.StartRun(StartRunRequest(fab=Fab(content=content))).run_id
    return claim(folder, int(run))


def claim(folder: Folder, run: int) -> Claim:
    runtime = Runtime(folder)
    found = runtime.claim()
    assert runtime.claim() is None
    runtime.close()
    assert found is not None
    assert found.run == run
    assert found.token not in repr(found)
    return found


class TestStrangers:
    """Another account of this machine reaches the port, and knows no secret."""

    @pytest.mark.parametrize("secret", ["", "0" * 64])
    def test_start_no_run_and_see_no_node(self, folder: Folder, secret: str) -> None:
        client = ControlHttpClient.from_server_address(
            local_address(folder.config.bind), insecure=False,
            root_certificates=folder.ca.read_bytes(),
            interceptors=[_Bearer(secret)] if secret else [],
        )  # fmt: skip
        with client:
            for ask in (
                lambda: client.StartRun(StartRunRequest(fab=Fab(content=b"code"))),
                lambda: client.ListNodes(ListNodesRequest()),
            ):
                with pytest.raises(httpx.HTTPStatusError, match="401"):
                    ask()

    def test_carry_out_no_run(self, folder: Folder) -> None:
        client = RuntimeHttpClient.from_server_address(
            local_address(folder.config.bind), insecure=False,
            root_certificates=folder.ca.read_bytes(), interceptors=[],
        )  # fmt: skip
        with client, pytest.raises(httpx.HTTPStatusError, match="401"):
            client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]))

    def test_cannot_read_the_secret(self, folder: Folder) -> None:
        assert folder.superlink_secret.stat().st_mode & 0o077 == 0

    def test_nobody_logs_in(self) -> None:
        guard = Guard(b"secret")
        assert guard.validate_tokens_in_metadata([]) == (False, None)
        assert guard.get_login_details() is None
        assert guard.get_auth_tokens("code") is None
        assert guard.refresh_tokens([]) == (None, None)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
class TestRuns:
    def test_a_job_is_carried_out_and_flower_is_told(self, folder: Folder, kept: JobFolder) -> None:
        signed = SignedJob(job=kept.job.to_bytes(), signature=kept.signature)
        with Control(folder) as control:
            run = control.submit(signed)
            work(folder, claim(folder, run).token)
            assert kept.outcome is not None
            assert "0 hospitals accepted, 3 needed" in kept.outcome.reason
            assert (control.run(run).over, control.run(run).ending) == (True, "completed")

    def test_a_heartbeat_that_fails_is_not_the_last(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        beats: list[int] = []
        beaten = threading.Event()

        def beat(_: object, __: object) -> None:
            beats.append(len(beats))
            if len(beats) == 1:
                raise httpx.ReadTimeout("slow")
            beaten.set()

        monkeypatch.setattr(assignment, "HEARTBEAT_S", 0.01)
        monkeypatch.setattr(RuntimeHttpClient, "SendTaskHeartbeat", beat)
        with assignment.Assignment(folder, "token"):
            assert beaten.wait(10.0)
        count = len(beats)
        time.sleep(0.05)
        assert len(beats) == count

    def test_code_beside_the_job_is_refused_and_not_run(
        self, folder: Folder, kept: JobFolder
    ) -> None:
        signed = SignedJob(job=kept.job.to_bytes(), signature=kept.signature)
        mark = folder.state / "executed"
        code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n".encode()
        files = {"pyproject.toml": pyproject(signed).encode(), "server/launched.py": code}
        with pytest.raises(RefusalError, match="it carries other files"):
            work(folder, submit(folder, files).token)
        assert not mark.exists()

    def test_a_job_that_somebody_else_signed_is_refused(
        self, folder: Folder, kept: JobFolder
    ) -> None:
        signature = SigningKey.generate().sign("job", kept.job.to_bytes())
        signed = SignedJob(job=kept.job.to_bytes(), signature=signature)
        files = {"pyproject.toml": pyproject(signed).encode()}
        with pytest.raises(IntegrityError, match="signature of a 'job' does not hold"):
            work(folder, submit(folder, files).token)
