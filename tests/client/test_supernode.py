"""Flower's node as a child: started again when it dies, and gone when it shall be."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import supernode as module
from client.node import environment
from client.node_config import NodeConfig
from client.supernode import Link, SuperNode
from protocol.errors import BusyError, InputError
from tests import federation
from tests.consortium import make_consortium


@pytest.fixture
def link(tmp_path: Path) -> Link:
    """A way to a coordinator that is not there."""
    consortium = make_consortium(tmp_path / "consortium")
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    return Link(
        address=f"127.0.0.1:{federation.free_port()}",
        ca=federation.certify(tmp_path / "tls").ca.read_text(),
        key=consortium.folder / "north" / "keys" / "node.key",
        folder=folder,
        port=0,
        environment=environment(NodeConfig(), folder, os.environ),
    )


@pytest.fixture
def node(link: Link) -> Iterator[SuperNode]:
    opened = SuperNode(link)
    yield opened
    opened.close()


def test_it_is_started_again_after_a_pause(
    node: SuperNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", (0.0, 3600.0))
    for start in (1, 2):
        node.keep_running()
        assert (node.starts, node.connected) == (start, False)
        pid = node.pid
        assert pid is not None
        assert node.runtime is not None
        with pytest.raises(BusyError, match="does not answer"):
            node.runtime.acquire()
        os.kill(pid, signal.SIGKILL)
        federation.wait_for(lambda: node.pid is None, 5)
    node.keep_running()

    assert node.starts == 2
    assert node.runtime is None


def test_it_ends_when_told_and_its_secret_is_for_its_owner(node: SuperNode, link: Link) -> None:
    node.keep_running()
    pid = node.pid
    secret = link.folder / "runtime.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert len(secret.read_bytes()) == 32

    node.close()

    assert not Path(f"/proc/{pid}").exists()
    node.note_reply()
    node.wait_sent()  # nothing can be sent any more, so nothing is waited for


def test_a_dead_predecessor_is_dismissed_or_not_but_never_in_the_way(link: Link) -> None:
    (link.folder / "node_id").write_text("42")
    assert SuperNode(link).node == 42
    node = SuperNode(link)

    node.keep_running()

    assert node.node is None
    assert node.starts == 1
    node.close()


def test_what_flower_says_is_followed(node: SuperNode, link: Link) -> None:
    for line in ("INFO: SuperNode ID: 77", "INFO : Sent successfully"):
        node._follow(line)
    assert (node.node, node.connected) == (77, True)
    assert (link.folder / "node_id").read_text() == "77"
    node._follow("DEBUG: Connection attempt failed with exception: refused")
    assert not node.connected
    node._follow("INFO: Connection successful after 2.00 seconds and 2 tries.")
    assert node.connected


def test_what_was_handed_over_is_waited_for_until_it_left(
    node: SuperNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SENT_S", 20.0)
    node.keep_running()
    node.note_reply()
    waiting = threading.Thread(target=node.wait_sent)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()

    node._follow("INFO : Sent successfully")

    waiting.join(5)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    "line",
    [
        "INFO : Run ID 3 is not in `RUNNING` status. Ignoring message 5f0a.",
        "ERROR : Failed to receive message 5f0a: no such object",
    ],
)
def test_a_message_whose_run_ended_is_not_waited_for(node: SuperNode, line: str) -> None:
    node._follow(line)
    node.keep_running()
    assert node.runtime is not None
    assert not node.runtime.is_stale
    node._follow(line)
    assert node.runtime._fates.dropped == {"5f0a"}


@pytest.mark.parametrize("broken", [False, True], ids=["run over", "half an answer"])
def test_who_would_send_answers_late_is_started_anew(node: SuperNode, *, broken: bool) -> None:
    node.keep_running()
    node._follow("DEBUG: Connection successful after 2.00 seconds and 2 tries.")
    pid, runtime = node.pid, node.runtime
    assert runtime is not None
    if broken:
        runtime._fates.broken = True
    else:
        runtime.drop("5f0a")

    node.keep_running()

    assert (node.starts, node.connected) == (2, False)
    assert node.pid != pid
    assert node.runtime is not None
    assert not node.runtime.is_stale


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(InputError, match="no program 'flower-nothing'"):
        module._program("flower-nothing")


def test_a_disk_that_takes_no_number_does_not_end_the_listening(
    node: SuperNode, link: Link
) -> None:
    (link.folder / "node_id").mkdir()

    node._follow("INFO : SuperNode ID: 42")

    assert (node.node, node.connected) == (42, True)
