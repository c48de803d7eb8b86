"""A world's rows as every job must give them, and the rows that are in a file, a table or a database."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from distinct_async.models import VisitsType
from distinct_async.testing import World

Row = tuple[str, str, int, str, datetime]
COLUMNS = (
    "experience_id",
    "touchpoint_id",
    "touchpoint_name",
    "visits_type",
    "position",
    "user_id",
    "timestamp_utc",
)
KEYS = ("touchpoint_id", "visits_type", "position", "user_id", "timestamp_utc")  # of a `Row`
BOTH: tuple[VisitsType, VisitsType] = ("TOTAL", "UNIQUE")


def rows_of(world: World, *kinds: VisitsType, experience_id: str = "exp-1") -> list[Row]:
    """All rows, touchpoint by touchpoint, as the world has them; without kinds: of ``TOTAL``."""
    return [
        (touchpoint_id, kind, position, scan.user_id, scan.at)
        for touchpoint_id in world.touchpoints
        if world.touchpoint(touchpoint_id).experience_id == experience_id
        for kind in kinds or ("TOTAL",)
        for position, scan in enumerate(
            world.scans(touchpoint_id) if kind == "TOTAL" else world.unique_scans(touchpoint_id)
        )
    ]


def rows_in(table: Any) -> list[Row]:
    """The rows of an Arrow table or batch, with times in UTC."""
    rows = [tuple(row[name] for name in KEYS) for row in table.to_pylist()]
    return [(*row[:4], row[4].astimezone(UTC)) for row in rows]


def read_file(path: Path) -> list[dict[str, Any]]:
    """The rows of an exported file with all columns; nothing of this project reads it."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


def rows_from(path: Path) -> list[Row]:
    """The rows of an exported file."""
    if path.suffix == ".parquet":
        return rows_in(pq.read_table(path))
    read = read_file(path)
    assert {COLUMNS} == {tuple(row) for row in read} or not read
    return [
        (
            row["touchpoint_id"],
            row["visits_type"],
            int(row["position"]),
            row["user_id"],
            datetime.fromisoformat(row["timestamp_utc"]),
        )
        for row in read
    ]


def asked(database: Path, question: str) -> list[tuple[Any, ...]]:
    """What a database responses."""
    with duckdb.connect(str(database)) as db:
        return db.execute(question).fetchall()


def rows_stored(database: Path, *kinds: VisitsType, experience_id: str = "exp-1") -> list[Row]:
    """The rows of a database's tables, in the order of `rows_of` where touchpoints sort by their ids."""
    tables = {"TOTAL": "visits", "UNIQUE": "unique_visits"}
    found = [
        (touchpoint_id, kind, position, user_id, at.astimezone(UTC))
        for kind in kinds or ("TOTAL",)
        for touchpoint_id, position, user_id, at in asked(
            database,
            "SELECT touchpoint_id, position, user_id, timestamp_utc FROM "  # noqa: S608  # our own names
            f"{tables[kind]} WHERE experience_id = '{experience_id}'",
        )
    ]
    return sorted(found)


def table_of(batches: list[pa.RecordBatch]) -> Any:
    """Batches as one table, sorted by the rows' keys."""
    keys = [("touchpoint_id", "ascending"), ("visits_type", "ascending"), ("position", "ascending")]
    return pa.Table.from_batches(batches).sort_by(keys)
