"""A DuckDB database: a file, its tables in any older state, and transactions.

Every method blocks; all are called from one thread.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pytz  # noqa: F401  # duckdb needs it to return TIMESTAMPTZ, and would say so only then

from distinct_async.errors import InvalidRequestError, StorageError
from distinct_async.files import resolve_path, storage_errors

T = TypeVar("T")

_SERVICE_PREFIX = re.compile(r"(md|motherduck|ducklake|postgres|mysql|sqlite):", re.IGNORECASE)

_CONFLICTS = (duckdb.TransactionException, duckdb.ConstraintException)
_ATTEMPTS, _RETRY_SECONDS = 100, 0.02

_IN_CURRENT_SCHEMA = "database_name = current_database() AND schema_name = current_schema()"
_COLUMNS = f"""
SELECT table_name, list(column_name || ' ' || data_type ORDER BY column_name) FROM duckdb_columns()
WHERE {_IN_CURRENT_SCHEMA} AND NOT internal GROUP BY table_name
"""
_PRIMARY_KEYS = f"""
SELECT table_name, constraint_column_names FROM duckdb_constraints()
WHERE constraint_type = 'PRIMARY KEY' AND {_IN_CURRENT_SCHEMA}
"""


def database_path(database: str | PathLike[str]) -> Path:
    """Return the absolute path of a database, if one can be there.

    Args:
        database: The path as the user gave it.

    Raises:
        InvalidRequestError: It is a URL or ``:memory:``, or no file can have this name.
        StorageError: Something else is there, or its folder is missing or cannot be written.
    """
    text = str(database)
    if text == ":memory:":
        raise InvalidRequestError("database ':memory:' would be lost when the job ends; name a file")
    if service := _SERVICE_PREFIX.match(text):
        raise InvalidRequestError(
            f"database must be a local file; to DuckDB, {service[0]!r} names a service (a file: ./{text})"
        )
    path = resolve_path(database, "database", suffixes=[".wal"])
    if not path.exists() and not os.access(path.parent, os.W_OK):
        raise StorageError(f"{path}: no file can be created in {path.parent}")
    return path


class Database:
    """A connection to a database file, which is created with the first statement that needs it.

    Args:
        path: Of the file; absolute.
        schema: Creates the tables that are missing.
        added: The column that a table of an older version lacks, with its type, by the table's name.
        fill: Fills the columns that were added.

    Raises:
        StorageError: The file cannot be opened, or a table in it has other columns.
    """

    def __init__(
        self, path: Path, schema: str, *, added_columns: Mapping[str, str] | None = None, fill_added: str = ""
    ) -> None:
        self.path: Path = path
        self._schema = schema
        self._added_columns, self._fill_added = added_columns or {}, fill_added
        self._missing_columns: list[str] = []
        self._connection: duckdb.DuckDBPyConnection | None = None
        if path.exists():
            self._connect()

    def _connect(self) -> None:
        with self.errors():
            self._connection = duckdb.connect(str(self.path))
        try:
            self._check_tables()
        except BaseException:
            self.close()
            raise

    def _check_tables(self) -> None:
        """Compare the tables that are there with those that the schema would create."""
        with self.errors():
            other_format = self.query_number(
                "SELECT count(*) FROM duckdb_databases() WHERE NOT internal AND path IS NULL"
            )
        if other_format:  # DuckDB opens CSV, JSON and Parquet too, and would store nothing in them
            raise StorageError(f"{self.path} is not a DuckDB database")
        with self.errors(), duckdb.connect(config={"threads": 1}) as reference:
            reference.execute(self._schema)
            existing: set[str] | None = None  # those that were there first: another sync may be creating them
            for query, what in ((_COLUMNS, "columns"), (_PRIMARY_KEYS, "primary key")):
                expected = dict(reference.execute(query).fetchall())
                actual = dict(self.connection.execute(query).fetchall())
                existing = actual.keys() & expected.keys() if existing is None else existing
                for table in sorted(expected.keys() & existing):
                    missing = set(expected[table]) - set(actual.get(table, ()))
                    if table in self._added_columns and missing == {self._added_columns[table]}:
                        self._missing_columns.append(f"{table} ADD COLUMN IF NOT EXISTS {self._added_columns[table]}")
                    elif missing:
                        raise StorageError(
                            f"{self.path}: the table {table} has other {what} than this version uses (it needs "
                            f"{', '.join(sorted(missing))}); sync into another file, or rename the table"
                        )

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The connection; the file is created if necessary."""
        if self._connection is None:
            self._connect()
        if self._connection is None:
            raise AssertionError  # a connection, or an error
        return self._connection

    def create_tables(self, create_views: Callable[[duckdb.DuckDBPyConnection], object] | None = None) -> None:
        """Create what is missing, also in tables of an older version, and replace the views."""
        alterations = "".join(f"ALTER TABLE {each};" for each in self._missing_columns)
        alterations += self._fill_added if alterations else ""

        def create() -> None:
            self.connection.execute(self._schema + alterations)
            if create_views is not None:
                create_views(self.connection)

        self.retry_conflicts(create)

    def close(self) -> None:
        """Close the database; what was committed stays, so this cannot fail."""
        if self._connection is not None:
            self._connection.close()

    def insert(self, into: str, rows: pa.Table, columns: str = "*", values: Sequence[object] = ()) -> None:
        """Insert the columns of an Arrow table by their names."""
        self.connection.register("inserted_rows", rows)
        self.connection.execute(f"INSERT {into} BY NAME SELECT {columns} FROM inserted_rows", list(values))
        self.connection.unregister("inserted_rows")

    def query_number(self, statement: str, values: Sequence[object] = ()) -> int:
        """Return the first value of a statement's result, 0 if there is none."""
        rows = self.connection.execute(statement, list(values)).fetchall()
        return int(rows[0][0]) if rows else 0

    def retry_conflicts(self, action: Callable[[], T]) -> T:
        """Call `action` in a transaction, again if another sync in this process conflicts: DuckDB refuses at once."""
        with self.errors():
            for _ in range(_ATTEMPTS - 1):
                try:
                    with self._commit_or_rollback():
                        return action()
                except _CONFLICTS:
                    time.sleep(_RETRY_SECONDS)
            with self._commit_or_rollback():
                return action()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit the statements of this block, or undo them if it raises."""
        with self.errors(), self._commit_or_rollback():
            try:
                yield
            except duckdb.TransactionException as error:
                if "conflict" not in str(error).casefold():  # for example a full disk
                    raise
                raise self.concurrent_write_error() from error

    def concurrent_write_error(self) -> StorageError:
        """Return the error for two jobs that write the same rows."""
        return StorageError(
            f"{self.path}: another sync or connection in this process changes the same rows; run one at a time"
        )

    @contextmanager
    def _commit_or_rollback(self) -> Iterator[None]:
        self.connection.begin()
        try:
            yield
            self.connection.commit()
        except BaseException:
            with suppress(duckdb.Error):  # a commit that failed has undone all; so has a database that broke
                self.connection.rollback()
            raise

    def errors(self) -> AbstractContextManager[None]:
        """Return what turns errors of DuckDB, Arrow and the system, in its block, into a `StorageError`."""
        return storage_errors(self.path, duckdb.Error, pa.ArrowException)
