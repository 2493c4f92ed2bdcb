"""What a person at the coordinator sees of metrics: gaps in a line, and no single subgroup."""

from __future__ import annotations

import io

from rich.console import Console

from server.history import Record
from server.launch import Metrics
from server.view import jobs_table, metrics_line

TOLD = {
    "auroc": (0.9, 0.8, 1.0),
    "auroc@sex=m": (0.9, 0.8, 1.0),
    "gap:auroc@sex": (0.05, 0.0, 0.2),
    "observed 0.04-0.16": (0.1, 0.0, 0.2),
}


def record(reason: str, metrics: Metrics) -> Record:
    return Record(
        name="sepsis",
        digest="0123456789abcdef",
        status="completed",
        reason=reason,
        created="",
        ended="",
        seconds=1.0,
        round=1,
        rounds=1,
        sites=(),
        refusals={},
        bytes_up=0,
        bytes_down=0,
        epsilon=None,
        epsilon_worst=None,
        delta=None,
        metrics=metrics,
    )


def test_one_line_has_the_main_metrics_and_gaps() -> None:
    line = "auroc 0.900 (0.800 to 1.000), gap:auroc@sex 0.050 (0.000 to 0.200)"
    assert metrics_line(TOLD) == line


def test_a_table_of_jobs_has_their_gaps_below() -> None:
    file = io.StringIO()
    Console(width=80, file=file).print(jobs_table([record("", TOLD), record("why", {})], "Jobs"))
    text = file.getvalue()
    assert "sepsis 01234567: gap:auroc@sex 0.050 (0.000 to 0.200)" in text
    assert "sepsis 01234567: why" in text
    assert text.count("gap:") == 1
