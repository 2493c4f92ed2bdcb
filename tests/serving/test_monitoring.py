"""What is watched: inputs that drift, predictions that do not come true, and how it is told."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from learning.artefact import load
from learning.preprocess import features
from learning.schema import Schema
from learning.task import Table
from protocol.config import parse
from protocol.errors import InputError
from serving.bins import Bins
from serving.config import Monitoring
from serving.drift import STEP, Drift
from serving.feedback import read_feedback
from serving.flags import flags_of
from serving.monitor import Monitor
from serving.server import Listening
from serving.window import Window
from tests.serving.test_inside import served
from tests.serving.ward import SCHEMA, add, configure, fill

TABLE = {**SCHEMA, "columns": SCHEMA["columns"][:3]}
WHOLE = parse(Schema, TABLE, "schema")
SETTINGS = Monitoring(reference_rows=400, window_rows=400)


def rows(n: int, seed: int, *, older: float = 0.0, ward: str = "ab") -> Table:
    rng = np.random.default_rng(seed)
    return {
        "age": rng.normal(60 + older, 12, n),
        "ward": rng.choice([*ward], n).tolist(),
        "smoker": rng.choice(["yes", "no", ""], n).tolist(),
    }


def observe(drift: Drift, table: Table) -> None:
    drift.observe(features(WHOLE, table)[0], flags_of(WHOLE, table))


def test_every_value_is_counted_where_it_belongs() -> None:
    bins = Bins.of(WHOLE)
    table: Table = {
        "age": [60.0, 0.0, 200.0, None], "ward": ["a", "3", "x", "b"], "smoker": [1, 0, 0, ""],
    }  # fmt: skip
    counts = bins.count(features(WHOLE, table)[0], flags_of(WHOLE, table))
    parts = dict(zip(bins.names, np.split(counts, bins.starts[1:-1]), strict=True))
    assert parts["age"].tolist() == [0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1]
    assert parts["ward"].tolist() == [1, 1, 1, 1]
    assert parts["smoker"].tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("change", "drifted"),
    [({}, set()), ({"older": 25.0}, {"age"}), ({"ward": "aaa3"}, {"ward"})],
)
def test_what_drifts_is_an_alert_and_the_rest_is_not(
    tmp_path: Path, change: dict[str, Any], drifted: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(tmp_path / "kept", SETTINGS)
    watched = monitor.watch(load(add(tmp_path, "sepsis", TABLE, 1)))
    observe(watched.drift, rows(400, 1))
    observe(watched.drift, rows(400, 2, **change))
    with caplog.at_level(logging.INFO):
        assert watched.look() == {f"drift of {name}" for name in drifted}
        watched.look()
    assert [one.message for one in caplog.records] == [
        f"alert: sepsis/1: drift of {name}" for name in drifted
    ]
    for seed in (3, 4):
        observe(watched.drift, rows(400, seed))
    assert watched.look() == frozenset()


def test_what_is_told_changes_in_steps_and_not_by_a_row(tmp_path: Path) -> None:
    model = load(add(tmp_path, "sepsis", TABLE, 1))
    folder, settings = tmp_path / "kept", Monitoring(reference_rows=50, window_rows=100)
    monitor = Monitor(folder, settings)
    drift = monitor.watch(model).drift
    assert drift.columns() == {}
    observe(drift, rows(STEP - 1, 1))
    assert drift.columns() == {}, "fewer than a step is nothing"
    observe(drift, rows(91, 2))
    before = drift.columns()
    assert before["age"].found.total == 50
    for _ in range(STEP - 1):
        observe(drift, {"age": [119.0], "ward": ["3"], "smoker": ["yes"]})
        monitor.look()
        assert drift.columns() is before
    # A restart tells no more.
    again = Monitor(folder, settings).watch(model).drift
    assert again.rows == 109
    assert again.columns()["age"].found.count_B.tolist() == before["age"].found.count_B.tolist()
    for one in (drift, again):
        observe(one, {"age": [119.0], "ward": ["3"], "smoker": ["yes"]})
        assert one.columns()["age"].found.total == 60
        assert one.rows == 110


def test_no_row_is_told_alone_where_the_last_rows_begin() -> None:
    drift = Drift(Bins.of(WHOLE), 50, 100)
    told = []
    for seed, n in enumerate((31, 10, 10, 9, 10)):
        observe(drift, rows(n, seed))
        columns = drift.columns()
        told.append((columns["age"].expected.total, columns["age"].found.total))
    assert told == [(31, 0), (31, 0), (31, 0), (50, 10), (50, 20)]


def test_rows_of_large_arrays_wait_for_nothing() -> None:
    drift = Drift(Bins.of(WHOLE), 400, 400)
    for _ in range(4):
        drift.observe(np.zeros((2, 1 << 18)), np.zeros((2, 3), dtype=np.uint8))
    assert drift.rows == 8
    drift.observe(np.zeros((200, WHOLE.num_features)), np.zeros((200, 3), dtype=np.uint8))
    assert drift.rows == 8, "small ones are counted together"


def test_a_window_forgets() -> None:
    window = Window(1, 3)
    for value in range(9):
        window.add(np.array([value]), 1)
    assert window.total.tolist() == [3 + 4 + 5 + 6 + 7 + 8]
    window.add(np.array([0]), 1)
    assert window.total.tolist() == [6 + 7 + 8]


def feedback(n: int, seed: int) -> dict[str, Any]:
    """Predictions that come true."""
    p_N = np.random.default_rng(seed).uniform(0.2, 0.6, n)
    return {"probabilities": np.column_stack([1 - p_N, p_N]).tolist(), "labels": ["yes"] * n}


def test_sums_survive_a_restart_and_belong_to_one_version(tmp_path: Path) -> None:
    model, other = (load(add(tmp_path, "sepsis", TABLE, version)) for version in (1, 2))
    folder = tmp_path / "kept"
    monitor = Monitor(folder, SETTINGS)
    watched = monitor.watch(model)
    observe(watched.drift, rows(500, 1))
    monitor.add("sepsis/1", read_feedback(model.task, feedback(20, 1), 100))
    before = watched.state()
    monitor.look()
    (kept,) = folder.iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert Monitor(folder, SETTINGS).watch(model).state() == before
    other_window = Monitor(folder, Monitoring(window_rows=20)).watch(model)
    assert (other_window.drift.rows, other_window.calibration.rows) == (0, 0)
    drift, calibration = before["drift"], before["calibration"]
    never = {
        **calibration["recent"],
        "halves": np.full((2, watched.calibration.recent.length), np.nan).tolist(),
    }
    for damaged in (
        {}, {**before, "drift": {**drift, "early": [1]}}, {**before, "drift": {}},
        {**before, "drift": {**drift, "recent": {"halves": [[1], [1]], "seen": [0, 0]}}},
        {**before, "calibration": {**calibration, "told": [1]}},
        {**before, "drift": {**drift, "rows": float("inf")}},
        {**before, "calibration": {**calibration, "recent": never}},
    ):  # fmt: skip
        kept.write_text(json.dumps(damaged))
        assert Monitor(folder, SETTINGS).watch(model).calibration.rows == 0
    kept.write_bytes(b"{")
    assert Monitor(folder, SETTINGS).watch(model).drift.rows == 0
    kept.write_text(json.dumps({**before, "weights": "0"}))
    for _ in range(2):
        assert Monitor(folder, SETTINGS).watch(model).drift.rows == 0
    monitor.watch(other)
    monitor.keep_only(frozenset({"sepsis/2"}))
    assert [*monitor.watched] == ["sepsis/2"]
    assert Monitor(folder, SETTINGS).watch(model).state() == before


def test_two_threads_never_count_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drift = Monitor(tmp_path, SETTINGS).watch(load(add(tmp_path, "sepsis", TABLE, 1))).drift
    count = Bins.count

    def slow(bins: Bins, x_NF: Any, flag_NC: Any) -> Any:
        time.sleep(0.05)
        return count(bins, x_NF, flag_NC)

    monkeypatch.setattr(Bins, "count", slow)
    asked = np.zeros((300, WHOLE.num_features)), np.zeros((300, 3), dtype=np.uint8)
    threads = [threading.Thread(target=drift.observe, args=asked) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = drift.bins.starts[1]
    assert drift.rows == 600
    assert drift.early[:first].sum() == 400
    assert drift.recent.total[:first].sum() == 200


def test_a_folder_that_cannot_be_written_is_told_once_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Monitor(tmp_path / "kept", SETTINGS)
    for version in (1, 2):
        monitor.watch(load(add(tmp_path, "sepsis", TABLE, version)))
    for _ in range(2):
        (tmp_path / "kept").touch()
        monitor.look()
        monitor.look()
        (tmp_path / "kept").unlink()
        monitor.look()
        shutil.rmtree(tmp_path / "kept")
    assert [one.levelname for one in caplog.records] == ["ERROR"] * 2


@pytest.mark.parametrize(
    "change", [{"window_rows": 19}, {"reference_rows": 9}, {"reference_rows": 10**7}, {"psi": 0.0}]
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="monitoring"):
        Monitoring(**change)


def test_a_server_tells_its_metrics_and_takes_feedback(tmp_path: Path) -> None:
    fill(tmp_path / "models")
    config = configure(tmp_path, monitoring={"reference_rows": 10, "window_rows": 20})

    async def ask(listening: Listening) -> None:
        base = f"http://{listening.rest}"
        async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
            age = {"name": "age", "datatype": "FP64", "shape": [30], "data": [20] * 10 + [90] * 20}
            answer = await client.post("/v2/models/age/infer", json={"inputs": [age]})
            assert answer.status_code == 200
            assert (await client.post("/v2/models/age/infer", json={})).status_code == 400
            assert (await client.post("/v2/models/odd/infer", json={})).status_code == 400
            told = {"probabilities": [[0.25, 0.75]] * 10, "labels": ["yes"] * 10}
            taken = await client.post("/v2/models/age/feedback", json=told)
            assert taken.json() == {"model_name": "age", "labels": 10}
            wrong = await client.post("/v2/models/age/versions/1/feedback", json={"labels": 1})
            assert wrong.status_code == 400
            lines = (await client.get("/metrics")).text.splitlines()
        for line in (
            'fedward_requests_total{model="age",protocol="rest",result="ok"} 1.0',
            'fedward_requests_total{model="age",protocol="rest",result="invalid"} 1.0',
            'fedward_requests_total{model="unknown",protocol="rest",result="invalid"} 1.0',
            'fedward_batch_rows_bucket{le="32.0",model="age"} 1.0',
            'fedward_rows{model="age/1",which="asked"} 30.0',
            'fedward_rows{model="age/1",which="labelled"} 10.0',
            'fedward_calibration_error{model="age/1",outcome=""} 0.25',
            'fedward_calibration_gap{column="",group="",model="age/1",outcome=""} 0.25',
            'fedward_drift_reference{model="age/1",reference="first 10 rows"} 1.0',
            'fedward_alert{alert="drift of age",model="age/1"} 1.0',
            "fedward_under_way 0.0",
            'fedward_waiting{model="age"} 0.0',
        ):
            assert line in lines, line

    served(config, ask)
    kept = json.loads((tmp_path / "monitoring" / "age-1.json").read_text())
    assert kept["drift"]["rows"] == 30
