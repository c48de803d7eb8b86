"""Rows as Arrow: one fixed schema, whatever the job."""

import sys
from collections.abc import Sequence
from datetime import datetime

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from distinct_async.etl.destinations import Chunk
from distinct_async.etl.plans import VisitList
from distinct_async.models import Impression

TIME = pa.timestamp("us", tz="UTC")
_MIN_BATCH_ROWS = 5_000
_PACKED_MIN_TIMES = 500  # of fewer, JSON costs less; of fewer than 16, the header would be shorter
_PACKED_HEADER_BYTES = 5  # of an array in MessagePack, at most; at least 3
_PACKED_TIME_BYTES = 6  # of whole seconds, 1970 to 2106: two for what it is, four for the seconds, the highest first

# Position is the row's place in the whole list, from 0. (user, time) is no key: two scans may share a second.
SCHEMA = pa.schema(
    [
        pa.field("experience_id", pa.string(), nullable=False),
        pa.field("touchpoint_id", pa.string(), nullable=False),
        pa.field("touchpoint_name", pa.string()),
        pa.field("visits_type", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("timestamp_utc", TIME, nullable=False),
    ]
)

IMPRESSIONS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("poster_id", pa.string()),
        pa.field("program_id", pa.string()),
        pa.field("student_id", pa.string()),
        pa.field("scanned_at", TIME),
        pa.field("user_agent", pa.string()),
        pa.field("ip_address", pa.string()),
        pa.field("metadata", pa.string()),  # JSON
    ]
)


def group_chunks(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Return chunks in groups of enough rows for a batch; each batch has its costs, and short lists are many."""
    groups, rows = [list[Chunk]()], 0
    for chunk in chunks:
        if rows >= _MIN_BATCH_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(chunk)
        rows += len(chunk.visits)
    return groups


def record_batch(chunks: Sequence[Chunk]) -> pa.RecordBatch:
    """Return the rows of chunks, one behind the other, each with its key."""
    key_columns = zip(*map(_key_columns, chunks), strict=True)
    return pa.RecordBatch.from_arrays(
        [
            *map(pa.concat_arrays, key_columns),
            pa.array([visit.user_id for chunk in chunks for visit in chunk.visits], pa.string()),
            _time_array([visit.timestamp_utc for chunk in chunks for visit in chunk.visits]),
        ],
        schema=SCHEMA,
    )


def _key_columns(chunk: Chunk) -> list[pa.Array]:
    count, visit_list = len(chunk.visits), chunk.visit_list
    return [
        *_id_columns(visit_list, count),
        pa.repeat(visit_list.visits_type, count),
        pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=chunk.start - 1),
    ]


def impressions_table(impressions: Sequence[Impression]) -> pa.Table:
    """Return impressions as a table, their metadata as JSON."""
    columns = {name: [getattr(each, name) for each in impressions] for name in IMPRESSIONS_SCHEMA.names}
    columns["metadata"] = [msgspec.json.encode(each.metadata).decode() for each in impressions]
    return pa.Table.from_pydict(columns, IMPRESSIONS_SCHEMA)


def complete_columns(table: pa.Table, visit_list: VisitList) -> pa.Table:
    """Return rows of a list, which a part of an export holds without what the plan says, with all columns."""
    list_columns = table.columns[-4:]
    return pa.Table.from_arrays([*_id_columns(visit_list, len(table)), *list_columns], schema=SCHEMA)


def _id_columns(visit_list: VisitList, count: int) -> list[pa.Array]:
    ids = visit_list.experience_id, visit_list.touchpoint.id, visit_list.touchpoint.name
    return [pa.repeat(pa.scalar(each, pa.string()), count) for each in ids]


def _time_array(times: Sequence[datetime]) -> pa.Array:
    """Return UTC times as Arrow has them, by way of MessagePack, or JSON and a cast: `pa.array` costs twice that."""
    count = len(times)
    if count >= _PACKED_MIN_TIMES and sys.byteorder == "little":
        packed = msgspec.msgpack.encode(times)
        if len(packed) <= _PACKED_HEADER_BYTES + _PACKED_TIME_BYTES * count:  # else one has 4 more, or 9
            seconds, lowest = bytearray(8 * count), len(packed) - _PACKED_TIME_BYTES * (count - 1) - 1
            for place in range(4):
                seconds[place::8] = packed[lowest - place :: _PACKED_TIME_BYTES]
            return pa.Array.from_buffers(pa.timestamp("s", "UTC"), count, [None, pa.py_buffer(seconds)]).cast(TIME)
    iso_times = msgspec.json.encode(times).decode()[2:-2].split('","') if times else []
    return pa.array(iso_times, pa.string()).cast(TIME)
