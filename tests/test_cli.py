"""The command line as a person meets it: help, exit codes, and one line for every error."""

from __future__ import annotations

import importlib.metadata
import os
import pty
import re
import resource
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn

import pytest
import typer

import fedward
from fedward import Mount
from protocol.errors import BusyError, Code, InputError, IntegrityError, RefusalError

HEAVY = ("torch", "flwr", "ray", "tenseal", "opacus", "numpy", "scipy", "matplotlib", "grpc")
FEDWARD = Path(sys.executable).with_name("fedward")


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FEDWARD, *args],
        env=os.environ | {"COLUMNS": "100"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


class TestHelp:
    def test_lists_the_three_roles(self) -> None:
        done = run("--help")
        assert done.returncode == 0
        headings = re.findall(r"─ (\w+) ─", done.stdout)
        assert headings == ["Options", "Hospital", "Coordinator", "Researcher"]
        for name in ("client", "server", "simulate", "audit", "attack"):
            assert re.search(rf"│ {name} +\S", done.stdout)

    def test_nothing_said_is_help(self) -> None:
        assert run().stdout == run("--help").stdout

    @pytest.mark.parametrize("args", [["--help"], ["--version"], ["client", "--help"]])
    def test_imports_nothing_heavy(self, args: list[str]) -> None:
        code = (
            "import sys, fedward\n"
            f"sys.argv = ['fedward', *{args!r}]\n"
            "try:\n    fedward.main()\n"
            "except SystemExit as end:\n    assert not end.code\n"
            f"print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "heavy: []"

    def test_costs_less_than_half_a_second(self) -> None:
        """Processor time of the best of three, so that a busy machine does not decide."""
        costs = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run("--help")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert min(costs) < 0.5

    @pytest.mark.parametrize("name", ["client", "server", "simulate", "audit", "attack"])
    def test_every_part_can_be_asked_for_help(self, name: str) -> None:
        done = run(name, "--help")
        assert done.returncode == 0, done.stderr
        assert f"Usage: fedward {name}" in done.stdout

    @pytest.mark.parametrize("name", ["data-check", "ledger"])
    def test_so_can_the_parts_of_the_client(self, name: str) -> None:
        done = run("client", name, "--help")
        assert done.returncode == 0, done.stderr
        assert f"Usage: fedward client {name}" in done.stdout

    def test_the_version_is_the_installed_one(self) -> None:
        done = run("--version")
        assert done.stdout == f"fedward {importlib.metadata.version('fedward')}\n"

    @pytest.mark.parametrize("args", [["clinet"], ["--verbose"], ["client", "legder"]])
    def test_a_wrong_word_is_a_usage_error(self, args: list[str]) -> None:
        done = run(*args)
        assert done.returncode == 2
        assert done.stdout == ""
        if not args[-1].startswith("--"):
            assert done.stderr.count("Did you mean") == 1


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the real command line with one function as its only part; returns the exit code."""

    def start(function: Callable[..., object], *args: str, debug: bool = False) -> int:
        module = types.ModuleType("a_part")
        module.part = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "a_part", module)
        monkeypatch.setattr(fedward._Root, "mounts", {"part": Mount("a_part:part", "A part.")})
        monkeypatch.setattr(sys, "argv", ["fedward", "part", *args])
        monkeypatch.setattr(os, "environ", os.environ | {"FEDWARD_DEBUG": "1" if debug else ""})
        with pytest.raises(SystemExit) as end:
            fedward.main()
        return int(end.value.code or 0)

    return start


def failing(error: BaseException) -> Callable[[], NoReturn]:
    def part() -> NoReturn:
        raise error

    return part


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (InputError("no file", remedy="write one"), 2, "error: no file; write one\n"),
            (IntegrityError("bad bytes"), 1, "error: bad bytes\n"),
            (BusyError("in use", found="a [bold]lock[/bold]"), 1, None),
            (RefusalError(Code.POLICY, "two\nlines"), 1, "error: two lines\n"),
        ],
    )
    def test_ours_are_one_line_and_their_exit_code(
        self,
        mounted: Callable[..., int],
        capsys: pytest.CaptureFixture[str],
        error: Exception,
        code: int,
        line: str | None,
    ) -> None:
        assert mounted(failing(error)) == code
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err == (line or f"error: {error}\n")

    def test_a_long_line_is_not_broken(
        self, mounted: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        mounted(failing(InputError("word " * 200 + "end")))
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_an_unforeseen_error_does_not_quote_itself(
        self, mounted: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Its text may hold what a patient's file held."""
        assert mounted(failing(ValueError("could not convert 'HIV positive'"))) == 1
        assert capsys.readouterr().err == (
            "error: ValueError, a defect; FEDWARD_DEBUG=1 shows the traceback\n"
        )

    def test_the_traceback_is_there_for_who_asks(self, mounted: Callable[..., int]) -> None:
        with pytest.raises(ValueError, match="the whole story"):
            mounted(failing(ValueError("the whole story")), debug=True)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Exit(130)])
    def test_an_interrupted_command_ends_with_130(
        self, mounted: Callable[..., int], error: BaseException
    ) -> None:
        assert mounted(failing(error)) == 130

    def test_an_interrupt_between_parsing_and_running(
        self, mounted: Callable[..., int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(_: object) -> NoReturn:
            raise KeyboardInterrupt

        monkeypatch.setattr(typer.main, "get_command", interrupt)
        assert mounted(failing(AssertionError())) == 130

    def test_arguments_reach_a_function_that_is_a_command(
        self, mounted: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def part(path: Path, *, times: int = 1) -> None:
            """Repeat a path.

            Twice, for example.

            Raises:
                ValueError: Never.
            """
            typer.echo(" ".join([str(path)] * times))

        assert mounted(part, "a/b", "--times", "2") == 0
        assert capsys.readouterr().out == "a/b a/b\n"
        assert mounted(part, "--help") == 0
        told = capsys.readouterr().out
        assert "Twice, for example." in told
        assert "ValueError" not in told
        assert mounted(part) == 2
        assert "Usage: fedward part" in capsys.readouterr().err

    def test_help_says_what_an_argument_is(
        self, mounted: Callable[..., int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def part(
            path: Annotated[Path, typer.Argument(help="Where the picture goes.")],
            times: Annotated[int, typer.Option(help="How often.")] = 1,
        ) -> None:
            """Draw."""

        assert mounted(part, "--help") == 0
        told = capsys.readouterr().out
        assert "Where the picture goes." in told
        assert "How often." in told

    def test_help_says_so_in_groups_of_commands_too(self) -> None:
        done = run("server", "roster", "remove", "--help", COLUMNS="100")
        assert "The hospital's name in the roster." in done.stdout

    def test_a_package_that_is_not_installed_is_named(self) -> None:
        with pytest.raises(InputError, match="'part' needs the package 'no_such_package'"):
            Mount("no_such_package.cli:app", "").load("part")

    def test_what_fedward_starts_does_not_call_home(self, mounted: Callable[..., int]) -> None:
        seen: dict[str, str] = {}

        def part() -> None:
            """Look around."""
            seen.update(os.environ)

        mounted(part)
        assert seen["FLWR_TELEMETRY_ENABLED"] == "0"
        assert seen["FLWR_DISABLE_UPDATE_CHECK"] == "1"
        assert seen["RAY_USAGE_STATS_ENABLED"] == "0"


def on_a_terminal(**environment: str) -> str:
    """What a command with an error of ours writes to a terminal."""
    code = "import fedward\nfrom protocol.errors import InputError\n"
    code += "with fedward._one_line(): raise InputError('no')"
    ours, theirs = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"TERM": "xterm-256color"} | environment,
        stderr=theirs,
        check=False,
    )
    os.close(theirs)
    written = os.read(ours, 1000).decode()
    os.close(ours)
    return written


def test_an_error_is_red_on_a_terminal_unless_colour_is_unwanted() -> None:
    assert on_a_terminal() == "\x1b[31merror:\x1b[0m no\r\n"
    assert on_a_terminal(NO_COLOR="1") == "error: no\r\n"
