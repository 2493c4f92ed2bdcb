"""Promotion and rollback under 200 requests a second, and a kill in the middle of it."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from learning.promotion import promote, rollback
from tests.serving.ward import Running, body, configure, expected, fill, serving

INFER = "/v2/models/sepsis/infer"
CLIENTS, RATE, SECONDS = 8, 200, 12
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Ward:
    """Clients that ask at a steady rate, and check every bit of every answer.

    Args:
        server: Whom they ask.
        wanted: What each version predicts.
    """

    def __init__(self, server: Running, wanted: dict[str, list[list[float]]]) -> None:
        self.seen: Counter[str] = Counter()
        self.failed: list[str] = []
        self._address, self._wanted = f"http://{server.rest}", wanted
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(one,)) for one in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self, place: int) -> None:
        """Every client has its turn; who is late asks at once, so that the rate is kept."""
        with httpx.Client(base_url=self._address, trust_env=False, timeout=10) as client:
            due = time.monotonic() + place / RATE
            while not self._end.is_set():
                time.sleep(max(due - time.monotonic(), 0))
                due += CLIENTS / RATE
                try:
                    self._check(client.post(INFER, json=body()))
                except httpx.HTTPError as error:
                    self.failed.append(type(error).__name__)

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self.failed.append(answer.text)
            return
        told = answer.json()
        found = np.reshape(told["outputs"][0]["data"], (3, 2)).tolist()
        if found != self._wanted[told["model_version"]]:
            self.failed.append("another prediction")
        self.seen[told["model_version"]] += 1


def test_promotion_and_rollback_fail_no_request_at_200_a_second(tmp_path: Path) -> None:
    store = tmp_path / "models"
    fill(store)
    wanted = {str(one): expected(store, one).tolist() for one in (1, 2)}
    config = configure(tmp_path, limits={"per_second": 1000})
    with serving(config) as running:
        ward, start, changes = Ward(running, wanted), time.monotonic(), 0
        while time.monotonic() - start < SECONDS:
            if changes % 2:
                rollback(store, "sepsis", datetime.now(UTC))
            else:
                promote(store, "sepsis", 2, datetime.now(UTC))
            changes += 1
            time.sleep(0.3)
        ward.stop()
        seconds = time.monotonic() - start
        promote(store, "sepsis", 2, datetime.now(UTC))
        running.end(signal.SIGKILL)
    assert ward.failed == []
    assert changes >= 20
    assert sum(ward.seen.values()) >= 0.9 * RATE * seconds
    assert min(ward.seen["1"], ward.seen["2"]) > 200
    with serving(config) as running:
        answer = httpx.post(f"http://{running.rest}{INFER}", json=body(), trust_env=False).json()
    assert answer["model_version"] == "2"
    assert np.reshape(answer["outputs"][0]["data"], (3, 2)).tolist() == wanted["2"]
