"""Impressions in a DuckDB database; every method blocks, and all are called from one thread."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa

from distinct_async.etl.arrow import TIME, impressions_table
from distinct_async.etl.destinations.database import Database
from distinct_async.etl.views import CREATE_USER_AGENTS, IMPRESSIONS_VIEWS, create_views
from distinct_async.models import Impression

_CREATE_TABLES = """
CREATE TABLE IF NOT EXISTS impressions (
    id VARCHAR PRIMARY KEY, poster_id VARCHAR, program_id VARCHAR, student_id VARCHAR, scanned_at TIMESTAMPTZ,
    user_agent VARCHAR, ip_address VARCHAR, metadata JSON
);
CREATE TABLE IF NOT EXISTS missing (id VARCHAR PRIMARY KEY, asked_at TIMESTAMPTZ NOT NULL);
"""
_MISSING_COLUMNS = pa.schema([("id", pa.string()), ("asked_at", TIME)])


class ImpressionTable:
    """The tables `impressions`, `missing` and `parsed_user_agents`.

    Args:
        path: Of the database; absolute.
        timezone: The time zone of its views; None to leave it.

    Raises:
        StorageError: The database cannot be opened or does not fit.
    """

    def __init__(self, path: Path, timezone: str | None = None) -> None:
        self.rows: int = 0  # written
        self._database = Database(path, _CREATE_TABLES + CREATE_USER_AGENTS)
        try:
            self._database.create_tables(partial(create_views, IMPRESSIONS_VIEWS, timezone=timezone))
        except BaseException:
            self.close()
            raise

    def select_new(self, ids: Sequence[str]) -> list[str]:
        """Return those of the ids whose impressions are not stored, each once."""
        with self._database.errors():
            stored_ids = self._database.connection.execute(
                "SELECT id FROM impressions WHERE id IN (SELECT unnest(?))", [list(ids)]
            ).fetchall()
        return list(dict.fromkeys(ids).keys() - {stored_id for (stored_id,) in stored_ids})

    def put(self, impressions: Sequence[Impression], missing: Sequence[str] = ()) -> None:
        """Store impressions, or newer versions of them, and the ids that have none."""
        table = impressions_table(impressions)
        now = datetime.now(UTC)
        missing_table = pa.Table.from_pydict({"id": list(missing), "asked_at": [now] * len(missing)}, _MISSING_COLUMNS)
        with self._database.transaction():
            self._database.insert("OR REPLACE INTO impressions", table)
            delete = "DELETE FROM missing WHERE id IN (SELECT unnest(?))"
            self._database.connection.execute(delete, [table["id"].to_pylist()])
            self._database.insert("OR REPLACE INTO missing", missing_table)
        self.rows += len(impressions)

    def parse_user_agents(self) -> None:
        """Note what the user agents say, if the extra ``report`` is installed; else only `metadata` has devices."""
        with suppress(ModuleNotFoundError):
            from distinct_async.etl.devices import parse_user_agents

            with self._database.transaction():
                parse_user_agents(self._database.connection)

    def close(self) -> None:
        """Close the database; what was committed stays."""
        self._database.close()
