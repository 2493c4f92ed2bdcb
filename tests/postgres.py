"""A real PostgreSQL of the test session: its own folder, its own user, one Unix socket, no network.

The tests that need one are skipped, loudly, where Debian's `postgresql` is not installed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NO_SERVER = "PostgreSQL is not installed: apt-get install postgresql"
_START_S = 40
_QUIET = "-c fsync=off -c shared_buffers=16MB -c max_connections=20 -c log_min_messages=fatal"


@dataclass(frozen=True)
class Postgres:
    """A running server, the folder of its socket, and its administrator."""

    programs: Path
    folder: Path
    user: str

    def url(self, user: str | None = None, database: str = "postgres") -> str:
        """Where SQLAlchemy finds it."""
        return f"postgresql://{user or self.user}@/{database}?host={self.folder}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements as administrator, each by itself."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), user=self.user, dbname=database, autocommit=True
        ) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What a query finds, as administrator."""
        import psycopg

        with psycopg.connect(host=str(self.folder), user=self.user, dbname=database) as connection:
            return connection.execute(query.encode()).fetchall()

    def admit(self, *lines: str) -> None:
        """Put rules about who may come in, and how, before those that trust everybody."""
        path = self.folder / "data" / "pg_hba.conf"
        path.write_text("\n".join((*lines, path.read_text(encoding="utf-8"))), encoding="utf-8")
        self.execute("SELECT pg_reload_conf()")

    def stop(self) -> None:
        """Stop as if the machine were switched off."""
        self._control("stop", "-m", "immediate")

    def start(self) -> None:
        """Start, on a Unix socket only."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} {_QUIET}"
        self._control("start", "-l", str(self.folder / "log"), "-o", options)

    def _control(self, action: str, *arguments: str) -> None:
        data, wait = str(self.folder / "data"), str(_START_S)
        _run([self.programs / "pg_ctl", action, "-w", "-t", wait, "-D", data, *arguments])


def found() -> Path | None:
    """The folder of the server's programs, None where there is no server."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("pg_ctl")
    if on_path is not None:
        places.insert(0, Path(on_path).resolve().parent)
    return next((place for place in places if (place / "initdb").exists()), None)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for as long as the block lasts; root starts it as the user that Debian made."""
    programs = found()
    assert programs is not None
    with tempfile.TemporaryDirectory(prefix="fedward-pg-") as folder:
        user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, user)
        data = Path(folder) / "data"
        _run([programs / "initdb", "-D", data, "-U", user, "-A", "trust", "-E", "UTF8", "-N"])
        server = Postgres(programs=programs, folder=Path(folder), user=user)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _run(command: list[str | Path]) -> None:
    user = "postgres" if os.geteuid() == 0 else None
    done = subprocess.run(
        command,
        user=user,
        cwd="/",
        stdin=subprocess.DEVNULL,
        # The server keeps what it inherits open, so a pipe would never end.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_START_S + 20,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}"
