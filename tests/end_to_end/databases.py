"""A federation whose hospitals keep their records in one PostgreSQL server, a database for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import FedwardError
from protocol.jobs import Job
from server.job_folder import JobFolder
from tests.end_to_end.federation import HOSPITALS, JOB_S, Federation, shares, until
from tests.postgres import Postgres


@dataclass(frozen=True)
class Databases:
    """A federation, and the server that holds its records."""

    server: Postgres
    place: Federation

    def pace(self, names: Sequence[str], row_s: float) -> None:
        """Let every row of these hospitals' records take so many seconds."""
        for name in names:
            self.server.execute(
                f"CREATE OR REPLACE VIEW records AS SELECT * FROM tumours "  # noqa: S608
                f"WHERE pg_sleep({row_s}) IS NOT NULL",
                database=name,
            )

    def readers(self) -> dict[str, int]:
        """Hospitals whose nodes wait for rows at this moment, with the number of the backend."""
        found = self.server.rows(
            "SELECT datname, pid FROM pg_stat_activity WHERE application_name = 'fedward' "
            "AND usename = datname AND state = 'active' AND query ILIKE 'fetch%'"
        )
        return {str(name): int(str(pid)) for name, pid in found}

    def counts(self) -> dict[str, int]:
        """Rows of every hospital's table."""
        query = "SELECT count(*) FROM tumours"
        return {name: int(str(self.server.rows(query, database=name)[0][0])) for name in HOSPITALS}

    def job(self, name: str) -> Path:
        """A job of two rounds that protects patients, whom a column names."""
        return self.place.job(
            name,
            training={"rounds": 2},
            evaluation={"enabled": False},
            schema={"patient": "patient"},
        )

    def launch(self, name: str) -> None:
        """Start a job."""
        self.place.launch(self.job(name))

    def ended(self, name: str) -> JobFolder:
        """A job that was launched, at its end."""

        def look() -> JobFolder | None:
            try:
                kept = self.place.kept(name)
            except FedwardError:
                return None
            return None if kept.outcome is None else kept

        return until(look, JOB_S, f"{name} has ended")

    def entries(self, hospital: str, kind: str, job: Job) -> list[dict[str, Any]]:
        """What a hospital's journal says of a job in entries of one kind."""
        documents = [line["document"] for line in self.place.journal(hospital)]
        return [
            one["fields"]
            for one in documents
            if one["kind"] == kind and one["fields"].get("job") == job.digest
        ]

    def leaks(self) -> list[Path]:
        """Files of coordinator and hospitals in which a password stands."""
        secrets = [password(name).encode() for name in HOSPITALS]
        files = [path for path in self.place.folder.rglob("*") if path.is_file()]
        return [path for path in files if any(word in path.read_bytes() for word in secrets)]


def password(name: str) -> str:
    """The password of a hospital's role."""
    return f"Zaphod-{name}-4711"


def patients(name: str) -> dict[str, list[str]]:
    """A hospital's share, with a column that names the patient."""
    share = shares()[name]
    size = len(next(iter(share.values())))
    return {"patient": [f"{name}-{row:04}" for row in range(size)], **share}


def fill(server: Postgres, name: str) -> None:
    """A hospital's database: a role that may do nothing elsewhere, its table, view and function."""
    server.execute(
        f"CREATE ROLE {name} LOGIN NOSUPERUSER PASSWORD '{password(name)}'",
        f"CREATE DATABASE {name} OWNER {name}",
    )
    words = {"patient", "diagnosis"}
    table = patients(name)
    columns = (f"{one} {'text' if one in words else 'double precision'}" for one in table)
    rows = (", ".join(f"'{cell}'" for cell in row) for row in zip(*table.values(), strict=True))
    server.execute(
        f"SET ROLE {name}",
        f"CREATE TABLE tumours ({', '.join(columns)})",
        f"INSERT INTO tumours VALUES ({'), ('.join(rows)})",  # noqa: S608
        "CREATE VIEW records AS SELECT * FROM tumours",
        "CREATE FUNCTION purge() RETURNS text LANGUAGE sql AS "
        "$$ DELETE FROM tumours; SELECT 'gone' $$",
        database=name,
    )
