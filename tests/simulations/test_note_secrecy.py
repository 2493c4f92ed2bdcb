"""After a private job nothing but the source holds a word of a note, or its number."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from learning.tokens import word_number
from privacy.plan import PrivacyRequest
from protocol.jobs import Named, Site
from server.jobs import resolve
from server.requests import JobRequest, TrainingRequest
from simulations.consortium import found
from tests.simulations.runs import run_course
from tests.simulations.test_secrecy import reachable

WORD = "zaphodbeeblebrox"
NAMES = ("north", "south", "east")


@pytest.mark.slow
def test_no_word_of_a_note_stays_or_travels(tmp_path: Path) -> None:
    notes = [f"No fever. {WORD} {'coughs' if row % 2 else 'sleeps'} {row}" for row in range(40)]
    columns = {"note": notes, "ill": ["no", "yes"] * 20}
    consortium = found(
        tmp_path,
        dict.fromkeys(NAMES, columns),
        dataset="notes",
        test_fraction=0.25,
        modes=("distributed",),
        strategies=("fedsgd",),
        tasks=("text",),
        noise_seed=None,
        split_seed=0,
    )
    request = JobRequest(
        name="notes",
        dataset="notes",
        intended_use="test",
        task=Named(name="text", options={"buckets": 64}),
        schema={
            "columns": [{"name": "note", "kind": "text", "length": 12}],
            "label": {"name": "ill", "classes": ["no", "yes"]},
        },
        sites=tuple(Site(name=name, train_size=30, test_size=10) for name in NAMES),
        privacy=PrivacyRequest(mode="distributed", epsilon=3.0, delta=1e-5),
        training=TrainingRequest(rounds=2, learning_rate=1.0),
    )
    run = run_course(consortium, resolve(request, consortium.origin()))
    assert run.outcome.status == "completed"
    number = word_number(WORD)
    traces = (WORD.encode(), struct.pack("<d", number), struct.pack("<q", number))
    held = [*reachable(run.grid), *reachable(run.course), *reachable(run.sums)]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "data.csv"]
    assert len(held) > 100
    assert {"ledger.sqlite", "journal.jsonl", "card.json"} <= {path.name for path in files}
    for piece in (*held, *(path.read_bytes() for path in files)):
        assert not any(trace in piece for trace in traces)
    assert any(WORD.encode() in path.read_bytes() for path in tmp_path.rglob("data.csv"))
