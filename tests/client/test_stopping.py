"""One signal lets the answer under way be finished, the second does not."""

from __future__ import annotations

import os
import signal
import time

from client.stopping import Stop, signals


def test_a_second_call_gives_up_the_answer_under_way() -> None:
    stop = Stop(60.0)
    seen = [(stop.told, stop.impatient)]
    for _ in range(2):
        stop.tell()
        seen.append((stop.told, stop.impatient))

    assert seen == [(False, False), (True, False), (True, True)]


def test_patience_ends_by_itself_and_sleep_ends_when_told() -> None:
    stop = Stop(0.0)
    stop.wait(0.01)
    stop.tell()
    begin = time.monotonic()
    stop.wait(30.0)

    assert time.monotonic() - begin < 5
    assert stop.impatient


def test_signals_tell_it_and_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals(60.0) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        stop.wait(5.0)
        told = stop.told

    assert told
    assert signal.getsignal(signal.SIGTERM) is before
