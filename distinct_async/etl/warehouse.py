"""A DuckDB database of an experience's visits: rows and the checkpoints behind them, in one transaction each time.

Every method blocks; all are called in one and the same thread.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import attrs
import duckdb
import msgspec
import pyarrow as pa
import pytz  # noqa: F401  # duckdb needs it to hand out TIMESTAMPTZ, and would say so only then

from distinct_async.errors import StorageError
from distinct_async.etl.arrow import IMPRESSIONS, record_batch
from distinct_async.etl.jobs import Chunk, Key, Standing
from distinct_async.etl.plans import Plan
from distinct_async.etl.results import Result
from distinct_async.models import Impression, VisitsType
from distinct_async.sansio.pages import Checkpoint
from distinct_async.version import __version__

_SETTINGS = "current_setting('memory_limit'), current_setting('threads')"
_MEMORY = 32  # MiB, and one for each thousand of lists

_CONFLICTS = (duckdb.TransactionException, duckdb.ConstraintException)
_TRIES, _PAUSE = 100, 0.02  # seconds

_TABLES: Mapping[VisitsType, str] = {"TOTAL": "visits", "UNIQUE": "unique_visits"}

_ROW = "touchpoint_id, position, user_id, timestamp_utc"
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
_MISSING = {"id": pa.string(), "asked_at": _TIME}

_VISITS = """(
    experience_id VARCHAR NOT NULL, touchpoint_id VARCHAR NOT NULL, position BIGINT NOT NULL,
    user_id VARCHAR NOT NULL, timestamp_utc TIMESTAMPTZ NOT NULL
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
CREATE TABLE IF NOT EXISTS impressions (
    id VARCHAR PRIMARY KEY, poster_id VARCHAR, program_id VARCHAR, student_id VARCHAR, scanned_at TIMESTAMPTZ,
    user_agent VARCHAR, ip_address VARCHAR, metadata JSON
);
CREATE TABLE IF NOT EXISTS missing (id VARCHAR PRIMARY KEY, asked_at TIMESTAMPTZ NOT NULL);
CREATE TEMP TABLE staged (visits_type VARCHAR, touchpoint_id VARCHAR, position BIGINT, user_id VARCHAR,
    timestamp_utc TIMESTAMPTZ);
CREATE OR REPLACE VIEW reconciliation AS
WITH counted AS (
    SELECT experience_id, touchpoint_id, 'TOTAL' AS visits_type, count(*) AS counted FROM visits GROUP BY ALL
    UNION ALL
    SELECT experience_id, touchpoint_id, 'UNIQUE', count(*) FROM unique_visits GROUP BY ALL
)
SELECT
    experience_id, touchpoint_id, visits_type,
    CASE visits_type WHEN 'TOTAL' THEN total_visits ELSE unique_visits END AS declared,
    coalesce(counted, 0) AS counted,
    declared - coalesce(counted, 0) AS missing,
    complete
FROM checkpoints JOIN touchpoints USING (experience_id, touchpoint_id)
LEFT JOIN counted USING (experience_id, touchpoint_id, visits_type)
ORDER BY ALL;
"""


class Warehouse:
    """An open database. :exc:`StorageError` for whatever DuckDB refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._run = 0
        self._experience_id = ""
        self._standing: dict[Key, Standing] = {}
        self._settings: tuple[object, ...] | None = None  # the owner's
        self.rows: int = 0  # inserted
        with self._ours():
            self._db = duckdb.connect(str(path))
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._ours():
            nowhere = self._one("SELECT count(*) FROM duckdb_databases() WHERE NOT internal AND path IS NULL")
        if nowhere:
            raise StorageError(f"{self._path}: not a database, and DuckDB would keep nothing there")
        self._contended(lambda: self._db.execute(_SCHEMA))

    def begin(self, plan: Plan) -> dict[Key, Standing]:
        """Note what the plan declares and that a run begins; return what is here already."""
        self._experience_id, now = plan.experience_id, datetime.now(UTC)
        with self._ours():
            # DuckDB would keep as much of the file as fits into most of the machine's memory, for queries to come
            before = self._db.execute(f"SELECT {_SETTINGS}").fetchone()
            self._set(f"{_MEMORY + len(plan.works) // 1000} MiB", 1)
            # Another sync at once has set them already, and will put back what was before
            self._settings = before if before != self._db.execute(f"SELECT {_SETTINGS}").fetchone() else None
        touchpoints = [
            (plan.experience_id, each.id, each.name, each.value, each.total_visits, each.unique_visits, now)
            for each in plan.touchpoints
        ]
        begun = [(plan.experience_id, *work.key, 0, 0, False, None, None, now) for work in plan.works]

        def note() -> None:
            self._insert("OR REPLACE INTO touchpoints", _table(_TOUCHPOINTS, touchpoints))
            self._insert("OR IGNORE INTO checkpoints", _table(_CHECKPOINTS, begun))
            self._run = self._one("SELECT coalesce(max(run_id), 0) + 1 FROM runs")
            run = [self._run, plan.experience_id, __version__, now, plan.expected]
            self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?, NULL, NULL, ?, NULL, NULL)", run)
            self._standing = dict(self._found())

        self._contended(note)
        return dict(self._standing)

    def _found(self) -> Iterator[tuple[Key, Standing]]:
        columns = "touchpoint_id, visits_type, checkpoint, declared, complete, ascends"
        found = self._db.execute(
            f"SELECT {columns} FROM checkpoints WHERE experience_id = ? AND checkpoint IS NOT NULL",
            [self._experience_id],
        )
        for touchpoint_id, visits_type, checkpoint, declared, complete, ascends in found.fetchall():
            standing = Standing(Checkpoint.from_json(checkpoint), declared, complete, ascends)
            yield (touchpoint_id, visits_type), standing

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Store rows and checkpoints, in one transaction."""
        rows, kept = 0, {}
        with self._transaction():
            # One statement for all lists: what a statement costs is more than what a thousand rows do
            for visits_type, name in _TABLES.items():
                appended = [chunk for chunk in chunks if chunk.work.visits_type == visits_type and not chunk.rebuild]
                if appended:
                    rows += self._append(name, appended)
            for chunk in chunks:
                if chunk.rebuild:
                    rows += self._rebuild(chunk)
                if not chunk.rebuild or chunk.end is not None:
                    kept[chunk.work.key] = chunk
            self._keep(kept)
        self.rows += rows

    def _append(self, name: str, chunks: Sequence[Chunk]) -> int:
        rows = pa.Table.from_batches(map(record_batch, chunks))
        self._insert(f"INTO {name}", rows, f"?, {_ROW}", [self._experience_id])
        return len(rows)

    def _rebuild(self, chunk: Chunk) -> int:
        """Stage the rows of a list; with the last of them, let them replace what is there."""
        touchpoint_id, visits_type = chunk.work.key
        staged, name = "visits_type = ? AND touchpoint_id = ?", _TABLES[visits_type]
        self._insert("INTO staged BY NAME", pa.Table.from_batches([record_batch(chunk)]))
        if chunk.end is None:
            return 0
        old = [self._experience_id, touchpoint_id]
        self._db.execute(f"DELETE FROM {name} WHERE experience_id = ? AND touchpoint_id = ?", old)
        new = [self._experience_id, visits_type, touchpoint_id]
        count = self._one(f"INSERT INTO {name} SELECT ?, {_ROW} FROM staged WHERE {staged}", new)
        self._db.execute(f"DELETE FROM staged WHERE {staged}", new[1:])
        return count

    def _keep(self, chunks: Mapping[Key, Chunk]) -> None:
        now, rows = datetime.now(UTC), []
        known = "SELECT touchpoint_id, visits_type, position FROM checkpoints WHERE experience_id = ?"
        positions = {(row[0], row[1]): row[2] for row in self._db.execute(known, [self._experience_id]).fetchall()}
        for key, chunk in chunks.items():
            before = self._standing.get(key)
            # DuckDB shuts out other processes only
            if positions[key] != (before.position if before is not None else 0):
                raise StorageError(f"{self._path}: another sync of this experience is going on, in this process")
            told = self._standing[key] = chunk.standing(before)
            text = chunk.checkpoint.to_json()
            rows.append(
                (self._experience_id, *key, told.position, told.declared, told.complete, told.ascends, text, now)
            )
        self._insert("OR REPLACE INTO checkpoints", _table(_CHECKPOINTS, rows))

    def finish(self, result: Result) -> None:
        """Note how the run has ended."""
        with self._transaction():
            row = [datetime.now(UTC), result.rows, result.complete, [str(each.work) for each in result.failures]]
            setting = "finished_at = ?, rows = ?, complete = ?, failures = ?"
            self._db.execute(f"UPDATE runs SET {setting} WHERE run_id = ?", [*row, self._run])

    def close(self) -> None:
        """Close the database; what was committed stands, so this cannot fail."""
        with suppress(duckdb.Error):
            if self._settings is not None:
                self._set(*self._settings)  # a connection of the caller's to the same file shares them
        self._db.close()

    # Impressions.

    def unknown(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids whose impressions are not here, each once."""
        with self._ours():
            known = self._db.execute(
                "SELECT id FROM impressions WHERE id IN (SELECT unnest(?))", [list(ids)]
            ).fetchall()
        return list(dict.fromkeys(ids).keys() - {found for (found,) in known})

    def put(self, found: Sequence[Impression], missing: Sequence[str] = ()) -> None:
        """Store impressions, or newer versions of them, and the ids that have none."""
        with self._transaction():
            names = [attribute.name for attribute in attrs.fields(Impression)]
            columns = {name: [getattr(each, name) for each in found] for name in names}
            columns["metadata"] = [msgspec.json.encode(each.metadata).decode() for each in found]
            self._insert("OR REPLACE INTO impressions BY NAME", pa.Table.from_pydict(columns, IMPRESSIONS))
            self._db.execute("DELETE FROM missing WHERE id IN (SELECT unnest(?))", [columns["id"]])
            self._insert("OR REPLACE INTO missing", _table(_MISSING, [(each, datetime.now(UTC)) for each in missing]))
        self.rows += len(found)

    # DuckDB.

    def _insert(self, into: str, rows: pa.Table, columns: str = "*", values: Sequence[object] = ()) -> None:
        self._db.register("given", rows)
        self._db.execute(f"INSERT {into} SELECT {columns} FROM given", list(values))
        self._db.unregister("given")

    def _set(self, memory: object, threads: object) -> None:
        self._db.execute(f"SET memory_limit = '{memory}'; SET threads = {threads}")

    def _one(self, statement: str, values: Sequence[object] = ()) -> int:
        row = self._db.execute(statement, list(values)).fetchone()
        return int(row[0]) if row is not None else 0

    def _contended(self, deed: Callable[[], object]) -> None:
        """Do it in a transaction; again where another sync in this process is at it, which DuckDB refuses at once."""
        with self._ours():
            for left in reversed(range(_TRIES)):
                try:
                    with self._whole():
                        deed()
                except _CONFLICTS:
                    if not left:
                        raise
                    time.sleep(_PAUSE)
                else:
                    return

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._ours(), self._whole():
            yield

    @contextmanager
    def _whole(self) -> Iterator[None]:
        self._db.begin()
        try:
            yield
            self._db.commit()
        except BaseException:
            with suppress(duckdb.Error):  # a commit that failed has undone all; so has a database that broke
                self._db.rollback()
            raise

    @contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except duckdb.Error as error:
            told = f"{self._path}: {error}"
        else:
            return
        raise StorageError(told) from None


def _table(columns: Mapping[str, pa.DataType], rows: Sequence[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], pa.schema(columns.items()))
