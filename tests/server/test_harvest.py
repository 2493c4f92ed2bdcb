"""What an attempt's answers bring besides sums, and what outlasts the coordinator's process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.errors import Code
from protocol.messages import Stepped
from server.harvest import Harvest
from server.holding import Holding
from server.rounds import start
from server.terms import Rules
from tests.consortium import make_job, make_request
from tests.server.test_archive import checkpoint


@pytest.mark.parametrize(("length", "code"), [(64, None), (63, Code.FAILED), (65, Code.FAILED)])
def test_a_confirmation_has_the_length_of_a_signature(length: int, code: Code | None) -> None:
    harvest = Harvest({})
    body = Stepped(weights_tag="", head=b"", confirmation=bytes(length))

    assert harvest.take("north", body).code is code
    assert list(harvest.confirmations) == ([] if code else ["north"])


def test_a_coordinator_that_was_restarted_still_hands_confirmations_on() -> None:
    job = make_job(request=make_request())
    before = replace(checkpoint(job), cohort=None)
    holding = Holding(job)
    holding.restore(before)

    assert holding.checkpoint(start(Rules.of(job))) == before
