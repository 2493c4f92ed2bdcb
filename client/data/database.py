"""Records from one query, in a session that cannot write.

PostgreSQL gets one read-only transaction with a cursor that stays at the server, SQLite a file that
is opened for reading. What a driver says may quote records, so only the kind of an error is told.
"""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from client.data.config import Database
from client.data.source import BATCH_ROWS, DroppedError, needs, rows_of
from learning.task import Table
from protocol.errors import InputError

Parameters = Mapping[str, Any]

# SQLite asks after so many steps of its machine whether to go on: some hundred times a second.
_STEPS = 100_000
_TOO_LONG = frozenset({"57014", "SQLITE_INTERRUPT"})
_REFUSED = frozenset({"25006", "SQLITE_READONLY", "SQLITE_AUTH"})
# What a statement that writes is where only a table can stand: an error of grammar, or not allowed
# anywhere but at the top.
_NO_QUERY = frozenset({"42601", "0A000"})
_CONNECT_S = 10


@dataclass(frozen=True)
class SqlSource:
    """The rows of a query.

    Guarantee: the session refuses to write, whatever the query calls, and parameters are bound.

    Args:
        database: Where it runs.
        base: Folder that relative paths start from.
        query: A SELECT with `:name` for parameters.
        parameters: Their values.
    """

    database: Database
    base: Path
    query: str
    parameters: Parameters

    def columns(self) -> tuple[str, ...]:
        """Names of the query's columns; the database plans it and returns no row."""
        with self._told(), self.session() as connection:
            # The query is the hospital's own, and the session cannot write.
            statement = text(f"SELECT * FROM ({self._query}) AS records LIMIT 0")  # noqa: S608
            names = tuple(connection.execute(statement, self.parameters).keys())
        if len(set(names)) < len(names):
            raise InputError("query", expected="every column named once", found=", ".join(names))
        return names

    def batches(self, columns: Sequence[str], rows: int = BATCH_ROWS) -> Iterator[Table]:
        """The named columns; see `client.data.source.Source`."""
        with self._told(), self.session() as connection:
            names = ", ".join(map(_quoted, columns))
            statement = text(f"SELECT {names} FROM ({self._query}) AS records")  # noqa: S608
            options = {"stream_results": True, "max_row_buffer": rows}
            with connection.execute(
                statement, self.parameters, execution_options=options
            ) as result:
                for batch in result.partitions(rows):
                    yield rows_of(columns, batch)
                    self._renew(connection)

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection that reads, and is closed at the end.

        Raises:
            DBAPIError: As SQLAlchemy does.
        """
        engine = self._engine()
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    @property
    def _query(self) -> str:
        return self.query.strip().rstrip(";")

    def _engine(self) -> Engine:
        try:
            url = make_url(self.database.url)
        except (ArgumentError, ValueError):
            raise InputError(
                "url: no database's address", expected="postgresql://user@host:port/name"
            ) from None
        return self._sqlite(url) if url.get_backend_name() == "sqlite" else self._postgresql(url)

    def _sqlite(self, url: URL) -> Engine:
        path = self.base / (url.database or "")
        if not path.is_file():
            raise InputError(f"{path}: no such database")

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
            connection.execute("PRAGMA query_only = ON")
            self._limit(connection)
            return connection

        return create_engine("sqlite://", creator=connect, poolclass=NullPool)

    def _limit(self, connection: sqlite3.Connection) -> None:
        end = time.monotonic() + self.database.timeout_s
        connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)

    def _renew(self, connection: Connection) -> None:
        """The next batch has its own time; PostgreSQL counts each fetch by itself."""
        driver = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            self._limit(driver)

    def _postgresql(self, url: URL) -> Engine:
        with needs("sql", "PostgreSQL"):
            import psycopg  # noqa: F401, PLC0415
        milliseconds = max(1, round(1000 * self.database.timeout_s))
        limits = f"-c default_transaction_read_only=on -c statement_timeout={milliseconds}"
        arguments = {"connect_timeout": _CONNECT_S, "application_name": "fedward"}
        engine = create_engine(
            url.set(drivername="postgresql+psycopg", password=self._password()),
            connect_args={**arguments, "options": limits},
            poolclass=NullPool,
            # One snapshot for all batches; a table that is written to meanwhile does not show.
            isolation_level="REPEATABLE READ",
        )
        event.listen(engine, "begin", _begin_read_only)
        return engine

    def _password(self) -> str | None:
        if self.database.password_file is None:
            return None
        path = self.base / self.database.password_file
        try:
            if stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise InputError(f"{path}: others may read it", remedy=f"chmod 600 {path}")
            return path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(f"{path}: cannot be read", found=error.strerror) from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the database in words that quote neither a record nor a parameter."""
        try:
            yield
        except DBAPIError as error:
            self._tell(error)
        except SQLAlchemyError as error:
            raise InputError(
                "query: cannot be run",
                expected="one SELECT whose parameters all have a value",
                found=type(error).__name__,
            ) from None

    def _tell(self, error: DBAPIError) -> NoReturn:
        place, code = origin(self.database), _code(error)
        if _is_lost(error, code):
            raise DroppedError(
                f"{place}: no connection, or one that was lost",
                remedy="see that the database runs and lets this user in, then try again",
            ) from None
        if code in _TOO_LONG:
            raise InputError(
                f"{place}: the query takes longer than {self.database.timeout_s:g} s",
                remedy="select fewer records, add an index, or raise timeout_s",
            ) from None
        if code in _REFUSED:
            raise InputError(
                f"{place}: the query tries to write, which this session refuses",
                expected="a query that only reads",
            ) from None
        found = " ".join(filter(None, (code, _named(error))))
        if code in _NO_QUERY:
            # A statement that writes would do so in another client, so nobody is sent there.
            raise InputError(
                f"{place}: the database refuses the query",
                expected="one SELECT that only reads",
                found=found,
            ) from None
        raise InputError(
            f"{place}: the database refuses the query",
            found=found,
            remedy="try it with the database's own client under the same user",
        ) from None


def origin(database: Database) -> str:
    """A database without its user.

    >>> origin(Database(url="postgresql://reader@db.hospital:5432/warehouse"))
    'postgresql://db.hospital:5432/warehouse'
    """
    scheme, _, rest = database.url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def _quoted(name: str) -> str:
    """A column's name as SQL has it, safe from SQLAlchemy's parameters as well."""
    return '"' + name.replace('"', '""').replace(":", "\\:") + '"'


def _begin_read_only(connection: Connection) -> None:
    """Also where the server's administrator has changed what sessions begin with."""
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def _code(error: DBAPIError) -> str:
    """SQLSTATE, or SQLite's name of the error; empty where there is none."""
    found = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "sqlite_errorname", None)
    return str(found or "")


def _is_lost(error: DBAPIError, code: str) -> bool:
    """Whether it was the connection: class 08, shutdown, or an error without any code."""
    operational = type(error.orig).__name__ in {"OperationalError", "InterfaceError"}
    lost = error.connection_invalidated or (operational and not code)
    return lost or code.startswith("08") or code in {"57P01", "57P02", "57P03"}


def _named(error: DBAPIError) -> str:
    """What a mistake in the query is about; only parsing names nothing but the query's words."""
    orig = error.orig
    message = getattr(getattr(orig, "diag", None), "message_primary", None)
    if _code(error).startswith("42") and message:
        return f"({message})"
    if isinstance(orig, sqlite3.OperationalError) and str(orig).startswith("no such"):
        return f"({orig})"
    return ""
