"""A consortium on this machine's loopback: founded, connected and run by the commands people type.

Everything is what hospitals run: TLS with a private authority, Flower's node authentication, one
process tree for each hospital and one for the coordinator. Flower's own nodes can take the places
of ours, with the same keys, beside a SuperLink with Flower's settings.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import stock
import yaml
from flwr.cli.build import build_fab_from_files
from flwr.proto.control_pb2 import StartRunRequest
from flwr.proto.fab_pb2 import Fab
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from protocol.errors import FedwardError
from server.archive import Archive
from server.config import ENVIRONMENT, Folder
from server.control import Control, LinkError
from server.job_folder import JobFolder

NAMES = ("north", "south", "east")
START_S = 120.0
END_S = 20.0
PROGRAMS = Path(sys.executable).parent
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A founded consortium.

    Args:
        base: A folder with one folder for the coordinator and one for each hospital.
    """

    base: Path

    @property
    def folder(self) -> Folder:
        """The coordinator's."""
        return Folder.open(self.base / "server" / "server.yaml")

    def config(self, name: str) -> Path:
        """A hospital's configuration."""
        return self.base / name / "hospital.yaml"

    def log(self, name: str) -> list[dict[str, Any]]:
        """What a hospital's node noted so far."""
        lines = (self.base / name / "node" / "logs" / "node.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def found(base: Path, configs: Mapping[str, Mapping[str, object]]) -> Place:
    """Found a consortium: keys, cards, roster, trust; then the hospitals' own configurations."""
    place = Place(base)
    address = f"127.0.0.1:{_free_port()}"
    server = str(base / "server" / "server.yaml")
    _fedward("server", "init", str(base / "server"), "--address", address)
    text = Path(server).read_text(encoding="utf-8")
    document = {**yaml.safe_load(text), "bind": address}
    Path(server).write_text(yaml.safe_dump(document), encoding="utf-8")
    told = [
        _said("client", "init", str(base / name), "--name", name) | {"name": name}
        for name in configs
    ]
    agreed = [word for one in told for word in ("--yes", one["fingerprint"])]
    _said("server", "enrol", *(one["card"] for one in told), "--server", server, *agreed)
    roster = _said("server", "roster", "show", "--server", server)
    for name, config in configs.items():
        place.config(name).write_text(yaml.safe_dump({"name": name, **config}), encoding="utf-8")
        _said(
            *("client", "trust", str(base / "server" / "roster.json")),
            *("--config", str(place.config(name)), "--yes", roster["digest"]),
        )
    return place


# -- our own processes ----------------------------------------------------------------------------


@contextmanager
def ours(place: Place) -> Iterator[dict[str, int]]:
    """Our coordinator and nodes, connected; process numbers of the trees' roots by name."""
    with ExitStack() as stack:
        server = ("server", "up", str(place.folder.file))
        programs = {"coordinator": server}
        programs |= {name: ("client", "up", str(place.config(name))) for name in NAMES}
        roots = {}
        for name, words in programs.items():
            command = [str(PROGRAMS / "fedward"), *words]
            roots[name] = stack.enter_context(_running(place, name, command, {}))
        wait_for(lambda: _connected(place), START_S)
        yield roots


def _connected(place: Place) -> bool:
    told = _said("server", "status", "--server", str(place.folder.file))
    return bool(told["ready"]) and all(told["hospitals"].values()) and bool(told["hospitals"])


def run_ours(place: Place, job: Path) -> JobFolder:
    """Launch a job and wait for its end."""
    told = _said("run", str(job), "--server", str(place.folder.file))
    if told["status"] != "completed":
        raise FedwardError(f"the job {told['status']}: {told['reason']}")
    return Archive(place.folder.jobs).find(told["digest"])


# -- Flower's own processes -----------------------------------------------------------------------


@contextmanager
def flowers(place: Place) -> Iterator[dict[str, int]]:
    """Flower's own SuperLink and SuperNodes, as their programs come, connected."""
    with ExitStack() as stack:
        environment = {ENVIRONMENT: str(place.folder.file), "PYTHONPATH": _here()}
        roots = {
            "coordinator": stack.enter_context(
                _running(place, "superlink", _superlink(place), environment)
            )
        }
        # A node that finds no SuperLink tries again after a pause.
        wait_for(lambda: _listens(place), START_S)
        for name in NAMES:
            own = environment | {
                stock.HOSPITAL: str(place.config(name)),
                stock.TIMES: str(place.base / name / "times"),
            }
            roots[name] = stack.enter_context(
                _running(place, f"{name}-flower", _supernode(place, name), own)
            )
        wait_for(lambda: _online(place) == len(NAMES), START_S)
        yield roots


def submit(place: Place, text: str) -> int:
    """Start a run of a bundle that holds this pyproject.toml; its number."""
    content, _ = build_fab_from_files({"pyproject.toml": text.encode()})
    client = ControlHttpClient.from_server_address(
        server_address=place.folder.config.bind,
        insecure=False,
        root_certificates=place.folder.ca.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        return int(client.StartRun(StartRunRequest(fab=Fab(content=content))).run_id)
    finally:
        client.close()


def wait_for_run(place: Place, run: int, seconds: float) -> None:
    """Wait until a run is over.

    Raises:
        FedwardError: It failed, or took too long.
    """
    with Control(place.folder) as control:
        wait_for(lambda: _over(control, run), seconds)
        if not (ending := control.run(run).ending).startswith("completed"):
            raise FedwardError("a run on Flower's own nodes", expected="completed", found=ending)


def _over(control: Control, run: int) -> bool:
    """Whether a run is over; a SuperLink that is too busy to say is asked again."""
    try:
        return control.run(run).over
    except LinkError:
        return False


def _superlink(place: Place) -> list[str]:
    folder = place.folder
    host, port = folder.config.listens
    return [
        str(PROGRAMS / "flower-superlink"),
        *("--host", host, "--port", str(port)),
        *("--ssl-certfile", str(folder.certificate), "--ssl-keyfile", str(folder.certificate_key)),
        *("--ssl-ca-certfile", str(folder.ca)),
        *("--database", str(folder.state / "superlink.sqlite")),
        *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
    ]


def _supernode(place: Place, name: str) -> list[str]:
    return [
        str(PROGRAMS / "flower-supernode"),
        *("--superlink", place.folder.config.bind),
        *("--root-certificates", str(place.folder.ca)),
        *("--auth-supernode-private-key", str(place.base / name / "keys" / "node.key")),
        *("--host", "127.0.0.1", "--port", str(_free_port())),
    ]


def _listens(place: Place) -> bool:
    try:
        with Control(place.folder) as control:
            control.nodes()
    except FedwardError:
        return False
    return True


def _online(place: Place) -> int:
    with Control(place.folder) as control:
        return sum(node.online for node in control.nodes())


# -- processes ------------------------------------------------------------------------------------


@contextmanager
def _running(
    place: Place, name: str, command: list[str], environment: Mapping[str, str]
) -> Iterator[int]:
    """A process that is told to end; its output is kept beside the consortium."""
    with (place.base / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**_environment(place, name), **environment},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(place: Place, name: str) -> dict[str, str]:
    path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", "")])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    home = {"FLWR_HOME": str(place.base / "flower" / name)}
    return kept | QUIET | home | {"PATH": path, "NO_PROXY": "127.0.0.1,localhost"}


def _here() -> str:
    return str(Path(__file__).parent)


def _fedward(*words: str) -> str:
    command = [str(PROGRAMS / "fedward"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    if done.returncode not in {0, 1} or not done.stdout:
        raise FedwardError(f"fedward {' '.join(words[:2])} failed", found=done.stderr[-500:])
    return done.stdout


def _said(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_fedward(*words, "--json"))
    return found


def wait_for(look: Callable[[], T], seconds: float) -> T:
    """The first true answer.

    Raises:
        FedwardError: There was none in time.
    """
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise FedwardError(f"waited {seconds:.0f} s in vain")
        time.sleep(1.0)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
