"""A real SuperLink on loopback, the hospitals that it knows, and a test in the ServerApp's place.

Everything between a test and a hospital's node is what runs in production: TLS with a private
authority, Flower's node authentication, its bundles and its chunks. Only the ServerApp is missing:
the test claims the run's task itself and sends packets through Flower's Grid.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from flwr.app import Message, MessageType
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
    SendTaskHeartbeatRequest,
)
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from client.node_state import StateFolder
from privacy.keys import load_node_key
from protocol.bundle import SignedJob, pyproject
from protocol.messages import Body, Packet, Place, pack
from protocol.records import parts_of, to_record
from protocol.roster import Roster
from protocol.signing import SigningKey
from protocol.trust import Trust
from simulations.consortium import CONFIG, Consortium

START_S = 30.0
T = TypeVar("T")


@dataclass(frozen=True)
class Certificates:
    """Files of a private authority and of a server on this machine."""

    ca: Path
    certificate: Path
    key: Path


def certify(folder: Path) -> Certificates:
    """A private authority, and a certificate for 127.0.0.1 that it signed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    files.ca.write_bytes(_certificate("authority", authority, authority, ca=True))
    files.certificate.write_bytes(_certificate("127.0.0.1", server, authority, ca=False))
    pem = server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.key.write_bytes(pem)
    return files


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *, ca: bool
) -> bytes:
    now = datetime.now(UTC)
    public, authority = key.public_key(), signer.public_key()
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(alternative, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connect(consortium: Consortium, address: str, ca: str) -> Consortium:
    """Let every hospital pin a roster that leads to a real coordinator.

    Args:
        consortium: As `tests.consortium.make_consortium` made it.
        address: Where its SuperLink listens.
        ca: The authority's certificate, PEM.
    """
    before = consortium.roster
    roster = replace(before, sequence=before.sequence + 1, address=address, ca=ca)
    signed = roster.sign(consortium.coordinator)
    for name in consortium.names:
        folder = consortium.folder / name
        Trust.load(folder / "trust.json").adopt(roster).save(folder / "trust.json")
        (folder / "roster.json").write_bytes(signed)
    return replace(consortium, roster=Roster.verify(signed, consortium.coordinator.fingerprint))


class SuperLink:
    """A SuperLink that starts no ServerApp: a test takes its place.

    Args:
        folder: For its database, certificates and output.
        port: Where it listens on loopback.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{port}"
        self.files = certify(folder)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> bytes:
        """The authority's certificate."""
        return self.files.ca.read_bytes()

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = Path(sys.executable).with_name("flower-superlink")
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [
                    str(program), "--isolation", "process", "--enable-supernode-auth",
                    "--host", "127.0.0.1", "--port", str(self._port),
                    "--ssl-certfile", str(self.files.certificate),
                    "--ssl-keyfile", str(self.files.key),
                    "--ssl-ca-certfile", str(self.files.ca),
                    "--database", str(self.folder / "superlink.sqlite"),
                    "--disable-runtime-dependency-installation",
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "FLWR_HOME": str(self.folder / "flwr"),
                    "FLWR_TELEMETRY_ENABLED": "0",
                    "FLWR_DISABLE_UPDATE_CHECK": "1",
                    "NO_PROXY": "127.0.0.1,localhost",
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )  # fmt: skip
        try:
            wait_for(self._listens, START_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def kill(self) -> None:
        """End it as a loss of power would."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def register(self, key: Path) -> int:
        """Let a node in by its key file.

        Returns:
            The node's number.
        """
        public = public_key_to_bytes(load_node_key(key).public_key())
        with self._control() as control:
            return int(control.RegisterNode(RegisterNodeRequest(public_key=public)).node_id)

    def submit(self, files: Mapping[str, bytes]) -> int:
        """Start a run with a bundle of these files.

        Returns:
            The run's number.
        """
        content, _ = build_fab_from_files(dict(files))
        fab = fab_to_proto(Fab("", content, {}))
        with self._control() as control:
            return int(control.StartRun(StartRunRequest(fab=fab)).run_id)

    def submit_job(self, signed: SignedJob) -> int:
        """Start a run with a signed job's bundle."""
        return self.submit({"pyproject.toml": pyproject(signed).encode()})

    @contextmanager
    def serverapp(self) -> Iterator[Coordinator]:
        """Be the ServerApp of the next run that waits for one."""
        runtime = RuntimeHttpClient.from_server_address(
            self.address, insecure=False, root_certificates=self.ca, interceptors=[_version()]
        )
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        token = wait_for(lambda: runtime.AcquireTask(request).token, START_S)
        runtime.close()
        grid = HttpGrid(self.address, root_certificates=self.ca, token=token)
        over = threading.Event()
        beat = threading.Thread(target=_beat, args=(grid, over), daemon=True)
        beat.start()
        response = grid._runtime_client.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id = response.task_id
        TaskIdentity.run_id = response.run.run_id
        TaskIdentity.node_id = response.context.node_id
        grid.set_run(run_from_proto(response.run))
        try:
            yield Coordinator(grid)
        finally:
            over.set()
            beat.join()
            grid._runtime_client.PushTaskOutput(
                PushTaskOutputRequest(context=response.context, sub_status="completed")
            )
            grid.close()

    def _control(self) -> ControlHttpClient:
        return ControlHttpClient.from_server_address(
            self.address, insecure=False, root_certificates=self.ca, interceptors=[_version()]
        )

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError((self.folder / "output").read_text())
        try:
            verify = ssl.create_default_context(cafile=str(self.files.ca))
            with httpx.Client(verify=verify, trust_env=False) as client:
                return client.get(f"https://{self.address}/health").is_success
        except httpx.HTTPError:
            return False


def packet(
    coordinator: SigningKey, body: Body, place: Place, *, recipient: str = "*", seconds: float = 60
) -> Packet:
    """A coordinator's packet."""
    return pack(body, place, coordinator, recipient=recipient, deadline=time.time() + seconds)


class Coordinator:
    """What a ServerApp can do, for a test that is in its place.

    Args:
        grid: Flower's view of the nodes.
    """

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid

    def wait_for_nodes(self, count: int, seconds: float = START_S) -> set[int]:
        """The nodes, once as many are connected."""

        def look() -> set[int] | None:
            nodes = set(self._grid.get_node_ids())
            return nodes if len(nodes) >= count else None

        return wait_for(look, seconds)

    def send(self, node: int, request: Packet) -> str:
        """Send a packet.

        Returns:
            The message's identifier.
        """
        content = to_record(request.to_wire())
        message = Message(content, dst_node_id=node, message_type=MessageType.TRAIN, ttl=120.0)
        (sent,) = self._grid.push_messages([message])
        return sent

    def reply(self, sent: str, seconds: float = START_S) -> Packet | str:
        """The answer to a message: a packet, or the text of an error."""

        def look() -> list[Message]:
            return list(self._grid.pull_messages([sent]))

        (message,) = wait_for(look, seconds)
        if message.has_error():
            return str(message.error.reason)
        return Packet.from_wire(parts_of(message.content))

    def ask(self, node: int, request: Packet, seconds: float = START_S) -> Packet | str:
        """Send a packet and wait for the answer: a packet, or the text of an error."""
        return self.reply(self.send(node, request), seconds)


class Node:
    """A hospital's node, `fedward client up`, as a process.

    Args:
        config: The hospital's configuration file.
    """

    def __init__(self, config: Path) -> None:
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def folder(self) -> StateFolder:
        """Its state folder."""
        return StateFolder(self.config.parent / "node")

    def start(self, *command: str) -> None:
        """Start it, in place of `fedward client up CONFIG` by another command."""
        program = str(Path(sys.executable).with_name("fedward"))
        with (self.config.parent / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command or (program, "client", "up", str(self.config)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self, seconds: float = 30.0) -> int:
        """Tell it to end.

        Returns:
            Its exit code.
        """
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it as a loss of power would; its children end with it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """What it wrote."""
        return (self.config.parent / "output").read_text()


def wait_for(look: Callable[[], T | None], seconds: float) -> T:
    """Look again and again, until there is something to see.

    Raises:
        TimeoutError: There is nothing to see.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError(f"nothing within {seconds} s")


def hospital_config(consortium: Consortium, name: str) -> Path:
    """The configuration file of a hospital."""
    return consortium.folder / name / CONFIG


def _version() -> RuntimeVersionHttpInterceptor:
    return RuntimeVersionHttpInterceptor(component_name="flwr-test")


def _beat(grid: HttpGrid, over: threading.Event) -> None:
    while not over.wait(5.0):
        grid._runtime_client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
