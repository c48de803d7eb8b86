"""Rows as a file: Parquet, CSV, JSON lines."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distinct_async.etl.arrow import SCHEMA

# Ascending numbers, whose steps are small: with Parquet's default, a dictionary, a file is six times as large
_COLUMN_ENCODINGS = {"position": "DELTA_BINARY_PACKED", "timestamp_utc": "DELTA_BINARY_PACKED"}

# What spreadsheets run as a formula (https://owasp.org/www-community/attacks/CSV_Injection)
_FORMULA = r"^([=+\-@\t\r])"


def parquet_writer(file: BinaryIO, schema: pa.Schema = SCHEMA, *, statistics: bool = True) -> pq.ParquetWriter:
    """Return what writes visits into a Parquet file; the statistics of its columns cost a third, and serve queries."""
    text_columns = [each.name for each in schema if pa.types.is_string(each.type)]
    return pq.ParquetWriter(
        file, schema, use_dictionary=text_columns, column_encoding=_COLUMN_ENCODINGS, write_statistics=statistics
    )


def _write_parquet(file: BinaryIO, tables: Iterator[pa.Table], *, safe_cells: bool) -> None:  # noqa: ARG001  # of CSV only
    with parquet_writer(file) as writer:
        for table in tables:
            writer.write_table(table)


def _write_csv(file: BinaryIO, tables: Iterator[pa.Table], *, safe_cells: bool) -> None:
    # Not by pyarrow, which quotes every text: the command's `visits` writes the same CSV without this extra
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(SCHEMA.names)
    for table in tables:
        columns = (_escape_formulas(table) if safe_cells else table).to_pydict()
        columns["timestamp_utc"] = msgspec.to_builtins(columns["timestamp_utc"])
        lines.writerows(zip(*columns.values(), strict=True))
    text.detach()


def _escape_formulas(table: pa.Table) -> pa.Table:
    """Return the table with an apostrophe before each text that a spreadsheet would run."""
    for index, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            safe = pc.replace_substring_regex(table.column(index), _FORMULA, r"'\1")
            table = table.set_column(index, column.name, safe)
    return table


def _write_jsonl(file: BinaryIO, tables: Iterator[pa.Table], *, safe_cells: bool) -> None:  # noqa: ARG001  # of CSV only
    encode = msgspec.json.Encoder().encode_lines
    file.writelines(encode(table.to_pylist()) for table in tables)


WRITERS: Mapping[str, Callable[..., None]] = {"parquet": _write_parquet, "csv": _write_csv, "jsonl": _write_jsonl}
