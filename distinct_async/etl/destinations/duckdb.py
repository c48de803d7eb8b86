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
from distinct_async.etl.arrow import TIME, group_chunks, record_batch
from distinct_async.etl.destinations import TABLES, Chunk, ListState
from distinct_async.etl.destinations.database import Database
from distinct_async.etl.plans import ListKey, Plan
from distinct_async.etl.results import Result
from distinct_async.etl.views import VISITS_VIEWS, create_views
from distinct_async.sansio.pages import Checkpoint
from distinct_async.version import __version__

_MEMORY_SETTINGS = "current_setting('memory_limit'), current_setting('threads')"
_MIN_MEMORY_MIB = 48
_MEMORY_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")

_ADDED_COLUMN = "touchpoint_name VARCHAR"  # since 0.2.0
_ROW_COLUMNS = "experience_id, touchpoint_id, touchpoint_name, position, user_id, timestamp_utc"
_TOUCHPOINTS_COLUMNS = {
    **{name: pa.string() for name in ("experience_id", "touchpoint_id", "name", "value")},
    **{name: pa.int64() for name in ("total_visits", "unique_visits")},
    "synced_at": TIME,
}
_CHECKPOINTS_COLUMNS = {
    **{name: pa.string() for name in ("experience_id", "touchpoint_id", "visits_type")},
    **{name: pa.int64() for name in ("position", "declared")},
    **{name: pa.bool_() for name in ("complete", "ascends")},
    "checkpoint": pa.string(),
    "updated_at": TIME,
}
_POSITION_COLUMNS = {
    name: _CHECKPOINTS_COLUMNS[name] for name in ("experience_id", "touchpoint_id", "visits_type", "position")
}

_VISITS_COLUMNS = """(
    experience_id VARCHAR NOT NULL, touchpoint_id VARCHAR NOT NULL, position BIGINT NOT NULL,
    user_id VARCHAR NOT NULL, timestamp_utc TIMESTAMPTZ NOT NULL, touchpoint_name VARCHAR
)"""

_CREATE_TABLES = f"""
CREATE TABLE IF NOT EXISTS touchpoints (
    experience_id VARCHAR, touchpoint_id VARCHAR, name VARCHAR, value VARCHAR,
    total_visits BIGINT NOT NULL, unique_visits BIGINT NOT NULL, synced_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (experience_id, touchpoint_id)
);
CREATE TABLE IF NOT EXISTS visits {_VISITS_COLUMNS};
CREATE TABLE IF NOT EXISTS unique_visits {_VISITS_COLUMNS};
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
_FILL_TOUCHPOINT_NAMES = "".join(
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
        self._run_ids: dict[str, int] = {}  # by experience
        self._inserted_rows = Counter[str]()  # by experience
        self._list_states: dict[ListKey, ListState] = {}
        self._owner_settings: tuple[str, int] | None = None  # of memory and threads
        self._database = Database(
            path,
            _CREATE_TABLES,
            added_columns=dict.fromkeys(TABLES.values(), _ADDED_COLUMN),
            fill_added=_FILL_TOUCHPOINT_NAMES,
        )

    def begin(self, plan: Plan) -> dict[ListKey, ListState]:
        """Note what the plan declares and that a run begins; return what is here already."""
        database, now = self._database, datetime.now(UTC)
        if not self._run_ids:
            database.create_tables(partial(create_views, VISITS_VIEWS, timezone=self._timezone))
        self._limit_memory(len(plan.works))
        touchpoint_rows = [
            (plan.experience_id, each.id, each.name, each.value, each.total_visits, each.unique_visits, now)
            for each in plan.touchpoints
        ]
        checkpoint_rows = [(*each.key, 0, 0, False, None, None, now) for each in plan.works]

        def insert_plan() -> tuple[int, dict[ListKey, ListState]]:
            database.insert("OR REPLACE INTO touchpoints", _make_table(_TOUCHPOINTS_COLUMNS, touchpoint_rows))
            database.insert("OR IGNORE INTO checkpoints", _make_table(_CHECKPOINTS_COLUMNS, checkpoint_rows))
            stored = dict(self._stored_states(plan.experience_id))
            self._check_orphan_rows([each.key for each in plan.works if each.expected and each.key not in stored])
            return self._insert_run(plan.experience_id, plan.expected), stored

        self._run_ids[plan.experience_id], stored = database.retry_conflicts(insert_plan)
        self._list_states.update(stored)
        return stored

    def _insert_run(self, experience_id: str, expected: int | None) -> int:
        run_id = self._database.query_number("SELECT coalesce(max(run_id), 0) + 1 FROM runs")
        self._database.connection.execute(
            "INSERT INTO runs (run_id, experience_id, version, started_at, expected) VALUES (?, ?, ?, ?, ?)",
            [run_id, experience_id, __version__, datetime.now(UTC), expected],
        )
        return run_id

    def rows(self, experience_id: str) -> int:
        """Return how many rows of an experience were inserted."""
        return self._inserted_rows[experience_id]

    def _limit_memory(self, lists: int) -> None:
        """Keep the database small in memory: DuckDB would keep most of the file in it, for queries to come."""
        connection = self._database.connection
        with self._database.errors():
            stored = self._database.query_number("SELECT count(*) FROM checkpoints")  # in an index, kept in memory
            limit = max(_MIN_MEMORY_MIB, 32 + lists // 1000 + stored // 10_000)
            ((memory, threads),) = connection.execute(f"SELECT {_MEMORY_SETTINGS}").fetchall()
            if threads == 1 and memory.endswith(".0 MiB"):
                # Set by another sync at once, which needs as much, and will restore what was before
                limit = max(limit, int(float(memory.split()[0])))
            else:
                self._owner_settings = _exact_memory(memory), threads
            self._set_memory(f"{limit} MiB", 1)

    def _stored_states(self, experience_id: str) -> Iterator[tuple[ListKey, ListState]]:
        columns = "touchpoint_id, visits_type, checkpoint, declared, complete, ascends"
        rows = self._database.connection.execute(
            f"SELECT {columns} FROM checkpoints WHERE experience_id = ? AND checkpoint IS NOT NULL", [experience_id]
        )
        for touchpoint_id, visits_type, checkpoint, declared, complete, ascends in rows.fetchall():
            key = ListKey(experience_id, touchpoint_id, visits_type)
            try:
                state = ListState(Checkpoint.from_json(checkpoint), declared, complete, ascends)
            except CheckpointError as error:
                raise self._inconsistency_error(key, f"its row in checkpoints is damaged ({error.message})") from None
            yield key, state

    def _check_orphan_rows(self, keys: Sequence[ListKey]) -> None:
        """Refuse rows of a list of which no checkpoint is left: they would be stored twice."""
        for visits_type, table in TABLES.items():
            touchpoint_ids = [touchpoint_id for _, touchpoint_id, list_type in keys if list_type == visits_type]
            if not touchpoint_ids:
                continue
            query = f"SELECT touchpoint_id FROM {table} WHERE experience_id = ? AND touchpoint_id IN (SELECT unnest(?))"
            orphan = self._database.connection.execute(
                f"{query} LIMIT 1", [keys[0].experience_id, touchpoint_ids]
            ).fetchone()
            if orphan is not None:
                key = ListKey(keys[0].experience_id, orphan[0], visits_type)
                raise self._inconsistency_error(key, f"{table} has rows of it, and checkpoints no position behind them")

    def _inconsistency_error(self, key: ListKey, problem: str) -> StorageError:
        experience_id, touchpoint_id, visits_type = key
        return StorageError(
            f"{self._database.path}: experience {experience_id!r}, touchpoint {touchpoint_id!r}, {visits_type} visits: "
            f"{problem}; delete what the tables have of it and sync again"
        )

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Store rows and checkpoints, in one transaction."""
        row_counts, last_chunks = Counter[str](), {}
        with self._database.transaction():
            # One statement for all lists: a statement costs more than a thousand rows
            for visits_type, table in TABLES.items():
                appended_chunks = [
                    each for each in chunks if each.visit_list.visits_type == visits_type and not each.rebuild
                ]
                if appended_chunks:
                    self._database.insert(f"INTO {table}", _visits_table(appended_chunks), _ROW_COLUMNS)
            for chunk in chunks:
                key = chunk.visit_list.key
                row_counts[key.experience_id] += self._rebuild(chunk) if chunk.rebuild else len(chunk.visits)
                if not chunk.rebuild or chunk.end is not None:
                    last_chunks[key] = chunk
            self._store_checkpoints(last_chunks)
        self._inserted_rows += row_counts

    def _rebuild(self, chunk: Chunk) -> int:
        """Stage the rows of a list; with the last of them, let them replace what is there."""
        *touchpoint_key, visits_type = key = chunk.visit_list.key
        same_touchpoint, table = "experience_id = ? AND touchpoint_id = ?", TABLES[visits_type]
        self._database.insert("INTO staged", _visits_table([chunk]), f"visits_type, {_ROW_COLUMNS}")
        if chunk.end is None:
            return 0
        execute, same_list = self._database.connection.execute, f"{same_touchpoint} AND visits_type = ?"
        execute(f"DELETE FROM {table} WHERE {same_touchpoint}", touchpoint_key)
        insert = f"INSERT INTO {table} ({_ROW_COLUMNS}) SELECT {_ROW_COLUMNS} FROM staged WHERE {same_list}"
        count = self._database.query_number(insert, key)
        execute(f"DELETE FROM staged WHERE {same_list}", key)
        return count

    def _store_checkpoints(self, chunks: Mapping[ListKey, Chunk]) -> None:
        now, rows = datetime.now(UTC), []
        self._check_positions(chunks)
        for key, chunk in chunks.items():
            state = self._list_states[key] = chunk.state(self._list_states.get(key))
            checkpoint_json = chunk.checkpoint.to_json()
            rows.append((*key, state.position, state.declared, state.complete, state.ascends, checkpoint_json, now))
        self._database.insert("OR REPLACE INTO checkpoints", _make_table(_CHECKPOINTS_COLUMNS, rows))

    def _check_positions(self, keys: Iterable[ListKey]) -> None:
        """Refuse to write behind another sync in this process: DuckDB shuts out other processes only."""
        expected_positions = [
            (*key, self._list_states[key].position if key in self._list_states else 0) for key in keys
        ]
        self._database.connection.register("expected_positions", _make_table(_POSITION_COLUMNS, expected_positions))
        unchanged = self._database.query_number(
            f"SELECT count(*) FROM expected_positions JOIN checkpoints USING ({', '.join(_POSITION_COLUMNS)})"
        )
        self._database.connection.unregister("expected_positions")
        if unchanged != len(expected_positions):
            raise self._database.concurrent_write_error()

    def finish(self, result: Result) -> None:
        """Note how the runs have ended, also of experiences that could not be begun."""
        if not self._run_ids:
            return
        assignments = "finished_at = ?, rows = ?, complete = ?, failures = ?"

        def update_runs() -> None:
            for experience_id, each in result.experiences.items():
                run_id = self._run_ids.get(experience_id)
                failures = [*(str(failure.work) for failure in each.failures), *each.problems]
                if run_id is None:
                    run_id = self._insert_run(experience_id, None)
                if each.error is not None and not failures:  # it stopped the whole experience
                    failures = [str(each.error)]
                row = [datetime.now(UTC), each.rows, each.complete, failures]
                self._database.connection.execute(f"UPDATE runs SET {assignments} WHERE run_id = ?", [*row, run_id])

        self._database.retry_conflicts(update_runs)

    def close(self) -> None:
        """Close the database, with the memory settings of its owner; what was committed stays."""
        with suppress(duckdb.Error):
            if self._owner_settings is not None:
                self._set_memory(*self._owner_settings)  # a connection of the caller's to the same file shares them
        self._database.close()

    def _set_memory(self, memory: str, threads: int) -> None:
        self._database.connection.execute(f"SET memory_limit = '{memory}'; SET threads = {threads}")


def _exact_memory(limit: str) -> str:
    """Return what sets a limit that DuckDB shows as this text, such as "1.1 GiB": it sets less by that text itself."""
    number, unit = limit.split()
    return f"{ceil(float(number) * 1024) * 1024 ** _MEMORY_UNITS.index(unit) // 1024}B"


def _visits_table(chunks: Sequence[Chunk]) -> pa.Table:
    return pa.Table.from_batches(map(record_batch, group_chunks(chunks)))


def _make_table(columns: Mapping[str, pa.DataType], rows: Sequence[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], pa.schema(columns.items()))
