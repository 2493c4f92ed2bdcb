"""Newcomers: people who do what the pages say and nothing else come to a finished job.

The commands are the pages' own, in clean environments and folders. What a test adds is what people
do beside them: pass files on, answer questions, and put their own address and records in.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from simulations.data import breast_cancer
from tests.federation import free_port
from tests.test_documents import blocks, section

ROOT = Path(__file__).parents[1]
THREE = ROOT / "configs" / "deploy" / "three-hospitals"
HOSPITALS = ("north", "south", "east")
ANSWERS = "y\n" * 9
COMMAND_S = 120.0
JOB_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def shown(page: str, heading: str) -> list[str]:
    """The fedward commands in a section's blocks, in the order of the page."""
    text = "\n".join(blocks(section(ROOT / page, heading), ""))
    return [line.strip() for line in text.splitlines() if line.strip().startswith("fedward ")]


def clean(home: Path) -> dict[str, str]:
    """What a new user's shell has."""
    home.mkdir(exist_ok=True)
    programs = str(Path(sys.executable).parent)
    return {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}


class Person:
    """Somebody with a folder and a page.

    Args:
        folder: Theirs, where they type.
        lines: The commands of the page.
        address: What they write for the page's address.
    """

    def __init__(self, folder: Path, lines: list[str], address: str) -> None:
        folder.mkdir()
        self.folder = folder
        self._lines = iter([line.replace("federation.example.org:443", address) for line in lines])
        self._environment = clean(folder.parent / "home")

    def types(self, expected: str, **changes: str) -> str:
        """Type the page's next command, which is the expected one, and answer yes.

        Args:
            expected: How it begins, after `fedward`.
            changes: Words of the page that are somebody else's, and what stands there here.

        Returns:
            What it printed.
        """
        done = subprocess.run(
            self._next(expected, changes), cwd=self.folder, env=self._environment,
            input=ANSWERS, capture_output=True, text=True, check=False, timeout=JOB_S,
        )  # fmt: skip
        assert done.returncode == 0, (expected, done.stdout, done.stderr)
        return done.stdout

    @contextmanager
    def runs(self, expected: str) -> Iterator[None]:
        """Type the page's next command, which goes on until it is told to end."""
        with (self.folder / "output").open("wb") as output:
            process = subprocess.Popen(
                self._next(expected, {}), cwd=self.folder, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait(COMMAND_S)

    def _next(self, expected: str, changes: dict[str, str]) -> list[str]:
        line = next(self._lines)
        assert line.startswith(f"fedward {expected}"), line
        return [changes.get(word, word) for word in shlex.split(line)]

    def until(self, word: str, *command: str) -> None:
        """Look at a status until it says a word."""
        end = time.monotonic() + COMMAND_S
        while time.monotonic() < end:
            done = subprocess.run(
                ["fedward", *command], cwd=self.folder, env=self._environment,
                capture_output=True, text=True, check=True, timeout=COMMAND_S,
            )  # fmt: skip
            if re.search(word, done.stdout):
                return
            time.sleep(0.5)
        raise TimeoutError(done.stdout)


def write_records(path: Path, part: int) -> None:
    """Every third tumour, as a hospital would export them."""
    table = breast_cancer().table
    rows = [",".join(table), *(",".join(row) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join([rows[0], *rows[1 + part :: 3]]) + "\n", encoding="utf-8")


def test_hospitals_and_coordinator_come_to_a_job_by_their_pages(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = Person(
        tmp_path / "server",
        shown("docs/coordinator.md", "## Set up") + shown("docs/coordinator.md", "## Run a job"),
        address,
    )
    page = shown("docs/hospital-it.md", "## Set up")
    hospitals = {name: Person(tmp_path / name, page, address) for name in HOSPITALS}
    server.types("server init")
    config = server.folder / "server.yaml"
    text = config.read_text(encoding="utf-8")  # no nginx in between
    config.write_text(re.sub(r"(?m)^bind: .*", f"bind: {address}", text), encoding="utf-8")
    for name, person in hospitals.items():
        person.types("client init", north=name)
        shutil.copy(person.folder / f"{name}.card.json", server.folder)
    server.types("server enrol")
    for part, (name, person) in enumerate(hospitals.items()):
        shutil.copy(server.folder / "roster.json", person.folder / "sent.json")
        shutil.copy(THREE / "job.yaml", person.folder)
        shutil.copy(THREE / name / "hospital.yaml", person.folder)
        write_records(person.folder / "tumours.csv", part)
        person.types("client data-check")
        person.types("client trust")
        assert "would take part" in person.types("client consider")
    with server.runs("server up"):
        server.until(r"\(ready\)", "server", "status")
        server.types("server status")
        _run(server, list(hospitals.values()))


def _run(server: Person, hospitals: list[Person]) -> None:
    """From here on every hospital's node is up."""
    if hospitals:
        hospitals[0].types("client check")
        with hospitals[0].runs("client up"):
            _run(server, hospitals[1:])
        return
    server.until(r"(?s)(\bconnected.*){3}", "server", "status")
    server.types("new job")
    shutil.copy(THREE / "job.yaml", server.folder)
    assert "Nothing was signed or sent" in server.types("run job.yaml --dry-run")
    assert "completed after" in server.types("run job.yaml")
    for name in HOSPITALS:
        assert list((server.folder.parent / name / "models").iterdir())


def test_the_five_minutes_of_the_readme(tmp_path: Path) -> None:
    (script,) = blocks(
        section(ROOT / "README.md", "## Five minutes: a federation on one machine"), "bash"
    )
    address = f"127.0.0.1:{free_port()}"
    bind = f"sed -i 's/^bind: .*/bind: {address}/' coordinator/server.yaml\n"
    for old, new in (
        ("127.0.0.1:8000", address),
        ("fedward server enrol", f"{bind}yes | fedward server enrol"),
        ("fedward client trust", "yes | fedward client trust"),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    path = tmp_path / "script"
    # After a mistake nothing goes on in the background, and what was said comes at once.
    begin = "set -e\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n"
    path.write_text(f"{begin}{script}wait\n", encoding="utf-8")
    process = subprocess.Popen(
        ["bash", path], cwd=tmp_path, env=clean(tmp_path / "home"), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        told, complaints = process.communicate(timeout=2 * JOB_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert "completed after" in told, (told, complaints)
    assert "verified: every link" in told
