"""An experience's visits in a DuckDB database: rows and the checkpoints behind them, in one transaction each time.

Every method blocks; all are called from one thread.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from math import ceil
from pathlib import Path

import duckdb
import pyarrow as pa

from distinct_async.errors import CheckpointError, StorageError
from distinct_async.etl.arrow import group_chunks, record_batch
from distinct_async.etl.destinations import TABLES, Chunk, ListState
from distinct_async.etl.destinations.database import Database
from distinct_async.etl.plans import ListKey, Plan
from distinct_async.etl.results import Result
from distinct_async.etl.views import VISITS, create_views
from distinct_async.sansio.pages import Checkpoint
from distinct_async.version import __version__

_SETTINGS = "current_setting('memory_limit'), current_setting('threads')"
_MEMORY = 48  # MiB, at least
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")

_ADDED = "touchpoint_name VARCHAR"  # since 0.2.0
_ROW = "experience_id, touchpoint_id, touchpoint_name, position, user_id, timestamp_utc"
_TIME = pa.timestamp("us", tz="UTC")
_TOUCHPOINTS = {
    **{name: pa.string() for name in ("experience_id", "touchpoint_id", "name", "value")},
    **{name: pa.int64() for name in ("total_visits", "unique_visits")},
    "synced_at": _TIME,
}
_CHECKPOINTS = {
    **{name: pa.string() for name in ("experience_id", "touchpoint_id", "visits_type")},
    **{name: pa.int64() for name in ("position", "declared")},
    **{name: pa.bool_() for name in ("complete", "ascends")},
    "checkpoint": pa.string(),
    "updated_at": _TIME,
}
_KEYS = {
    **{name: pa.string() for name in ("experience_id", "touchpoint_id", "visits_type")},
    "position": pa.int64(),
}

_VISITS = """(
    experience_id VARCHAR NOT NULL, touchpoint_id VARCHAR NOT NULL, position BIGINT NOT NULL,
    user_id VARCHAR NOT NULL, timestamp_utc TIMESTAMPTZ NOT NULL, touchpoint_name VARCHAR
)"""

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS touchpoints (
    experience_id VARCHAR, touchpoint_id VARCHAR, name VARCHAR, value VARCHAR,
    total_visits BIGINT NOT NULL, unique_visits BIGINT NOT NULL, synced_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (experience_id, touchpoint_id)
);
CREATE TABLE IF NOT EXISTS visits {_VISITS};
CREATE TABLE IF NOT EXISTS unique_visits {_VISITS};
CREATE TABLE IF NOT EXISTS checkpoints (
    experience_id VARCHAR, touchpoint_id VARCHAR, visits_type VARCHAR,
    position BIGINT NOT NULL, declared BIGINT NOT NULL, complete BOOLEAN NOT NULL, ascends BOOLEAN,
    checkpoint VARCHAR, updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (experience_id, touchpoint_id, visits_type)
);
CREATE TABLE IF NOT EXISTS runs (
    run_id BIGINT PRIMARY KEY, experience_id VARCHAR NOT NULL, version VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL, finished_at TIMESTAMPTZ, rows BIGINT, expected BIGINT, complete BOOLEAN,
    failures VARCHAR[]
);
CREATE TEMP TABLE IF NOT EXISTS staged (experience_id VARCHAR, touchpoint_id VARCHAR, touchpoint_name VARCHAR,
    visits_type VARCHAR, position BIGINT, user_id VARCHAR, timestamp_utc TIMESTAMPTZ);
"""

# Fills what a database of 0.1.0 lacks
_NAMES = "".join(
    f"""
UPDATE {table} SET touchpoint_name = touchpoints.name FROM touchpoints
WHERE touchpoints.experience_id = {table}.experience_id AND touchpoints.touchpoint_id = {table}.touchpoint_id;
"""
    for table in TABLES.values()
)


class DuckDBDestination:
    """Visits in a database.

    Args:
        path: Of the file; absolute.
        timezone: The time zone of its views; None to leave it.

    Raises:
        StorageError: The database cannot be opened or does not fit.
    """

    def __init__(self, path: Path, timezone: str | None = None) -> None:
        self._timezone = timezone
        self._runs: dict[str, int] = {}  # by experience
        self._rows = Counter[str]()  # inserted, by experience
        self._states: dict[ListKey, ListState] = {}
        self._settings: tuple[str, int] | None = None  # the owner's
        self._database = Database(path, _SCHEMA, added=dict.fromkeys(TABLES.values(), _ADDED), fill=_NAMES)

    def begin(self, plan: Plan) -> dict[ListKey, ListState]:
        """Note what the plan declares and that a run begins; return what is here already."""
        database, now = self._database, datetime.now(UTC)
        if not self._runs:
            database.create_tables(partial(create_views, VISITS, timezone=self._timezone))
        self._limit_memory(len(self._states) + len(plan.works))
        touchpoints = [
            (plan.experience_id, each.id, each.name, each.value, each.total_visits, each.unique_visits, now)
            for each in plan.touchpoints
        ]
        begun = [(*each.key, 0, 0, False, None, None, now) for each in plan.works]

        def note() -> tuple[int, dict[ListKey, ListState]]:
            database.insert("OR REPLACE INTO touchpoints", _table(_TOUCHPOINTS, touchpoints))
            database.insert("OR IGNORE INTO checkpoints", _table(_CHECKPOINTS, begun))
            stored = dict(self._stored_states(plan.experience_id))
            self._check_rows([each.key for each in plan.works if each.expected and each.key not in stored])
            return self._begin_run(plan.experience_id, plan.expected), stored

        self._runs[plan.experience_id], stored = database.retry_conflicts(note)
        self._states.update(stored)
        return stored

    def _begin_run(self, experience_id: str, expected: int | None) -> int:
        run = self._database.number("SELECT coalesce(max(run_id), 0) + 1 FROM runs")
        self._database.connection.execute(
            "INSERT INTO runs (run_id, experience_id, version, started_at, expected) VALUES (?, ?, ?, ?, ?)",
            [run, experience_id, __version__, datetime.now(UTC), expected],
        )
        return run

    def rows(self, experience_id: str) -> int:
        """Return how many rows of an experience were inserted."""
        return self._rows[experience_id]

    def _limit_memory(self, lists: int) -> None:
        """Keep the database small in memory: DuckDB would keep most of the file in it, for queries to come."""
        connection = self._database.connection
        with self._database.errors():
            before = connection.execute(f"SELECT {_SETTINGS}").fetchall()
            self._set(f"{max(_MEMORY, 32 + lists // 1000)} MiB", 1)
            # Another sync at once has set them already, and will restore what was before
            if self._settings is None and before != connection.execute(f"SELECT {_SETTINGS}").fetchall():
                self._settings = _exact_memory(before[0][0]), before[0][1]

    def _stored_states(self, experience_id: str) -> Iterator[tuple[ListKey, ListState]]:
        columns = "touchpoint_id, visits_type, checkpoint, declared, complete, ascends"
        rows = self._database.connection.execute(
            f"SELECT {columns} FROM checkpoints WHERE experience_id = ? AND checkpoint IS NOT NULL", [experience_id]
        )
        for touchpoint_id, visits_type, checkpoint, declared, complete, ascends in rows.fetchall():
            key = experience_id, touchpoint_id, visits_type
            try:
                state = ListState(Checkpoint.from_json(checkpoint), declared, complete, ascends)
            except CheckpointError as error:
                raise self._inconsistent(key, f"its row in checkpoints is damaged ({error.message})") from None
            yield key, state

    def _check_rows(self, keys: Sequence[ListKey]) -> None:
        """Refuse rows of a list of which no checkpoint is left: they would be stored twice."""
        for visits_type, name in TABLES.items():
            touchpoints = [touchpoint_id for _, touchpoint_id, kind in keys if kind == visits_type]
            if not touchpoints:
                continue
            query = f"SELECT touchpoint_id FROM {name} WHERE experience_id = ? AND touchpoint_id IN (SELECT unnest(?))"
            found = self._database.connection.execute(f"{query} LIMIT 1", [keys[0][0], touchpoints]).fetchone()
            if found is not None:
                key = keys[0][0], found[0], visits_type
                raise self._inconsistent(key, f"{name} has rows of it, and checkpoints no position behind them")

    def _inconsistent(self, key: ListKey, problem: str) -> StorageError:
        experience_id, touchpoint_id, visits_type = key
        return StorageError(
            f"{self._database.path}: experience {experience_id!r}, touchpoint {touchpoint_id!r}, {visits_type} visits: "
            f"{problem}; delete what the tables have of it and sync again"
        )

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Store rows and checkpoints, in one transaction."""
        rows, kept = Counter[str](), {}
        with self._database.transaction():
            # One statement for all lists: a statement costs more than a thousand rows
            for visits_type, name in TABLES.items():
                appended = [each for each in chunks if each.visit_list.visits_type == visits_type and not each.rebuild]
                if appended:
                    self._database.insert(f"INTO {name}", _rows(appended), _ROW)
            for chunk in chunks:
                key = chunk.visit_list.key
                rows[key[0]] += self._rebuild(chunk) if chunk.rebuild else len(chunk.visits)
                if not chunk.rebuild or chunk.end is not None:
                    kept[key] = chunk
            self._keep(kept)
        self._rows += rows

    def _rebuild(self, chunk: Chunk) -> int:
        """Stage the rows of a list; with the last of them, let them replace what is there."""
        *touchpoint, visits_type = key = chunk.visit_list.key
        this, name = "experience_id = ? AND touchpoint_id = ?", TABLES[visits_type]
        self._database.insert("INTO staged", _rows([chunk]), f"visits_type, {_ROW}")
        if chunk.end is None:
            return 0
        execute, staged = self._database.connection.execute, f"{this} AND visits_type = ?"
        execute(f"DELETE FROM {name} WHERE {this}", touchpoint)
        insert = f"INSERT INTO {name} ({_ROW}) SELECT {_ROW} FROM staged WHERE {staged}"
        count = self._database.number(insert, key)
        execute(f"DELETE FROM staged WHERE {staged}", key)
        return count

    def _keep(self, chunks: Mapping[ListKey, Chunk]) -> None:
        now, rows = datetime.now(UTC), []
        self._check_positions(chunks)
        for key, chunk in chunks.items():
            state = self._states[key] = chunk.state(self._states.get(key))
            text = chunk.checkpoint.to_json()
            rows.append((*key, state.position, state.declared, state.complete, state.ascends, text, now))
        self._database.insert("OR REPLACE INTO checkpoints", _table(_CHECKPOINTS, rows))

    def _check_positions(self, keys: Iterable[ListKey]) -> None:
        """Refuse to write behind another sync in this process: DuckDB shuts out other processes only."""
        known = [(*key, self._states[key].position if key in self._states else 0) for key in keys]
        self._database.connection.register("known", _table(_KEYS, known))
        unchanged = self._database.number(f"SELECT count(*) FROM known JOIN checkpoints USING ({', '.join(_KEYS)})")
        self._database.connection.unregister("known")
        if unchanged != len(known):
            raise self._database.not_alone()

    def finish(self, result: Result) -> None:
        """Note how the runs have ended, also of experiences that could not be begun."""
        if not self._runs:
            return
        setting = "finished_at = ?, rows = ?, complete = ?, failures = ?"

        def note() -> None:
            for experience_id, each in result.experiences.items():
                run = self._runs.get(experience_id)
                failures = [*(str(failure.work) for failure in each.failures), *each.problems]
                if run is None:
                    run = self._begin_run(experience_id, None)
                if each.error is not None and not failures:  # it stopped the whole experience
                    failures = [str(each.error)]
                row = [datetime.now(UTC), each.rows, each.complete, failures]
                self._database.connection.execute(f"UPDATE runs SET {setting} WHERE run_id = ?", [*row, run])

        self._database.retry_conflicts(note)

    def close(self) -> None:
        """Close the database, with the memory settings of its owner; what was committed stays."""
        with suppress(duckdb.Error):
            if self._settings is not None:
                self._set(*self._settings)  # a connection of the caller's to the same file shares them
        self._database.close()

    def _set(self, memory: str, threads: int) -> None:
        self._database.connection.execute(f"SET memory_limit = '{memory}'; SET threads = {threads}")


def _exact_memory(limit: str) -> str:
    """Return what sets a limit that DuckDB shows as this text, such as "1.1 GiB": it sets less by that text itself."""
    number, unit = limit.split()
    return f"{ceil(float(number) * 1024) * 1024 ** _UNITS.index(unit) // 1024}B"


def _rows(chunks: Sequence[Chunk]) -> pa.Table:
    return pa.Table.from_batches(map(record_batch, group_chunks(chunks)))


def _table(columns: Mapping[str, pa.DataType], rows: Sequence[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], pa.schema(columns.items()))
