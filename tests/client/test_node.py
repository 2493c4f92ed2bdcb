"""Real nodes on a real SuperLink: TLS, node authentication, Flower's SuperNode, real children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.node import environment, run
from client.node_config import NodeConfig
from client.stopping import Stop as StopSignal
from client.supervisor import NO_ANSWER
from protocol.bundle import SignedJob, pyproject
from protocol.errors import InputError
from protocol.jobs import Job
from protocol.messages import Enrol, Packet, Place, Refused, Stop
from tests import federation
from tests.client import zygotes
from tests.consortium import make_consortium, make_job, make_request
from tests.federation import Node, SuperLink, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


class Federation:
    """A SuperLink, one hospital that it knows, and the hospital's node."""

    def __init__(self, folder: Path) -> None:
        self.superlink = SuperLink(folder / "superlink", federation.free_port())
        consortium = make_consortium(folder / "consortium")
        self.consortium = federation.connect(
            consortium, self.superlink.address, self.superlink.ca.decode()
        )
        self.home = self.consortium.folder / "north"
        self.node = Node(federation.hospital_config(self.consortium, "north"))
        self.job = make_job(self.consortium, make_request())
        self.number = 0

    def open(self) -> None:
        self.superlink.start()
        self.number = self.superlink.register(self.home / "keys" / "node.key")

    def signed(self, job: Job) -> SignedJob:
        data = job.to_bytes()
        return SignedJob(job=data, signature=self.consortium.coordinator.sign("job", data))

    def enrol(self, job: Job) -> Packet:
        signed = self.signed(job)
        body = Enrol(signature=signed.signature, heads={}, job=signed.job)
        return self.packet(body, job)

    def packet(self, body: Enrol | Stop, job: Job) -> Packet:
        return federation.packet(self.consortium.coordinator, body, Place(job=job.digest))

    def child(self) -> int | None:
        """The job's process, once an answer is under way."""
        found = self.node.folder.load_status().get("processes", {})
        return next(iter(found.values()), None)

    def connected(self, *, after: int = 0, starts: int = 1) -> bool:
        """Whether a node that is not process `after` says that it is connected."""
        status = self.node.folder.load_status()
        fresh = status["pid"] != after and status["supernode"]["starts"] == starts
        return fresh and bool(status["connected"])

    def close(self) -> None:
        self.node.kill()
        self.superlink.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Federation]:
    opened = Federation(tmp_path)
    try:
        opened.open()
        yield opened
    finally:
        opened.close()


def test_a_node_answers_over_the_network_and_outlives_its_children(place: Federation) -> None:
    place.superlink.submit_job(place.signed(place.job))
    place.node.start()
    with place.superlink.serverapp() as coordinator:
        coordinator.wait_for_nodes(1)
        # A child that is killed while it computes is an error at once ...
        sent = coordinator.send(place.number, place.enrol(place.job))
        pid = wait_for(place.child, 30)
        os.kill(pid, signal.SIGKILL)
        assert coordinator.reply(sent, 10) == NO_ANSWER
        # ... and the next message is answered by another.
        answer = coordinator.ask(place.number, place.enrol(place.job))
        assert isinstance(answer, Packet)
        assert answer.kind == "enrolled"
        assert place.child() != pid
        # Nobody else may be this hospital's node meanwhile.
        second = subprocess.run(
            [Path(sys.executable).with_name("fedward"), "client", "up", place.node.config],
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert b"a node runs on this folder already" in second.stderr
        # Ended in the middle of a job, it has said goodbye, and the SuperLink knows.
        assert place.node.stop() == 0
        assert not (place.node.folder.path / "node_id").exists()
    assert "Traceback" not in place.node.log()


def test_code_that_comes_with_a_run_is_never_run(
    place: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    witness = tmp_path / "ran"
    code = f"open({str(witness)!r}, 'w')\n".encode()
    text = pyproject(place.signed(place.job)).encode()
    place.superlink.submit({"pyproject.toml": text, "client/app.py": code, "torch.py": code})
    # In a thread of this process, so that what runs is seen to be run.
    stop = StopSignal(5.0)
    node = threading.Thread(target=run, args=(place.node.config,), kwargs={"stop": stop})
    node.start()
    try:
        with place.superlink.serverapp() as coordinator:
            coordinator.wait_for_nodes(1)
            answer = coordinator.ask(place.number, place.enrol(place.job))
    finally:
        stop.tell()
        node.join(30)

    assert not node.is_alive()
    assert isinstance(answer, Packet)
    assert answer.kind == Refused.KIND
    assert b'"reason":"integrity"' in answer.header
    assert not witness.exists()
    assert "other files" in (place.home / "journal.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_heartbeats_go_on_while_a_child_computes_in_c(place: Federation) -> None:
    """Flower gives a task up after 60 s without a heartbeat; the child is silent for longer."""
    script = (
        "import sys; from pathlib import Path; from client.node import run;"
        "run(Path(sys.argv[1]), zygote_command=(sys.executable, sys.argv[2], 'spin'))"
    )
    place.superlink.submit_job(place.signed(place.job))
    place.node.start(sys.executable, "-c", script, str(place.node.config), str(zygotes.__file__))
    with place.superlink.serverapp() as coordinator:
        coordinator.wait_for_nodes(1)
        begin = time.monotonic()
        enrol = federation.packet(
            place.consortium.coordinator,
            Enrol(
                signature=place.signed(place.job).signature,
                heads={},
                job=place.job.to_bytes(),
            ),
            Place(job=place.job.digest),
            seconds=200,
        )

        answer = coordinator.ask(place.number, enrol, 150)

    assert isinstance(answer, Packet), answer
    assert answer.kind == "enrolled"
    assert time.monotonic() - begin > zygotes.SPIN_S


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_node_that_was_killed_comes_back_at_once_and_goes_on(place: Federation) -> None:
    place.superlink.submit_job(place.signed(place.job))
    place.node.start()
    with place.superlink.serverapp() as coordinator:
        coordinator.wait_for_nodes(1)
        first = coordinator.ask(place.number, place.enrol(place.job))
        assert isinstance(first, Packet)
        status = place.node.folder.load_status()
        place.node.kill()
        wait_for(
            lambda: not _alive([*status["processes"].values(), status["supernode"]["pid"]]), 10
        )

        begin = time.monotonic()
        place.node.start()
        wait_for(lambda: place.connected(after=status["pid"]), 40)
        again = coordinator.ask(place.number, place.enrol(place.job), 40)
        assert isinstance(again, Packet), again
        assert again.kind == "enrolled"
        assert time.monotonic() - begin < 50  # SuperLink keeps a dead node's place for 60 s

        # Flower's node alone is killed: it is started again, and has its place back.
        os.kill(place.node.folder.load_status()["supernode"]["pid"], signal.SIGKILL)
        wait_for(lambda: place.connected(starts=2), 40)
        stopped = coordinator.ask(place.number, place.packet(Stop(reason="over"), place.job), 60)
        assert isinstance(stopped, Packet), stopped
        assert stopped.kind == "stopped"


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_roster_of_a_simulation_leads_nowhere(tmp_path: Path) -> None:
    consortium = make_consortium(tmp_path)

    with pytest.raises(InputError, match="no certificate authority"):
        run(federation.hospital_config(consortium, "north"), stop=StopSignal(1.0))


def test_children_get_no_more_of_the_environment_than_they_need(tmp_path: Path) -> None:
    own = {"PATH": "/bin", "AWS_SECRET": "x"}

    found = environment(NodeConfig(), tmp_path, own)

    assert found["PATH"] == "/bin"
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["NO_PROXY"] == "127.0.0.1,localhost"
    assert "AWS_SECRET" not in found


def test_the_ways_out_are_those_that_check_tries(tmp_path: Path) -> None:
    def ways(own: dict[str, str], proxy: str | None = None) -> dict[str, str]:
        found = environment(NodeConfig(proxy=proxy), tmp_path, own)
        return {name: value for name, value in found.items() if name.endswith("_PROXY")}

    own = {"https_proxy": "http://elsewhere:1", "NO_PROXY": ".example.org", "ALL_PROXY": ""}
    spared = "127.0.0.1,localhost"

    assert ways({}) == {"NO_PROXY": spared}
    assert ways(own) == {
        "HTTPS_PROXY": "http://elsewhere:1",
        "NO_PROXY": f"{spared},.example.org",
    }
    # The configuration comes first, whatever the environment spares.
    assert ways(own, "http://proxy:3128") == {
        "HTTPS_PROXY": "http://proxy:3128",
        "NO_PROXY": spared,
    }
