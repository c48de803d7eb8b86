"""Rows as a file: Parquet, CSV, JSON lines."""

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from distinct_async.etl.arrow import SCHEMA

# Ascending numbers, whose steps are small: Parquet's own choice, a dictionary, makes a file six times as large of them
_ENCODING = {"position": "DELTA_BINARY_PACKED", "timestamp_utc": "DELTA_BINARY_PACKED"}
_DICTIONARY = ["touchpoint_id", "visits_type", "user_id"]


def parquet_writer(file: BinaryIO) -> pq.ParquetWriter:
    """What writes our rows into a Parquet file."""
    return pq.ParquetWriter(file, SCHEMA, use_dictionary=_DICTIONARY, column_encoding=_ENCODING)


def _parquet(file: BinaryIO, tables: Iterator[pa.Table]) -> None:
    with parquet_writer(file) as writer:
        for table in tables:
            writer.write_table(table)


def _csv(file: BinaryIO, tables: Iterator[pa.Table]) -> None:
    where = SCHEMA.get_field_index("timestamp_utc")
    schema = SCHEMA.set(where, pa.field("timestamp_utc", pa.string()))
    with pyarrow.csv.CSVWriter(file, schema) as writer:
        for table in tables:
            times = pc.strftime(table.column(where), format="%Y-%m-%dT%H:%M:%SZ")  # with six digits of a second
            writer.write_table(table.set_column(where, "timestamp_utc", times).cast(schema))


def _jsonl(file: BinaryIO, tables: Iterator[pa.Table]) -> None:
    encode = msgspec.json.Encoder().encode_lines
    file.writelines(encode(table.to_pylist()) for table in tables)


WRITERS: Mapping[str, Callable[[BinaryIO, Iterator[pa.Table]], None]] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _jsonl,
}
