"""Messages between processes keep their parts, their borders and their end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from client.frames import MAX_HEAD, pair, receive, send
from protocol.canonical import to_canonical
from protocol.errors import IntegrityError

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    ours, theirs = pair()
    with ours, theirs:
        yield ours, theirs


def test_parts_arrive_as_they_were_sent(ends: Pair) -> None:
    parts = {"header": b"h", "empty": b"", "blob:update": os.urandom(3_000_000)}

    send(ends[0], {"a": 1}, parts)
    send(ends[0], {"b": 2})

    first, second = receive(ends[1]), receive(ends[1])
    assert first is not None
    assert second is not None
    assert (dict(first.head), dict(first.parts)) == ({"a": 1}, parts)
    assert (dict(second.head), second.parts, second.descriptors) == ({"b": 2}, {}, ())


def test_a_message_of_empty_parts_is_one(ends: Pair) -> None:
    send(ends[0], {}, {"empty": b""})

    frame = receive(ends[1])

    assert frame is not None
    assert frame.parts == {"empty": b""}


def test_a_descriptor_comes_along(ends: Pair) -> None:
    reading, writing = os.pipe()
    send(ends[0], {}, descriptors=[reading])
    os.close(reading)
    os.write(writing, b"through")
    os.close(writing)

    frame = receive(ends[1])

    assert frame is not None
    (descriptor,) = frame.descriptors
    with os.fdopen(descriptor, "rb") as file:
        assert file.read() == b"through"


def test_no_descriptor_stays_open(ends: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    for _ in range(3):
        send(ends[0], {}, {"part": b"bytes"})
        receive(ends[1])

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_end_of_the_other_side_is_seen(ends: Pair) -> None:
    ends[0].close()

    assert receive(ends[1]) is None
    with pytest.raises(OSError, match="pipe"):
        send(ends[1], {}, {"part": b"bytes"})


def test_waiting_has_a_limit(ends: Pair) -> None:
    ends[1].settimeout(0.01)

    with pytest.raises(TimeoutError):
        receive(ends[1])


def test_a_head_too_large_is_refused(ends: Pair) -> None:
    with pytest.raises(IntegrityError, match="head of a message"):
        send(ends[0], {"text": "x" * MAX_HEAD})


def test_parts_that_lack_bytes_are_refused(ends: Pair) -> None:
    memory = os.memfd_create("short")
    head = to_canonical({"head": {}, "parts": [["update", 5]]})
    socket.send_fds(ends[0], [head], [memory])
    os.close(memory)

    with pytest.raises(IntegrityError, match="lacks bytes"):
        receive(ends[1])


def test_the_last_word_of_a_side_that_left_without_reading_is_heard(ends: Pair) -> None:
    send(ends[1], {}, {"part": b"unread"})
    send(ends[0], {"error": "last word"})
    ends[0].close()

    heard = receive(ends[1])

    assert heard is not None
    assert heard.head == {"error": "last word"}
    assert receive(ends[1]) is None
