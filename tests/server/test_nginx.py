"""nginx, as configs/deploy says, before a real SuperLink: what passes, and what does not exist."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from privacy.keys import Identity
from server.config import Folder
from server.control import Control, LinkError
from server.link import SuperLink
from tests.server.premises import certify, found, free_port

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
CONFIG = Path(__file__).parents[2] / "configs" / "deploy" / "nginx.conf"
START_S = 90.0

pytestmark = pytest.mark.skipif(
    NGINX is None, reason="nginx is not installed: apt-get install nginx"
)


class Front:
    """nginx on a port of its own, with the shipped configuration and this folder's certificates."""

    def __init__(self, folder: Folder, base: Path) -> None:
        self.port = free_port()
        self._folder = folder
        config = base / "nginx.conf"
        config.write_text(self._adapted(CONFIG.read_text(encoding="utf-8"), base))
        self._process = subprocess.Popen(
            [
                str(NGINX), "-p", base, "-c", config, "-e", base / "error.log",
                "-g", f"daemon off; pid {base}/nginx.pid;",
            ],
        )  # fmt: skip

    def _adapted(self, text: str, base: Path) -> str:
        """Only lines that say "yours" change, and where nginx puts its own temporary files."""
        folder = self._folder
        host, port = folder.config.listens
        yours = {
            "127.0.0.1:8000": f"{host}:{port}",
            "listen 443": f"listen 127.0.0.1:{self.port}",
            "federation.example.org": "localhost",
            "/etc/fedward/tls/server.pem": str(folder.certificate),
            "/etc/fedward/tls/server.key": str(folder.certificate_key),
            "/etc/fedward/tls/ca.pem": str(folder.ca),
        }
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if line.endswith(("# yours", "`bind`", "`address`")) and "# yours" in line:
                for old, new in yours.items():
                    lines[number] = lines[number].replace(old, new)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"{kind}_temp_path {base}/{kind}; " for kind in kinds)
        return "\n".join(lines).replace("http {", "http { " + temporary, 1)

    def reload(self) -> None:
        """What `nginx -s reload` does."""
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Status, and the fingerprint of the certificate that was shown."""
        context = ssl.create_default_context(cafile=str(self._folder.ca))
        connection = HTTPSConnection("127.0.0.1", self.port, context=context, timeout=20)
        try:
            connection.request(
                method, path, body=body, headers={"content-type": "application/protobuf"}
            )
            shown = connection.sock.getpeercert(binary_form=True)
            return connection.getresponse().status, hashlib.sha256(shown or b"").hexdigest()
        finally:
            connection.close()


@pytest.fixture(scope="module", autouse=True)
def _direct() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("no_proxy", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return found(tmp_path_factory.mktemp("coordinator"))


@pytest.fixture(scope="module")
def front(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A SuperLink with the roster's nodes, and nginx before it."""
    link = SuperLink(folder)
    link.start()
    end = time.monotonic() + START_S
    with Control(folder) as control:
        while True:
            try:
                control.nodes()
                break
            except LinkError:
                assert link.running(), (folder.state / "superlink.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.1)
        for card in folder.load_roster(folder.load_key().fingerprint).members:
            control.register(card.name, card.node_key)
    nginx = Front(folder, tmp_path_factory.mktemp("nginx"))
    while True:
        try:
            nginx.ask("GET", "/")
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.05)
    yield nginx
    nginx.stop()
    link.stop()


def test_a_hospitals_node_gets_through(front: Front, folder: Folder) -> None:
    """A signed request of Flower's own client, so headers and body arrive as they were sent."""
    identity = Identity.load(folder.file.parent / "hospitals" / "north")
    public = identity.node.public_key()
    client = FleetHttpClient.from_server_address(
        f"127.0.0.1:{front.port}",
        insecure=False,
        root_certificates=folder.ca.read_bytes(),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flower-supernode"),
            NodeAuthHttpInterceptor(identity.node, public),
        ],
    )
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with client, Control(folder) as control:
        node = client.ActivateNode(
            ActivateNodeRequest(public_key=pem, heartbeat_interval=30.0)
        ).node_id
        assert [known.node for known in control.nodes() if known.online] == [node]
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        assert not any(known.online for known in control.nodes())


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/list-runs",
        "/v1/runtime/acquire-task",
        "/v1/fleet/register-node",
        "/v1/fleet/unregister-node",
        "/v1/fleet//register-node",
        "/v1/fleet/register%2dnode",
        "/v1/fleet/%72egister-node",
        "/v1/fleet/./register-node",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "/v1/fleet/pull-messages/../../control/start-run",
        "/v1/fleet/register-node/",
        "/v1/fleet/register-node;x",
        "/v1/fleet/register-node%0a",
        "/v1/fleet/",
        "/V1/FLEET/pull-messages",
        "//v1/control/start-run",
        "/health",
        "/docs",
        "/openapi.json",
        "/",
    ],
)
def test_everything_else_does_not_exist(front: Front, path: str) -> None:
    assert front.ask("POST", path)[0] == 404
    assert front.ask("GET", path)[0] == 404


def test_only_post_reaches_the_fleet(front: Front) -> None:
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert front.ask(method, "/v1/fleet/pull-messages")[0] == 404
    assert front.ask("POST", "/v1/fleet/pull-messages")[0] not in {404, 502}


def test_pieces_of_arrays_fit_and_larger_bodies_do_not(front: Front) -> None:
    assert front.ask("POST", "/v1/fleet/push-object", bytes(6 << 20))[0] not in {404, 413, 502}
    assert front.ask("POST", "/v1/fleet/push-object", bytes(17 << 20))[0] == 413


def test_only_the_lines_that_say_so_are_the_readers(front: Front) -> None:
    """Every path, address and name of an example is marked, so that none is forgotten."""
    text = re.sub(r"(?m)^ *#.*$", "", CONFIG.read_text(encoding="utf-8"))
    for line in text.splitlines():
        marked = any(word in line for word in ("/etc/", "example.org", "127.0.0.1", " 443 "))
        assert marked == ("# yours" in line), line


def test_a_renewed_certificate_is_shown_after_a_reload(front: Front, folder: Folder) -> None:
    """Last, since nginx and the SuperLink have different authorities afterwards."""
    before = front.ask("GET", "/")[1]
    certify(folder)
    front.reload()
    end = time.monotonic() + 10
    while True:
        try:
            shown = front.ask("GET", "/")[1]
            break
        except ssl.SSLError:  # still the old one, which the new authority did not issue
            assert time.monotonic() < end
            time.sleep(0.05)
    assert shown != before
