"""The webhook against a real server on this machine: delivery, retries, and nobody kept waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from server.webhook import MAX_WAITING, Webhook
from tests.server.premises import free_port


class Receiver(ThreadingHTTPServer):
    """Answers with the next of the given status codes, the last one for ever."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.got: list[dict[str, object]] = []
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        codes = self.server.codes
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        self.server.paths.append(self.path)
        if code == 200:
            self.server.got.append(json.loads(body))
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def receive() -> Iterator[type[Receiver]]:
    made: list[Receiver] = []

    class Kept(Receiver):
        def __init__(self, *codes: int) -> None:
            super().__init__(*codes)
            made.append(self)

    yield Kept
    for receiver in made:
        receiver.shutdown()
        receiver.server_close()


def test_messages_arrive_in_order(receive: type[Receiver]) -> None:
    receiver, complaints = receive(200), list[str]()
    hook = Webhook(receiver.url, complaints.append)
    hook.tell("job-ended", {"job": "sepsis", "status": "completed"})
    hook.tell("hospital-lost", {"hospital": "north"})
    hook.close()
    assert receiver.got == [
        {"kind": "job-ended", "job": "sepsis", "status": "completed"},
        {"kind": "hospital-lost", "hospital": "north"},
    ]
    assert complaints == []


def test_a_server_that_fails_is_asked_again(receive: type[Receiver]) -> None:
    receiver, complaints = receive(500, 503, 200), list[str]()
    hook = Webhook(receiver.url, complaints.append, pause_s=0.01)
    hook.tell("job-ended", {})
    hook.close()
    assert len(receiver.paths) == 3
    assert receiver.got == [{"kind": "job-ended"}]
    assert complaints == []


@pytest.mark.parametrize(("code", "tried"), [(500, 3), (302, 3)])
def test_three_failures_are_a_complaint_and_no_redirect_is_followed(
    receive: type[Receiver], code: int, tried: int
) -> None:
    receiver, complaints = receive(code), list[str]()
    hook = Webhook(receiver.url, complaints.append, pause_s=0.01)
    hook.tell("job-ended", {})
    hook.close()
    assert receiver.paths == ["/hook"] * tried
    assert len(complaints) == 1


def test_nobody_listens() -> None:
    complaints: list[str] = []
    hook = Webhook(f"http://127.0.0.1:{free_port()}/", complaints.append, pause_s=0.01)
    hook.tell("job-ended", {})
    hook.close()
    assert complaints == ["the webhook did not take a message: [Errno 111] Connection refused"]


def test_telling_never_waits_and_what_is_too_much_is_dropped() -> None:
    """A server that takes connections and never answers."""
    import socket

    complaints: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", complaints.append)
        begin = time.monotonic()
        for _ in range(MAX_WAITING + 10):
            hook.tell("job-ended", {})
        assert time.monotonic() - begin < 1.0
        assert set(complaints) == {"the webhook is too slow: a message was dropped"}
        assert 9 <= len(complaints) <= 10
        begin = time.monotonic()
        hook.close(wait_s=0.1)
        assert time.monotonic() - begin < 2.0


def test_without_an_address_nothing_runs() -> None:
    before = threading.active_count()
    hook = Webhook(None, pytest.fail)
    hook.tell("job-ended", {})
    hook.close()
    assert threading.active_count() == before
