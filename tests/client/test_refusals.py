"""A flood of refusals leaves a bounded number of lines, and none is forgotten."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from client.refusals import PER_HOUR, Refusals
from protocol.errors import Code
from protocol.journal import Journal
from protocol.signing import SigningKey


def test_beyond_a_ration_refusals_are_counted(tmp_path: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    path = tmp_path / "journal.jsonl"
    with Journal.open(path, SigningKey.generate()) as journal:
        refusals = Refusals(journal, lambda: now)
        for _ in range(PER_HOUR + 7):
            refusals.note("", Code.SIGNATURE, "a packet that nobody signed")
        now += timedelta(hours=1)
        for _ in range(2):
            refusals.note("ab", Code.REPLAYED, "again")

    fields = [json.loads(line)["document"]["fields"] for line in path.read_text().splitlines()]
    assert len(fields) == PER_HOUR + 2
    assert fields[-2] == {"job": "ab", "code": "replayed", "reason": "again", "unwritten": 7}
    assert "unwritten" not in fields[-1]
