"""Tells a web address when something ends or a hospital is lost, and keeps nobody waiting.

What is sent is declared or public: names, status, rounds, seconds, bytes, epsilon. Messages are
sent by a thread of their own; one that cannot be delivered is dropped, and the log says so. Whoever
must know whether it was taken is told.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from protocol.errors import FedwardError

TIMEOUT_S = 5.0
TRIES = 3
PAUSE_S = 1.0
MAX_WAITING = 100


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class _Message:
    body: bytes
    delivered: Callable[[], None]


class Webhook:
    """One web address and the messages that wait for it.

    Args:
        url: The address; without one nothing is ever sent.
        complain: Called with one line when a message is dropped.
        pause_s: Wait before the second try; it doubles for each one after that.
    """

    def __init__(
        self, url: str | None, complain: Callable[[str], None], *, pause_s: float = PAUSE_S
    ) -> None:
        self._url = url
        self._complain = complain
        self._pause_s = pause_s
        self._waiting: queue.Queue[_Message | None] = queue.Queue(MAX_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="webhook", daemon=True)
        if url is not None:
            self._thread.start()

    def tell(
        self, kind: str, said: Mapping[str, object], *, delivered: Callable[[], None] = _nothing
    ) -> None:
        """Send a message soon; returns at once.

        Args:
            kind: `job-ended`, `delivery-ended` or `hospital-lost`.
            said: What happened.
            delivered: Called once the message was taken, or at once where there is no address.
        """
        message = _Message(json.dumps({"kind": kind, **said}).encode(), delivered)
        if self._url is None:
            self._confirm(message)
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._complain("the webhook is too slow: a message was dropped")

    def close(self, wait_s: float = TIMEOUT_S) -> None:
        """Give messages that wait a last chance."""
        self._closing.set()
        if self._url is not None:
            # A queue that is full has its last chance, too, and no more.
            with suppress(queue.Full):
                self._waiting.put_nowait(None)
            self._thread.join(wait_s)

    def _deliver(self) -> None:
        while (message := self._waiting.get()) is not None:
            for number in range(TRIES):
                if number:
                    self._closing.wait(self._pause_s * 2 ** (number - 1))
                problem = self._post(message.body)
                if not problem:
                    self._confirm(message)
                    break
            else:
                self._complain(f"the webhook did not take a message: {problem}")

    def _confirm(self, message: _Message) -> None:
        try:
            message.delivered()
        except FedwardError as error:
            self._complain(str(error))

    def _post(self, body: bytes) -> str:
        """Why it was not delivered, nothing if it was."""
        request = Request(  # noqa: S310 - the configuration takes only http and https
            str(self._url), data=body, headers={"Content-Type": "application/json"}, method="POST"
        )
        try:
            with build_opener(_Stay).open(request, timeout=TIMEOUT_S):
                return ""
        except URLError as error:
            return str(error.reason)
        except (OSError, HTTPException) as error:
            return type(error).__name__


class _Stay(HTTPRedirectHandler):
    """Follows nobody elsewhere: a message is for the configured address alone."""

    def redirect_request(self, *_: object) -> None:
        """No other request takes this one's place."""
