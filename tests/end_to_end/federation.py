"""A consortium of three hospitals that is set up and used by nothing but the command `fedward`.

Every step is a process of the installed program, in folders and on ports of this machine, as people
would type it on theirs. The records are those of the demo: public, dealt out as CSV files.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from server.archive import Archive
from server.job_folder import JobFolder
from simulations.arrays import texts_of
from simulations.data import breast_cancer
from simulations.partition import Partition, deal
from tests.federation import free_port

HOSPITALS = ("north", "south", "east")
DATASET = "breast_cancer"
TEST_FRACTION = 0.25
COMMAND_S = 60.0
START_S = 90.0
JOB_S = 300.0
CONFIGS = Path(__file__).parents[2] / "configs"
T = TypeVar("T")
Table = Mapping[str, Sequence[str]]


def program() -> str:
    """The installed command."""
    return str(Path(sys.executable).with_name("fedward"))


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """Look again and again, until there is something to see.

    Raises:
        TimeoutError: There is nothing to see.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{what}: not within {seconds:.0f} s")


def shares() -> dict[str, dict[str, list[str]]]:
    """Each hospital's records by column, dealt out with skewed labels as in the demo."""
    table = {name: texts_of(cells) for name, cells in breast_cancer().table.items()}
    rng = np.random.Generator(np.random.PCG64(0))
    skewed = Partition(kind="dirichlet", alpha=2.0, min_size=40)
    parts = deal(skewed, table["diagnosis"], len(HOSPITALS), rng, table)
    return {
        name: {column: [cells[row] for row in part] for column, cells in table.items()}
        for name, part in zip(HOSPITALS, parts, strict=True)
    }


class Process:
    """A program that runs until it is told to end, its output in a file.

    Args:
        command: The command line.
        output: Where it writes.
        environment: Its environment.
    """

    def __init__(self, command: Sequence[str], output: Path, environment: Mapping[str, str]):
        self.command = tuple(command)
        self.output = output
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again where it ran before."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process is not None
        return self._process.pid

    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float) -> int:
        """The exit code of a process that ends by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> None:
        """Tell it to end, and end it if it does not."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a loss of power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def text(self) -> str:
        """What it wrote."""
        return self.output.read_text(encoding="utf-8", errors="replace")


class Federation:
    """Three hospitals and a coordinator, each with a folder of its own.

    Args:
        folder: An empty folder.
        door: Port at which hospitals reach the coordinator, None for the one where it listens.
        policy: What hospitals' policies say besides the usual.
        command: Starts a node in place of `fedward client up`; the configuration follows.
        source: Where a hospital's records are, as its configuration says it; None for its CSV file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        door: int | None = None,
        policy: Mapping[str, object] | None = None,
        command: Sequence[str] = (),
        source: Callable[[str], Mapping[str, object]] | None = None,
    ) -> None:
        self.folder = folder
        self._source = source or (lambda _: {"kind": "csv", "path": "tumours.csv"})
        self._policy = dict(policy or {})
        self._command = tuple(command)
        self.port = free_port()
        self.address = f"127.0.0.1:{door or self.port}"
        self.server = folder / "coordinator"
        self.nodes: dict[str, Process] = {}
        self.commands: list[Process] = []
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = {
            **kept,
            "FEDWARD_SERVER": str(self.server / "server.yaml"),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
        }
        self.coordinator = self._process(("server", "up"), "coordinator.output")

    def config(self, name: str) -> Path:
        """A hospital's configuration."""
        return self.folder / name / "hospital.yaml"

    # -- set up ---------------------------------------------------------------------------------

    def found(self) -> None:
        """What people do before the first job, up to three nodes that run."""
        self.say("server", "init", self.server, "--address", self.address)
        self._bind()
        cards = [self._join(name) for name in HOSPITALS]
        agreed = [word for card in cards for word in ("--yes", card["fingerprint"])]
        roster = self.say("server", "enrol", *(card["card"] for card in cards), *agreed)
        self.coordinator.start()
        self.at_once(
            lambda name: self.say(
                *("client", "trust", self.server / "roster.json"),
                *("--config", self.config(name), "--yes", roster["digest"]),
            )
        )
        until(lambda: self.status()["ready"], START_S, "the coordinator is ready")
        self.run("client", "check", self.config(HOSPITALS[0]))
        self.start_nodes()

    def _bind(self) -> None:
        path = self.server / "server.yaml"
        text = path.read_text(encoding="utf-8")
        assert "\nbind: 127.0.0.1:8000\n" in text
        text = text.replace("\nbind: 127.0.0.1:8000\n", f"\nbind: 127.0.0.1:{self.port}\n")
        path.write_text(text.replace("\npatience_s: 600\n", "\npatience_s: 90\n"), encoding="utf-8")

    def _join(self, name: str) -> dict[str, Any]:
        """A hospital's folder, records and configuration; returns its card as the command says."""
        card = self.say("client", "init", self.folder / name, "--name", name)
        with (self.folder / name / "tumours.csv").open("w", newline="", encoding="utf-8") as file:
            table = shares()[name]
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*table.values(), strict=True))
        self._configure(name)
        return card

    def _configure(self, name: str) -> None:
        """Say what the hospital has and what jobs may do, as its administrator would."""
        path = self.config(name)
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        document["datasets"] = {
            DATASET: {
                "source": dict(self._source(name)),
                "population": "tumours",
                "test_fraction": TEST_FRACTION,
            }
        }
        budget = {"epsilon": 500.0, "epsilon_worst": 5000.0, "delta": 1e-5}
        document["populations"] = {"tumours": {"public": True, "budget": budget}}
        document["policy"] |= {"epsilon_worst_per_job": 100.0, "publish_metrics": True}
        document["policy"] |= self._policy
        document["node"]["threads"] = 1
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    # -- run ------------------------------------------------------------------------------------

    def start_nodes(self, *command: str) -> None:
        """Start every hospital's node, by `fedward client up` or another command, and wait.

        Args:
            command: In place of the program and its two words; the configuration follows.
        """
        usual = self._command or (program(), "client", "up")
        for name in HOSPITALS:
            words = (*(command or usual), str(self.config(name)))
            self.nodes[name] = Process(words, self.folder / f"{name}.output", self.environment)
            self.nodes[name].start()
        self.await_nodes()

    def await_nodes(self) -> None:
        """Wait until the coordinator sees all three."""
        until(
            lambda: list(self.status()["hospitals"].values()) == [True] * 3,
            START_S,
            "three nodes are connected",
        )

    def stop_nodes(self) -> None:
        """End every hospital's node."""
        with ThreadPoolExecutor(len(HOSPITALS)) as pool:
            list(pool.map(Process.stop, self.nodes.values()))

    def job(self, name: str, **changes: object) -> Path:
        """A job's file: that of the demo, for these three hospitals, in four rounds.

        Args:
            name: The job's name.
            changes: Further keys; mappings are merged into what the file says.
        """
        document = yaml.safe_load((CONFIGS / "jobs" / f"{DATASET}.yaml").read_text("utf-8"))
        sites = [{"name": name, "train_size": 140, "test_size": 50} for name in HOSPITALS]
        document |= {"name": name, "sites": sites, "timeout_s": 60}
        document["training"]["rounds"] = 4
        for key, value in changes.items():
            if isinstance(value, Mapping):
                document[key] = {**document.get(key, {}), **value}
            else:
                document[key] = value
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return path

    def launch(self, job: Path) -> Process:
        """`fedward run`, watching."""
        watcher = self._process(("run", str(job)), f"{job.stem}.output")
        self.commands.append(watcher)
        watcher.start()
        return watcher

    def complete(self, job: Path) -> dict[str, Any]:
        """`fedward run`, to the end of a job that must be completed; what it says of it."""
        return self.say("run", job, seconds=JOB_S)

    def kept(self, name: str) -> JobFolder:
        """A job as the coordinator keeps it."""
        return Archive(self.server / "jobs").find(name)

    # -- look -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `fedward server status` says, read where the command reads it."""
        path = self.server / "state" / "status.json"
        if not self.coordinator.running() or not path.exists():
            return {"ready": False, "hospitals": {}}
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def node_status(self, name: str) -> dict[str, Any]:
        """What a hospital's node says of itself."""
        path = self.folder / name / "node" / "status.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def models(self, name: str) -> dict[str, str]:
        """SHA-256 of a model's weights by hospital, as the cards in their stores say."""
        found = {}
        for hospital in HOSPITALS:
            versions = self.folder / hospital / "models" / name
            for card in sorted(versions.glob("*/card.json")):
                assert card.parent.name == "1", f"{hospital} has a second version of {name}"
                document = json.loads(card.read_text(encoding="utf-8"))
                found[hospital] = document["digests"]["weights"]
        return found

    def ledgers(self) -> dict[str, dict[str, Any]]:
        """What every hospital's verified ledger says."""
        return self.at_once(
            lambda name: self.say("client", "ledger", "--verify", "--config", self.config(name))
        )

    def journal(self, name: str) -> list[dict[str, Any]]:
        """A hospital's journal."""
        path = self.folder / name / "journal.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    # -- commands -------------------------------------------------------------------------------

    def run(self, *words: object, seconds: float = COMMAND_S) -> str:
        """Run a command that must succeed; what it prints."""
        done = subprocess.run(
            [program(), *map(str, words)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def say(self, *words: object, seconds: float = COMMAND_S) -> dict[str, Any]:
        """Run a command that must succeed; the JSON that it prints."""
        found: dict[str, Any] = json.loads(self.run(*words, "--json", seconds=seconds))
        return found

    def at_once(self, act: Callable[[str], T]) -> dict[str, T]:
        """Let all hospitals do the same."""
        with ThreadPoolExecutor(len(HOSPITALS)) as pool:
            return dict(zip(HOSPITALS, pool.map(act, HOSPITALS), strict=True))

    def close(self) -> None:
        """End everything that was started."""
        for command in self.commands:
            command.stop()
        self.stop_nodes()
        self.coordinator.stop()

    def _process(self, words: Sequence[str], output: str) -> Process:
        return Process((program(), *words), self.folder / output, self.environment)


@contextmanager
def federation(made: Federation) -> Iterator[Federation]:
    """A federation that runs; everything is ended afterwards."""
    try:
        made.found()
        yield made
    finally:
        made.close()
