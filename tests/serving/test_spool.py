"""Rows that were asked: kept only where somebody says so, for their owner alone, for a while."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from client.data.source import read
from client.data.tabular import CsvSource
from learning.artefact import load
from learning.schema import Schema
from protocol.config import parse
from protocol.errors import InputError
from serving.columns import patients_of, table_of
from serving.config import Keeping, ServedModel
from serving.flags import flags_of
from serving.payloads import Tensor
from serving.refusal import Refusal
from serving.server import Listening
from serving.spool import Spool, Spools
from serving.spool_files import GROWING
from serving.spool_lines import LABEL
from tests.serving.test_inside import served
from tests.serving.ward import PLAIN, SCHEMA, add, configure, put

PATIENTS: dict[str, Any] = {**SCHEMA, "patient": "case"}
WHOLE = parse(Schema, PATIENTS, "schema")
NAMES = ("case", "age", "ward", "smoker", LABEL)


class Clock:
    """A clock that somebody sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(microseconds=1)
        return self.now


def spool(folder: Path, clock: Clock, **settings: Any) -> Spool:
    return Spool(folder, WHOLE, Keeping(**settings), clock)


def take(kept: Spool, ages: list[Any], **changes: Any) -> None:
    n = len(ages)
    table: dict[str, Any] = {
        "age": np.array(ages, dtype=np.float64), "ward": ["a"] * n, "smoker": [True] * n,
        "pulse": np.zeros((n, 4, 2)), **changes,
    }  # fmt: skip
    kept.take(table, flags_of(WHOLE, table), [None] * n)


def kept_rows(folder: Path) -> dict[str, Any]:
    return dict(read(CsvSource(folder), NAMES))


def test_a_source_reads_the_schemas_words_and_no_others(tmp_path: Path) -> None:
    kept = spool(tmp_path / "rows", Clock())
    table: dict[str, Any] = {
        "age": np.array([61.5, np.nan, np.inf, 0.1 + 0.2]),
        "ward": ["a", "Mr Smith", None, 3],
        "smoker": [True, "no", "Y", "perhaps"],
        "pulse": np.full((4, 4, 2), 70.0),
    }
    kept.take(table, flags_of(WHOLE, table), ["P1", None, 'P,2"', "P1"])
    kept.write()
    assert not [*(tmp_path / "rows").glob("*.csv")], "a file that grows is nobody's source"
    kept.seal()
    assert kept_rows(tmp_path / "rows") == {
        "case": ["P1", None, 'P,2"', "P1"],
        "age": ["61.5", None, None, "0.30000000000000004"],
        "ward": ["a", None, None, "3"],
        "smoker": ["yes", "no", "yes", None],
        LABEL: ["yes", "no", "no", "no"],
    }
    (file,) = (tmp_path / "rows").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o700


def test_rows_without_a_number_are_kept_as_well(tmp_path: Path) -> None:
    words = parse(Schema, {**PATIENTS, "columns": SCHEMA["columns"][1:3]}, "schema")
    kept = Spool(tmp_path / "rows", words, Keeping(), Clock())
    kept.take({"ward": ["b"], "smoker": ["no"]}, np.zeros((1, 2), np.uint8), ["P1"])
    kept.close()
    (file,) = (tmp_path / "rows").iterdir()
    assert file.read_text() == f"case,ward,smoker,{LABEL}\nP1,b,no,yes\n"


def test_rows_are_bounded_in_number_and_in_age(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "rows"
    kept = spool(folder, clock, rows=100, days=2)
    for first in range(0, 300, 20):
        take(kept, [*range(first, first + 20)])
        kept.write()
    ages = [float(one) for one in kept_rows(folder)["age"]]
    assert ages == [*range(200, 300)], "the oldest made room"
    take(kept, [7])
    kept.write()
    assert (folder / GROWING).exists()
    clock.now += timedelta(hours=1)
    kept.write()
    assert not (folder / GROWING).exists(), "an hour is enough for any file"
    (folder / "theirs.csv").write_text("notes\n")
    clock.now += timedelta(days=1, hours=23, minutes=30)
    kept.write()
    assert len([*folder.glob("2*.csv")]) == 1
    clock.now += timedelta(hours=1)
    kept.write()
    assert [path.name for path in folder.iterdir()] == ["theirs.csv"]


def test_a_killed_server_leaves_whole_lines(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "rows"
    kept = spool(folder, clock)
    take(kept, [1, 2])
    kept.write()
    with (folder / GROWING).open("ab") as file:
        file.write(b"P9,3")
    again = spool(folder, clock)
    again.recover()
    assert kept_rows(folder)["age"] == ["1.0", "2.0"]
    assert not (folder / GROWING).exists()
    (folder / GROWING).write_bytes(b"case,a")
    again.recover()
    assert [path.suffix for path in folder.iterdir()] == [".csv"]


def test_what_cannot_be_written_is_told_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    kept = spool(tmp_path / "file" / "rows", Clock())
    for _ in range(2):
        take(kept, [1])
        kept.write()
    many = np.zeros(60_000)
    for _ in range(2):
        kept.take(
            {"age": many, "ward": [], "smoker": []}, np.zeros((0, 4), np.uint8), [None] * 60_000
        )
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert "1.0" not in caplog.text


def test_trouble_that_comes_again_is_told_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = spool(tmp_path / "file" / "rows", Clock())
    caplog.set_level(logging.INFO)
    for _ in range(2):
        (tmp_path / "file").touch()
        for age in (1, 2):
            take(kept, [age])
            kept.write()
        (tmp_path / "file").unlink()
        for age in (3, 4):
            take(kept, [age])
            kept.write()
        shutil.rmtree(tmp_path / "file")
    assert [one.levelname for one in caplog.records] == ["ERROR", "INFO"] * 2


def test_a_folder_that_others_could_enter_is_closed(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir(mode=0o755)
    take(kept := spool(tmp_path / "rows", Clock()), [1])
    kept.write()
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o700


def test_a_server_that_was_down_for_long_makes_no_row_younger(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "rows"
    take(kept := spool(folder, clock), [1])
    kept.write()
    written = clock.now.timestamp()
    os.utime(folder / GROWING, (written, written))
    clock.now += timedelta(days=29)
    again = spool(folder, clock, days=30)
    again.recover()
    clock.now += timedelta(days=1, seconds=1)
    again.write()
    assert [*folder.iterdir()] == []


def test_a_disk_that_fills_up_leaves_whole_lines_and_one_header(tmp_path: Path) -> None:
    kept = spool(tmp_path / "rows", Clock())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room, ages in ((20, [1]), (None, [2]), (60, [3, 4]), (None, [5])):
        take(kept, ages)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room or before[0], before[1]))
        try:
            kept.write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept.close()
    assert kept_rows(tmp_path / "rows")["age"] == ["2.0", "5.0"]


def test_a_file_that_somebody_takes_away_is_begun_anew_and_stops_no_server(tmp_path: Path) -> None:
    kept = spool(tmp_path / "rows", Clock())
    for age in (1, 2):
        take(kept, [age])
        kept.write()
        (tmp_path / "rows" / GROWING).unlink()
    kept.close()
    take(kept, [3])
    kept.close()
    assert kept_rows(tmp_path / "rows")["age"] == ["3.0"]


def test_versions_that_are_served_no_more_age_as_well(tmp_path: Path) -> None:
    clock = Clock()
    models = [ServedModel(name="sepsis", keep=Keeping(days=1)), ServedModel(name="age")]
    model = load(add(tmp_path, "sepsis", PATIENTS, 1))
    spools = Spools(tmp_path, models, clock)
    assert spools.of(load(add(tmp_path, "age", PLAIN, 1))) is None
    kept = spools.of(model)
    assert kept is not None
    assert spools.of(model) is kept
    take(kept, [1])
    spools.close()
    take(kept, [2])
    spools.write()
    folder = tmp_path / "asked" / "sepsis-1"
    assert len([*folder.iterdir()]) == 2
    old = clock.now.timestamp()
    os.utime(folder / GROWING, (old, old))
    other = tmp_path / "asked" / "sepsis-risk-1"
    other.mkdir()
    (other / "20261121T080000000000Z-1.csv").write_text("age\n1\n")
    clock.now += timedelta(days=2)
    Spools(tmp_path, models, clock).write()
    assert [*folder.iterdir()] == []
    assert len([*other.iterdir()]) == 1, "another model's, whose name begins alike"


def test_a_place_that_cannot_be_used_is_an_error_before_anything_is_served(tmp_path: Path) -> None:
    models = [ServedModel(name="sepsis", keep=Keeping())]
    model = load(add(tmp_path, "sepsis", PATIENTS, 1))
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "sepsis-1").mkdir()
    (tmp_path / "asked" / "sepsis-1" / GROWING).mkdir()
    with pytest.raises(InputError, match="rows cannot be kept"):
        Spools(tmp_path, models, Clock()).of(model)
    taken = {**PLAIN, "label": {"name": LABEL, "classes": ["no", "yes"]}}
    with pytest.raises(InputError, match="the name is taken"):
        Spool(tmp_path, parse(Schema, taken, "schema"), Keeping(), Clock())
    for change in ({"rows": 0}, {"days": 0.0}, {"days": 1e5}):
        with pytest.raises(InputError, match=r"keep\."):
            Keeping(**change)


def case(values: list[Any], datatype: str = "BYTES") -> Tensor:
    array = np.array(values, dtype=object if datatype == "BYTES" else np.int64)
    return Tensor("case", datatype, array)


def test_a_request_may_name_its_patients_and_need_not() -> None:
    schema = parse(Schema, {**PLAIN, "patient": "case"}, "schema")
    age = Tensor("age", "FP64", np.array([1.0, 2.0]))
    assert patients_of(schema, [age], 2) == [None, None]
    assert patients_of(schema, [age, case(["P1", ""])], 2) == ["P1", None]
    assert patients_of(schema, [age, case([[7], [8]], "INT64")], 2) == ["7", "8"]
    assert patients_of(schema, [age, case([None, " NA"])], 2) == [None, None], "as in training"
    assert [*table_of(schema, [age, case(["P1", "P2"])], 10)] == ["age"]
    matrix = Tensor("columns", "FP64", np.array([[1.0], [2.0]]))
    assert table_of(schema, [case(["P1", "P2"]), matrix], 10)["age"].tolist() == [1.0, 2.0]  # type: ignore[union-attr]
    for wrong in (case(["P1"]), case(["917" * 40, ""]), case(["917\n1", ""])):
        with pytest.raises(Refusal, match="input 'case'") as caught:
            patients_of(schema, [age, wrong], 2)
        assert "917" not in str(caught.value)
    with pytest.raises(Refusal, match="differ in their number of rows"):
        table_of(schema, [age, case(["P1"])], 10)
    other = parse(Schema, PLAIN, "schema")
    with pytest.raises(Refusal, match="unknown input 'case'"):
        table_of(other, [age, case(["P1", "P2"])], 10)


def test_a_server_keeps_rows_only_of_the_model_that_says_so(tmp_path: Path) -> None:
    store = tmp_path / "models"
    for name in ("age", "other"):
        add(store, name, {**PLAIN, "patient": "case"}, 1)
        put(store, name, 1)
    models = [{"name": "age", "keep": {"folder": "asked", "days": 7}}, {"name": "other"}]
    inputs = [
        {"name": "age", "datatype": "FP64", "shape": [2], "data": [61, None]},
        {"name": "case", "datatype": "BYTES", "shape": [2], "data": ["P1", "P2"]},
    ]

    async def ask(listening: Listening) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            for name in ("age", "other"):
                url = f"http://{listening.rest}/v2/models/{name}/infer"
                assert (await client.post(url, json={"inputs": inputs})).status_code == 200
                refused = [{**inputs[0], "data": ["917", "x"]}]
                assert (await client.post(url, json={"inputs": refused})).status_code == 400

    served(configure(tmp_path, models=models), ask)
    (folder,) = (tmp_path / "asked").iterdir()
    assert folder.name == "age-1"
    (file,) = folder.iterdir()
    assert file.read_text() == f"case,age,{LABEL}\nP1,61.0,yes\nP2,,no\n"


def test_rows_that_are_answered_while_the_server_ends_are_kept(tmp_path: Path) -> None:
    add(tmp_path / "models", "age", PLAIN, 1)
    put(tmp_path / "models", "age", 1)
    inputs = [{"name": "age", "datatype": "FP64", "shape": [1], "data": [61]}]
    body = json.dumps({"inputs": inputs}).encode()
    head = b"POST /v2/models/age/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"

    async def ask(listening: Listening) -> None:
        host, _, port = (listening.rest or "").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head % len(body) + body[:5])
        await writer.drain()
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        writer.write(body[5:])
        assert (await reader.readline()).split()[1] == b"200"
        writer.close()

    models = [{"name": "age", "keep": {"folder": "asked", "days": 7}}]
    served(configure(tmp_path, models=models), ask)
    (file,) = (tmp_path / "asked" / "age-1").iterdir()
    assert file.read_text().splitlines()[1:] == ["61.0,yes"]
