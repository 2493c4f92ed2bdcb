"""Sessions that only read, against SQLite and a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from client.data.config import Database
from client.data.database import SqlSource
from client.data.source import DroppedError, again, joined, read
from learning.task import Table
from protocol.errors import InputError
from tests.postgres import Postgres

SECRET = "Zaphod-4711"  # noqa: S105 - nobody's


def of(url: str, query: str, base: Path = Path(), **changes: Any) -> SqlSource:
    timeout_s, parameters = changes.pop("timeout_s", 20.0), changes.pop("parameters", {})
    return SqlSource(Database(url=url, timeout_s=timeout_s, **changes), base, query, parameters)


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "ward.sqlite") as connection:
        connection.execute("CREATE TABLE stays (patient TEXT, age REAL)")
        connection.execute("INSERT INTO stays VALUES (?, 64)", (SECRET,))
    connection.close()
    return tmp_path


@pytest.fixture
def ward(postgres: Postgres) -> Postgres:
    postgres.execute(
        "DROP SCHEMA IF EXISTS ward CASCADE",
        "CREATE SCHEMA ward",
        "CREATE TABLE ward.stays (patient text, born date, weight numeric, alive boolean)",
        f"INSERT INTO ward.stays VALUES ('{SECRET}', '1962-03-01', 80.5, true)",  # noqa: S608
        "INSERT INTO ward.stays VALUES (NULL, NULL, NULL, NULL)",
        "CREATE OR REPLACE FUNCTION ward.leave() RETURNS integer LANGUAGE sql AS "
        "$$ DELETE FROM ward.stays; SELECT 1 $$",
    )
    return postgres


def count(server: Postgres) -> int:
    found = read(of(server.url(), "SELECT count(*) AS n FROM ward.stays"), ["n"])
    return int(str(found["n"][0]))


class TestPostgreSQL:
    def test_types_become_text_and_numbers(self, ward: Postgres) -> None:
        source = of(ward.url(), "SELECT * FROM ward.stays ORDER BY patient NULLS LAST")
        assert source.columns() == ("patient", "born", "weight", "alive")
        assert read(source, source.columns()) == {
            "patient": [SECRET, None],
            "born": ["1962-03-01", None],
            "weight": [80.5, None],
            "alive": [True, None],
        }

    def test_parameters_are_bound(self, ward: Postgres) -> None:
        sly = "x'; DELETE FROM ward.stays; --"
        query = "SELECT patient FROM ward.stays WHERE patient = :who"
        assert read(of(ward.url(), query, parameters={"who": sly}), ["patient"]) == {"patient": []}
        found = read(of(ward.url(), query, parameters={"who": SECRET}), ["patient"])
        assert found == {"patient": [SECRET]}
        assert count(ward) == 2

    @pytest.mark.parametrize(
        "query",
        [
            "SELECT ward.leave() AS patient",
            "SELECT patient, ward.leave() FROM ward.stays",
            "SELECT set_config('transaction_read_only', 'off', false) AS patient, ward.leave()",
            "SELECT nextval('ward.counter') AS patient",
        ],
    )
    def test_a_query_that_writes_is_refused_by_the_session(
        self, ward: Postgres, query: str
    ) -> None:
        ward.execute("CREATE SEQUENCE IF NOT EXISTS ward.counter")
        with pytest.raises(InputError, match=r"tries to write|refuses the query"):
            read(of(ward.url(), query), ["patient"])
        assert count(ward) == 2

    @pytest.mark.parametrize(
        "query",
        [
            "DELETE FROM ward.stays RETURNING patient",
            "WITH gone AS (DELETE FROM ward.stays RETURNING patient) SELECT * FROM gone",
            "SELECT patient FROM ward.stays) AS a; DELETE FROM ward.stays; SELECT 1 FROM (SELECT 1",
        ],
    )
    def test_a_statement_that_writes_is_no_query(self, ward: Postgres, query: str) -> None:
        with pytest.raises(InputError, match="expected one SELECT that only reads; found"):
            read(of(ward.url(), query), ["patient"])
        assert count(ward) == 2

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM ward.stays",
            "CREATE TABLE ward.other (a int)",
            "SELECT ward.leave()",
            "SET TRANSACTION READ WRITE",
        ],
    )
    def test_the_session_itself_refuses(self, ward: Postgres, statement: str) -> None:
        with of(ward.url(), "SELECT 1").session() as connection:
            connection.execute(text("SELECT 1"))
            with pytest.raises(DBAPIError, match=r"read-only|before any query"):
                connection.execute(text(statement))
        assert count(ward) == 2

    def test_rows_stream_and_a_snapshot_holds(self, ward: Postgres) -> None:
        source = of(ward.url(), "SELECT n FROM generate_series(1, 100000) AS n, ward.stays")
        batches = source.batches(["n"], rows=1000)
        first = next(batches)
        ward.execute("DELETE FROM ward.stays")
        assert len(first["n"]) == 1000
        assert 1000 + sum(len(batch["n"]) for batch in batches) == 200_000

    def test_what_takes_too_long_is_stopped(self, ward: Postgres) -> None:
        source = of(ward.url(), "SELECT pg_sleep(30) AS a", timeout_s=0.2)
        with pytest.raises(InputError, match=r"takes longer than 0\.2 s"):
            read(source, ["a"])

    def test_a_dropped_connection_is_read_again_from_the_beginning(
        self, ward: Postgres, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = of(ward.url(), "SELECT n FROM generate_series(1, 5000) AS n ORDER BY n")
        kills = iter([True, True, False])
        pauses: list[float] = []

        def whole() -> Table:
            kill = next(kills)
            batches = []
            for batch in source.batches(["n"], rows=1000):
                batches.append(batch)
                if kill and len(batches) == 2:
                    ward.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE application_name = 'fedward'"
                    )
            return joined(batches, ["n"])

        assert again(whole, pauses.append)["n"] == list(range(1, 5001))
        assert len(pauses) == 2
        assert [line.rpartition("; ")[2] for line in caplog.messages] == [
            "reading again, try 2 of 3",
            "reading again, try 3 of 3",
        ]

    def test_a_server_that_stays_away_is_told_without_the_user(self, tmp_path: Path) -> None:
        source = of(f"postgresql://dent@/ward?host={tmp_path}", "SELECT 1 AS a")
        pauses: list[float] = []
        with pytest.raises(DroppedError, match="no connection, or one that was lost") as caught:
            again(source.columns, pauses.append)
        assert len(pauses) == 2
        assert "dent" not in str(caught.value)

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ("SELECT wings FROM ward.stays", r"42703 \(column .wings. does not exist\)"),
            ("SELECT 1 FROM nowhere", r"42P01 \(relation .nowhere. does not exist\)"),
            ("SELEKT 1", "42601"),
            ("SELECT CAST(patient AS integer) AS a FROM ward.stays", "22P02$|22P02;"),
        ],
    )
    def test_mistakes_are_told_without_a_value(self, ward: Postgres, query: str, told: str) -> None:
        source = of(ward.url(), query)
        with pytest.raises(InputError, match=told) as caught:
            read(source, source.columns())
        assert SECRET not in str(caught.value)

    def test_a_parameter_without_a_value(self, ward: Postgres) -> None:
        with pytest.raises(InputError, match="parameters all have a value"):
            of(ward.url(), "SELECT patient FROM ward.stays WHERE patient = :who").columns()

    def test_columns_are_named_once(self, ward: Postgres) -> None:
        with pytest.raises(InputError, match="every column named once"):
            of(ward.url(), "SELECT 1 AS a, 2 AS a").columns()

    def test_names_are_quoted(self, ward: Postgres) -> None:
        source = of(ward.url(), "SELECT 1 AS \"Alter: '%s' (J)\"")
        (name,) = source.columns()
        assert read(source, [name]) == {name: [1]}


class TestSqlite:
    URL = "sqlite:///ward.sqlite"

    @pytest.mark.parametrize(
        "statement", ["DELETE FROM stays", "CREATE TABLE a (b)", "PRAGMA user_version = 7"]
    )
    def test_the_session_itself_refuses(self, sqlite: Path, statement: str) -> None:
        session = of(self.URL, "SELECT 1", sqlite).session()
        with session as connection, pytest.raises(DBAPIError, match="readonly"):
            connection.execute(text(statement))
        assert read(of(self.URL, "SELECT age FROM stays", sqlite), ["age"]) == {"age": [64.0]}

    def test_what_takes_too_long_is_stopped(self, sqlite: Path) -> None:
        query = (
            "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) "
            "SELECT count(*) AS a FROM n"
        )
        with pytest.raises(InputError, match="takes longer"):
            read(of(self.URL, query, sqlite, timeout_s=0.2), ["a"])

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ("SELECT wings FROM stays", "no such column: wings"),
            ("SELECT 1 FROM nowhere", "no such table: nowhere"),
            ("DELETE FROM stays", "refuses the query"),
            ("SELECT json(patient) AS a FROM stays", "refuses the query"),
        ],
    )
    def test_mistakes_are_told_without_a_value(self, sqlite: Path, query: str, told: str) -> None:
        source = of(self.URL, query, sqlite)
        with pytest.raises(InputError, match=told) as caught:
            read(source, source.columns())
        assert SECRET not in str(caught.value)

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no such database"):
            of(self.URL, "SELECT 1", tmp_path).columns()
        assert list(tmp_path.iterdir()) == []


class TestPasswords:
    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://dent:{SECRET}@db/ward",
            f"postgresql://db/ward?password={SECRET}",
            f"mysql://dent@db/{SECRET}",
            SECRET,
        ],
    )
    def test_none_stands_in_the_configuration_or_in_a_message(self, url: str) -> None:
        with pytest.raises(InputError) as caught:
            Database(url=url)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        ("prepare", "told"),
        [
            (lambda path: path.chmod(0o644), "others may read it; chmod 600"),
            (Path.unlink, "cannot be read"),
        ],
    )
    def test_the_file_is_the_owners_alone(
        self, tmp_path: Path, prepare: Callable[[Path], None], told: str
    ) -> None:
        path = tmp_path / "password"
        path.write_text(SECRET)
        path.chmod(0o600)
        prepare(path)
        source = of("postgresql://db/a", "SELECT 1", tmp_path, password_file=Path("password"))
        with pytest.raises(InputError, match=told):
            source.columns()

    def test_the_password_is_sent(self, ward: Postgres, tmp_path: Path) -> None:
        """The server trusts its socket, so only the file's reading can go wrong here."""
        (tmp_path / "password").write_text(f"{SECRET}\n")
        (tmp_path / "password").chmod(0o600)
        source = of(ward.url(), "SELECT 1 AS a", tmp_path, password_file=Path("password"))
        assert source.columns() == ("a",)


def test_time_is_bounded_for_each_batch_and_not_for_all(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "records.sqlite").close()
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    source = of("sqlite:///records.sqlite", f"{numbers} LIMIT 80000", tmp_path, timeout_s=2.5)
    read_rows = 0
    for batch in source.batches(["i"], rows=20_000):
        read_rows += len(batch["i"])
        time.sleep(0.9)  # what a node makes of a batch is not the database's time
    assert read_rows == 80_000


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_is_above_nothing(timeout_s: float) -> None:
    with pytest.raises(InputError, match="timeout_s; expected above 0"):
        Database(url="sqlite:///a", timeout_s=timeout_s)


@pytest.mark.parametrize("url", ["postgresql://db:port/ward", "postgresql://[::1/ward"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(InputError, match="url: no database's address"):
        of(url, "SELECT 1").columns()


def test_an_address_cannot_lift_what_the_session_is_held_to(ward: Postgres) -> None:
    lifted = ward.url() + "&options=-cdefault_transaction_read_only%3Doff"
    with of(lifted, "SELECT 1").session() as connection, pytest.raises(DBAPIError):
        connection.execute(text("DELETE FROM ward.stays"))
    assert count(ward) == 2
