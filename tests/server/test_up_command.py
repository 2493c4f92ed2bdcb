"""How the running coordinator speaks, and what it needs of its surroundings."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import fedward
from protocol.bundle import SignedJob, open_bundle
from protocol.errors import InputError
from protocol.keyfile import replace_file
from server import up_command
from server.config import Folder
from server.control import Control, LinkError, build_bundle
from server.link import SuperLink, environment
from server.presence import hold, lock_of
from tests.server.premises import found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return found(tmp_path_factory.mktemp("coordinator"))


def test_elsewhere_than_on_a_terminal_every_line_is_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    up_command.telling()("job", "sepsis-1: [submitted]")
    entry = json.loads(capsys.readouterr().err)
    assert (entry["kind"], entry["text"]) == ("job", "sepsis-1: [submitted]")
    assert entry["time"].endswith("+00:00")


def test_a_log_that_takes_no_line_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, as it must
    monkeypatch.setattr(sys, "stderr", file)
    up_command.telling()("job", "sepsis-1: submitted")
    with pytest.raises(OSError, match="No space left"):
        file.close()


def test_on_a_terminal_lines_are_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(Console):
        def __init__(self, **_: object) -> None:
            super().__init__(stderr=True, force_terminal=True, color_system=None)

    monkeypatch.setattr(up_command, "Console", Terminal)
    up_command.telling()("error", "no [bold] space")
    assert capsys.readouterr().err.endswith(" error     no [bold] space\n")


def test_signals_end_it_or_renew_it() -> None:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    kept[signal.SIGHUP] = signal.getsignal(signal.SIGHUP)
    stop, renew = threading.Event(), threading.Event()
    try:
        up_command._on_signals(stop, renew)
        os.kill(os.getpid(), signal.SIGHUP)
        assert (renew.wait(1), stop.is_set()) == (True, False)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(1)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def test_a_second_one_in_the_same_folder_is_refused(folder: Folder) -> None:
    with hold(lock_of(folder)):
        done = CliRunner().invoke(fedward.app, ["server", "up", str(folder.file)])
    assert "a coordinator is running here already" in str(done.exception)


def test_what_is_wrong_is_said_before_anything_starts(folder: Folder) -> None:
    kept = folder.roster.rename(folder.roster.with_suffix(".away"))
    done = CliRunner().invoke(fedward.app, ["server", "up", str(folder.file)])
    kept.rename(folder.roster)
    assert isinstance(done.exception, InputError)
    assert not (folder.state / "superlink.sqlite").exists()


class TestEnvironment:
    def test_children_call_nobody_and_find_the_folder(self, folder: Folder) -> None:
        given = environment(folder)
        assert given["FEDWARD_SERVER"] == str(folder.file)
        assert given["FLWR_HOME"] == str(folder.state / "flower")
        assert (given["FLWR_TELEMETRY_ENABLED"], given["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")

    def test_this_machine_is_never_asked_through_a_proxy(
        self, folder: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("no_proxy", "intranet.example.org")
        given = environment(folder)
        assert given["NO_PROXY"] == given["no_proxy"]
        hosts = given["NO_PROXY"].split(",")
        assert {"127.0.0.1", "localhost", "intranet.example.org"} <= set(hosts)


def test_a_bundle_is_the_signed_job_and_no_code() -> None:
    signed = SignedJob(job=b"{}", signature=bytes(64))
    assert open_bundle(build_bundle(signed)) == signed


def test_a_superlink_that_was_never_started(folder: Folder) -> None:
    link = SuperLink(folder)
    assert (link.pid, link.running()) == (0, False)
    link.stop()


def test_a_superlink_that_does_not_answer(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder.state.mkdir(mode=0o700, exist_ok=True)
    replace_file(folder.superlink_secret, b"secret")
    with Control(folder) as control:
        for ask in (control.nodes, lambda: control.run(1), lambda: control.stop_run(1)):
            with pytest.raises(LinkError, match="did not answer; found ConnectError"):
                ask()


def test_the_folder_is_found_from_any_other(folder: Folder) -> None:
    """Nothing depends on where the command is typed."""
    assert Path(environment(folder)["FEDWARD_SERVER"]).is_absolute()
