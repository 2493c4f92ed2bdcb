"""Three hospitals whose records are in PostgreSQL: one server, a database and a role for each.

The roles own their tables. What keeps a query from writing is the session alone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from client.data.config import CsvConfig, SqlConfig
from client.data.opening import open_source
from client.data.source import DroppedError, read
from client.hospital import Hospital, HospitalConfig, Split
from learning.task import load_task
from protocol import config
from protocol.errors import InputError
from protocol.jobs import Job
from server.history import Record
from tests.end_to_end.databases import Databases, fill, password, patients
from tests.end_to_end.federation import DATASET, HOSPITALS, Federation, federation, until
from tests.postgres import NO_SERVER, Postgres, found, running

NORTH = HOSPITALS[0]
QUERY = "SELECT * FROM records ORDER BY patient"
LOOK_S = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    if found() is None:
        pytest.skip(NO_SERVER)
    with running() as made:
        for name in HOSPITALS:
            fill(made, name)
        own = (f"local {name} {name} scram-sha-256" for name in HOSPITALS)
        made.admit(*own, f"local all {','.join(HOSPITALS)} reject")
        yield made


@pytest.fixture(scope="module")
def databases(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    secrets = tmp_path_factory.mktemp("passwords")

    def source(name: str) -> dict[str, object]:
        path = secrets / name
        path.touch(mode=0o600)
        path.write_text(f"{password(name)}\n", encoding="utf-8")
        database = {"url": server.url(name, name), "password_file": str(path)}
        return {"kind": "sql", "database": database, "query": QUERY}

    place = Federation(tmp_path_factory.mktemp("databases"), source=source)
    with federation(place):
        yield Databases(server, place)


@pytest.fixture(autouse=True)
def _nothing_is_lost_or_told(databases: Databases) -> Iterator[None]:
    """Whatever happens: no row goes, and no password stands in a file of anybody."""
    before = databases.counts()
    yield
    databases.pace(HOSPITALS, 0)
    assert databases.counts() == before
    assert databases.leaks() == []


def test_one_job_over_three_databases(databases: Databases) -> None:
    place = databases.place

    told = place.complete(databases.job("first"))

    assert (told["status"], told["round"], told["sites"]) == ("completed", 2, list(HOSPITALS))
    assert told["refusals"] == {}
    held = place.models("first")
    assert list(held) == list(HOSPITALS)
    assert len(set(held.values())) == 1
    job = place.kept("first").job
    for name in HOSPITALS:
        here, there = both(place.config(name), job)
        for side in ("train", "test"):
            one, other = getattr(here, side), getattr(there, side)
            # In a file the rows stand as they were dealt out, in the query by patient: the same.
            np.testing.assert_array_equal(one.x_NF, other.x_NF)
            np.testing.assert_array_equal(one.y_N, other.y_N)
            assert one.num_patients == other.num_patients > 0
        assert here.train.num_patients + here.test.num_patients == databases.counts()[name]


def both(path: Path, job: Job) -> tuple[Split, Split]:
    """A hospital's records as its node reads them, and the same out of a CSV file."""
    table = patients(path.parent.name)
    with (path.parent / "patients.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([list(table), *zip(*table.values(), strict=True)])
    own = config.read(HospitalConfig, path)
    text = CsvConfig(kind="csv", path=Path("patients.csv"))
    files = replace(own, datasets={DATASET: replace(own.datasets[DATASET], source=text)})
    found = []
    for one in (own, files):
        with Hospital(one, path.parent) as hospital:
            found.append(hospital.split(DATASET, load_task(job.task, job.schema), cache=""))
    return found[0], found[1]


def test_a_role_comes_in_by_its_password_and_nowhere_else(databases: Databases) -> None:
    path = databases.place.config(NORTH)
    source = config.read(HospitalConfig, path).datasets[DATASET].source
    assert isinstance(source, SqlConfig)
    assert "patient" in open_source(source, path.parent).columns()
    elsewhere = replace(source.database, url=databases.server.url(NORTH, HOSPITALS[1]))
    for database in (replace(source.database, password_file=None), elsewhere):
        with pytest.raises(DroppedError, match="lets this user in"):
            open_source(replace(source, database=database), path.parent).columns()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("INSERT INTO tumours (patient) VALUES ('x') RETURNING patient", "one SELECT that only"),
        ("DELETE FROM tumours RETURNING patient", "one SELECT that only reads; found 42601"),
        (
            "WITH gone AS (DELETE FROM tumours RETURNING patient) SELECT patient FROM gone",
            "one SELECT that only reads; found 0A000",
        ),
        ("SELECT purge() AS patient", "tries to write, which this session refuses"),
        ("SELECT patient FROM records WHERE purge() = 'gone'", "tries to write, which this"),
    ],
)
def test_a_query_that_writes_is_refused(databases: Databases, query: str, told: str) -> None:
    path = databases.place.config(NORTH)
    source = config.read(HospitalConfig, path).datasets[DATASET].source
    assert isinstance(source, SqlConfig)
    with pytest.raises(InputError, match=told):
        read(open_source(replace(source, query=query), path.parent), ["patient"])


def test_a_node_whose_query_writes_touches_nothing(databases: Databases) -> None:
    path = databases.place.config(NORTH)
    text = path.read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    writing = "SELECT * FROM records WHERE purge() = 'gone'"
    document["datasets"][DATASET]["source"]["query"] = writing
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    try:
        databases.launch("writing")
        kept = databases.ended("writing")
    finally:
        path.write_text(text, encoding="utf-8")

    record = Record.of(kept)
    assert (record.status, record.refusals) == ("failed", {NORTH: "failed"})
    (entry,) = databases.entries(NORTH, "refused", kept.job)
    assert "the query tries to write, which this session refuses" in entry["reason"]
    assert databases.entries(NORTH, "release", kept.job) == []
    assert "step was refused (failed)" in databases.place.node_status(NORTH)["last_error"]


def test_a_connection_that_drops_in_a_round_is_read_again(databases: Databases) -> None:
    databases.pace([NORTH], 0.05)
    databases.launch("dropped")
    pid = until(lambda: databases.readers().get(NORTH), LOOK_S, "the node reads")

    databases.server.execute(f"SELECT pg_terminate_backend({pid})")
    databases.pace([NORTH], 0)

    kept = databases.ended("dropped")
    record = Record.of(kept)
    assert (record.status, record.refusals) == ("completed", {})
    assert max(event.voids for event in kept.events()) == 0
    assert databases.entries(NORTH, "refused", kept.job) == []
    assert "reading again, try 2 of 3" in databases.place.nodes[NORTH].text()
    assert len(set(databases.place.models("dropped").values())) == 1


def test_a_server_that_stays_down_is_reported_and_one_that_is_back_is_used(
    databases: Databases,
) -> None:
    databases.pace(HOSPITALS, 0.15)
    databases.launch("down")
    until(lambda: len(databases.readers()) == len(HOSPITALS), LOOK_S, "all nodes read")
    databases.server.stop()
    try:
        down = databases.ended("down")
        databases.launch("absent")
        absent = databases.ended("absent")
    finally:
        databases.server.start()

    for kept in (down, absent):
        record = Record.of(kept)
        assert (record.status, record.refusals) == ("failed", dict.fromkeys(HOSPITALS, "busy"))
        for name in HOSPITALS:
            reasons = [one["reason"] for one in databases.entries(name, "refused", kept.job)]
            assert reasons
            for reason in reasons:
                assert f"postgresql:///{name}: no connection, or one that was lost" in reason
            assert databases.entries(name, "release", kept.job) == []
            assert "(busy)" in databases.place.node_status(name)["last_error"]
    assert "north: busy" in Record.of(absent).reason
    for name, ledger in databases.place.ledgers().items():
        accounts = {one["job"]: one for one in ledger["jobs"]}
        assert absent.digest not in accounts, name
        assert ledger["verified"]
        assert not ledger["blocked"]
    databases.pace(HOSPITALS, 0)
    assert databases.place.complete(databases.job("afterwards"))["status"] == "completed"
