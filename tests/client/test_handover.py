"""What a member without the epoch's keys does not do; the rest is in test_recovery.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.handover import vouch
from privacy.keys import Ephemeral
from protocol.errors import Code, RefusalError
from tests.client.test_session import JOB, cohort_of, late, signer


def test_nobody_vouches_without_the_keys_of_an_encrypted_job() -> None:
    keys = {site.name: Ephemeral.generate() for site in JOB.sites}
    session = late(keys)
    assert vouch(session, cohort_of(keys), 9, signer("north"))

    with pytest.raises(RefusalError, match="no keys of this epoch") as caught:
        vouch(replace(session, keys=None), cohort_of(keys), 9, signer("north"))

    assert caught.value.code == Code.SESSION
