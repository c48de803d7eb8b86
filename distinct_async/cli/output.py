"""Rows in every format, to stdout, into a file that is complete or absent, or into one that a later run continues."""

import csv
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from attrs import field, frozen
from cyclopts import CycloptsError
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from distinct_async import Checkpoint
from distinct_async.cli.console import Stderr, make_table, printable, wrap
from distinct_async.cli.options import WALK_FILES, OutputOptions, RowFormat
from distinct_async.errors import StorageError
from distinct_async.files import atomic_replace, resolve_path, storage_errors, sync_file

_MAX_LIST_ITEMS: Final = 5  # items of a list in a table's cell
_UNLIMITED_WIDTH: Final = 10_000  # columns if nothing need be folded
_SAVE_SECONDS: Final = 0.5

Row = Mapping[str, object]


@frozen
class RowLayout:
    """How rows of a kind look.

    Attributes:
        unit: What they are called.
        columns: Their names.
        wide: The columns that no table has room for; only blocks show them.
        prose: The columns whose texts a table may wrap between words.
        blocks: Whether each row is a block of lines rather than a line of a table.
        styles: How words in the column ``state`` look.
        extend: Returns rows with more columns, and more rows, for a terminal that has room for them.
    """

    unit: str
    columns: Sequence[str]
    wide: Sequence[str] = ()
    prose: Sequence[str] = ()
    blocks: bool = False
    styles: Mapping[str, str] = field(factory=dict)
    extend: Callable[[Sequence[Row]], Sequence[Row]] | None = None

    def row(self, *values: object) -> Row:
        """Return a row of these values, if no class has them as attributes."""
        return dict(zip(self.columns, values, strict=True))


class Encoder:
    """Rows as JSON lines; the other formats override what differs.

    Args:
        shape: What they are.
        terminal: Whether a terminal shows them: control characters are then escaped or replaced.
    """

    head: bytes = b""

    def __init__(self, layout: RowLayout, *, terminal: bool) -> None:
        self.layout: RowLayout = layout
        self.columns: Sequence[str] = layout.columns
        self.terminal: bool = terminal

    def encode(self, rows: Iterable[object]) -> bytes:
        """Return some rows."""
        return self._escape(msgspec.json.Encoder().encode_lines(self._row_dicts(rows)))

    def end(self) -> bytes:
        """Return what comes after the last row."""
        return b""

    def _row_dicts(self, rows: Iterable[object]) -> list[dict[str, object]]:
        # msgspec takes attrs classes too, but gives the fields of a slotted one sorted by name
        names = self.columns
        return [row if isinstance(row, dict) else {name: getattr(row, name) for name in names} for row in rows]

    def _json_rows(self, rows: Iterable[object]) -> list[Mapping[str, object]]:
        """Return the rows as JSON has them: times are texts."""
        json_rows: list[Mapping[str, object]] = msgspec.to_builtins(self._row_dicts(rows))
        return json_rows

    def _escape(self, encoded: bytes) -> bytes:
        if not self.terminal:
            return encoded
        return re.sub(r"[^\n -~]+", lambda match: _escape_control_characters(match[0]), encoded.decode()).encode()


class _Json(Encoder):
    """One array."""

    _separator = b"[\n"

    def encode(self, rows: Iterable[object]) -> bytes:
        encoded = b""
        for row in self._row_dicts(rows):
            encoded += self._separator + self._escape(msgspec.json.encode(row))
            self._separator = b",\n"
        return encoded

    def end(self) -> bytes:
        return b"[]\n" if self._separator == b"[\n" else b"\n]\n"


class _Csv(Encoder):
    """A head and lines; a list or an object is JSON in its cell, null is an empty cell."""

    def __init__(self, layout: RowLayout, *, terminal: bool) -> None:
        super().__init__(layout, terminal=terminal)
        self.head = self._lines([layout.columns])

    def encode(self, rows: Iterable[object]) -> bytes:
        return self._lines([_csv_cell(value) for value in row.values()] for row in self._json_rows(rows))

    def _lines(self, lines: Iterable[Sequence[object]]) -> bytes:
        text = io.StringIO(newline="")
        if self.terminal:
            lines = [[printable(value) if isinstance(value, str) else value for value in line] for line in lines]
        csv.writer(text, lineterminator="\n").writerows(lines)
        return text.getvalue().encode()


class _Table(Encoder):
    """A line for each row, or a block of lines, if a line is too long: ids are never cut or folded.

    Keeps the rows, since the widths depend on all of them.
    """

    def __init__(self, layout: RowLayout, *, terminal: bool) -> None:
        super().__init__(layout, terminal=terminal)
        self._rows: list[Mapping[str, object]] = []

    def encode(self, rows: Iterable[object]) -> bytes:
        self._rows += self._json_rows(rows)
        return b""

    def end(self) -> bytes:
        # Not FORCE_COLOR, which test runners set for all their children, decides: in a pipe it is plain and not folded
        console = Console(
            file=io.StringIO(),
            force_terminal=self.terminal,
            highlight=False,
            width=None if self.terminal else _UNLIMITED_WIDTH,
        )
        unlimited_options = console.options.update(width=_UNLIMITED_WIDTH)
        extend, names = self.layout.extend, [name for name in self.columns if name not in self.layout.wide]
        table = None
        if self.terminal and self._rows and extend is not None:
            extended_rows = extend(self._rows)
            table = self._make_table_of(list(extended_rows[0]), extended_rows)
        if table is None or Measurement.get(console, unlimited_options, table).minimum > console.width:
            table = self._make_table_of(names, self._rows)
        if Measurement.get(console, unlimited_options, table).maximum > console.width:
            table.padding = (0, 1, 0, 0)
        too_wide = Measurement.get(console, unlimited_options, table).minimum > console.width
        with console.capture() as capture:
            if self._rows and (too_wide or self.layout.blocks):
                blocks = Text("\n\n").join(self._make_block(console, row) for row in self._rows)
                console.print(blocks, soft_wrap=True)
            else:
                console.print(table)
        return re.sub(r" +$", "", capture.get(), flags=re.MULTILINE).encode()

    def _make_table_of(self, names: Sequence[str], rows: Sequence[Row]) -> Table:
        number_names = [name for name in names if any(isinstance(row[name], int | float) for row in rows)]
        table = make_table(names, number_names, self.layout.prose)
        for row in rows:
            table.add_row(*(self._cell_text(name, row[name]) for name in names))
        for column in table.columns:
            if column.no_wrap:  # rich thinks that it needs no more than its longest word, and would cut the others
                cells = "\n".join(map(str, (column.header, *column.cells)))
                column.min_width = max(map(cell_len, cells.splitlines()), default=0)
        return table

    def _cell_text(self, name: str, value: object) -> Text:
        return Text(_format_cell(value), self.layout.styles.get(str(value), "") if name == "state" else "")

    def _make_block(self, console: Console, row: Mapping[str, object]) -> Text:
        indent = max(map(len, self.columns)) + 3
        lines = []
        for name in self.columns:
            value = _format_cell(row[name]).replace("\n", "\n" + " " * indent)
            line = Text(wrap(console, name.ljust(indent) + value, indent))
            line.stylize("dim", 0, len(name))
            lines.append(line)
        return Text("\n").join(lines)


_ENCODERS: Final[Mapping[RowFormat, type[Encoder]]] = {"json": _Json, "jsonl": Encoder, "csv": _Csv, "table": _Table}


def _escape_control_characters(text: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _csv_cell(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, tuple | list | dict) else value


def _format_cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.2f}"
        case dict():
            return printable(msgspec.json.format(msgspec.json.encode(value), indent=0).decode())  # can be wrapped
        case tuple() | list():
            omitted = [f"and {len(value) - _MAX_LIST_ITEMS:,} more"] if len(value) > _MAX_LIST_ITEMS else []
            return "\n".join([*map(_format_cell, value[:_MAX_LIST_ITEMS]), *omitted])
    return printable(str(value))


class Writer:
    """Writes rows to a stream: stdout, a device, or a file that `open_output` puts in its place at the end."""

    def __init__(self, file: BinaryIO, encoder: Encoder, option: str, stderr: Stderr) -> None:
        self._file, self._encoder, self._option, self._stderr = file, encoder, option, stderr
        self._has_head = False
        self.rows: int = 0
        self.reached: Checkpoint | None = None

    def write(self, rows: Iterable[object]) -> None:
        """Write some rows."""
        head = b"" if self._has_head else self._encoder.head
        self._has_head = True
        self._write_bytes(head + self._encoder.encode(rows))

    def save(self, checkpoint: Checkpoint, rows: int) -> None:
        """Note the position behind what was written, and how many rows that were."""
        self.reached, self.rows = checkpoint, self.rows + rows

    def end(self) -> None:
        """Write what comes after the last row."""
        self._write_bytes(self._encoder.end())

    def _write_bytes(self, data: bytes) -> None:
        if data:
            with self._stderr.pause(), storage_errors(self._option):
                self._file.write(data)
                self._file.flush()


class _Appender(Writer):
    """Appends rows to a file; at every moment a checkpoint and ``<file>.progress`` say how many of its bytes count.

    Rows come first, then a line in the progress file, then the checkpoint. After a crash, what follows the checkpoint
    is cut off by the next run.
    """

    def __init__(
        self, path: Path, encoder: Encoder, stderr: Stderr, checkpoint: Path, saved: Checkpoint | None
    ) -> None:
        self._path, self._checkpoint = path, checkpoint
        self._progress = path.with_name(path.name + WALK_FILES[0])
        self._is_new = not path.exists()
        self._committed_bytes = (
            0 if saved is None or self._is_new else _committed_size(path, self._progress, encoder.head, saved)
        )
        # Not buffered: after a full disk nothing is left that a later close would try to write again
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", 0)
        super().__init__(file, encoder, f"--output {path}", stderr)
        self._has_head = self._committed_bytes > 0
        self._has_changed = False
        self._saved_checkpoint, self._next_save = saved, 0.0

    def _write_bytes(self, data: bytes) -> None:
        with storage_errors(self._option):
            if not self._has_changed:
                self._append_progress(0 if self._saved_checkpoint is None else self._saved_checkpoint.position)
                self._file.truncate(self._committed_bytes)
                self._file.seek(self._committed_bytes)
                self._has_changed = True
            unwritten = memoryview(data)
            while unwritten:
                unwritten = unwritten[self._file.write(unwritten) :]

    def save(self, checkpoint: Checkpoint, rows: int) -> None:
        """Note the position behind what was written; about twice a second it is stored too."""
        super().save(checkpoint, rows)
        self._committed_bytes = self._file.tell()
        if time.monotonic() >= self._next_save:
            self._store_position()

    def _store_position(self) -> None:
        if self.reached is not None and self.reached != self._saved_checkpoint:
            with storage_errors(self._option):
                os.fsync(self._file.fileno())
                self._append_progress(self.reached.position)
            write_checkpoint(self._checkpoint, self.reached)
            self._saved_checkpoint, self._next_save = self.reached, time.monotonic() + _SAVE_SECONDS

    def _append_progress(self, position: int) -> None:
        with self._progress.open("ab") as file:
            file.write(f"{position} {self._committed_bytes}\n".encode())
            sync_file(file)

    def close(self) -> None:
        """Cut off what is not complete, and store the position."""
        try:
            with storage_errors(self._option):
                if self._has_changed:
                    self._file.truncate(self._committed_bytes)
            self._store_position()
            self._progress.unlink(missing_ok=True)
        finally:
            self._file.close()
            if self._is_new and not self._has_changed:
                self._path.unlink(missing_ok=True)


def _committed_size(path: Path, progress: Path, head: bytes, saved: Checkpoint) -> int:
    """Return how many bytes of a file hold the rows up to a checkpoint.

    Raises:
        StorageError: The file holds something else.
    """
    with storage_errors(path):
        size = path.stat().st_size
        if progress.exists():  # the last run did not end orderly
            lines = [line.split() for line in progress.read_text(encoding="ascii", errors="replace").splitlines()]
            sizes = [int(line[1]) for line in lines if len(line) == 2 and line[0] == str(saved.position)]
            if not sizes or sizes[-1] > size:
                raise StorageError(f"{path} does not fit its checkpoint; delete it and the checkpoint to start over")
            size = sizes[-1]
        with path.open("rb") as file:
            first_bytes = file.read(len(head))
            file.seek(max(0, size - 1))
            last_byte = file.read(1)
    if size and (first_bytes != head or last_byte != b"\n"):
        raise StorageError(f"{path} holds other columns, or ends within a row; choose another file")
    return size


@contextmanager
def open_output(
    layout: RowLayout,
    output: OutputOptions,
    stderr: Stderr,
    checkpoint: Path | None = None,
    saved: Checkpoint | None = None,
) -> Iterator[Writer]:
    """Yield what writes rows in a layout to where they are wanted.

    Args:
        layout: The rows.
        output: The options.
        stderr: What shares the terminal.
        checkpoint: The file of positions; with it, a file of rows is continued.
        saved: What it says now.

    Raises:
        CycloptsError: The options contradict each other.
        StorageError: It cannot be written.
    """
    terminal = output.output is None and sys.stdout.isatty()
    file_format = output.choose(terminal=terminal)
    encoder = _ENCODERS[file_format](layout, terminal=terminal)
    if output.output is None:
        sys.stdout.flush()
        writer = Writer(sys.stdout.buffer, encoder, "stdout", stderr)
        try:
            yield writer
        except BrokenPipeError:
            raise
        except BaseException:
            if file_format == "table" and writer.rows:  # other formats have written all that came
                writer.end()
            raise
        writer.end()
        return
    option = f"--output {output.output}"
    path = resolve_path(output.output, "--output", devices=True)
    is_stream = path.exists() and not path.is_file()  # a device or a named pipe
    if checkpoint is not None and not is_stream:
        if file_format not in {"jsonl", "csv"}:
            raise CycloptsError(f"{option}: with --checkpoint rows are appended; use .jsonl or .csv")
        with storage_errors(option):
            _adopt_part_of_0_1_0(path, file_format, saved)
            appender = _Appender(path, encoder, stderr, checkpoint, saved)
        with closing(appender):
            yield appender
        return
    with storage_errors(option), path.open("wb") if is_stream else atomic_replace(path) as file:
        writer = Writer(file, encoder, option, stderr)
        yield writer
        writer.end()


def _adopt_part_of_0_1_0(path: Path, file_format: str, saved: Checkpoint | None) -> None:
    """Take over what version 0.1.0 left of an unfinished walk: a part whose name says its position."""
    if saved is not None:
        part = path.with_name(f"{path.name}.{saved.position}.{file_format}.part")
        if part.exists() and path.exists():
            raise StorageError(f"both {path} and {part.name} exist; move the one away that is not wanted")
        if part.exists():
            part.replace(path)


def read_checkpoint(path: Path | None) -> Checkpoint | None:
    """Return the checkpoint in a file; None if there is none.

    Raises:
        StorageError: The file cannot be read, or its folder not be written.
        CheckpointError: It holds something else.
    """
    if path is None:
        return None
    with storage_errors(f"--checkpoint {path}"):
        if not os.access(path.resolve().parent, os.W_OK):
            raise StorageError(f"--checkpoint {path}: no file can be written there")
        try:
            return Checkpoint.from_json(path.read_bytes())
        except FileNotFoundError:
            return None


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace a file by this checkpoint, atomically."""
    with storage_errors(f"--checkpoint {path}"), atomic_replace(path.resolve()) as file:
        file.write(f"{checkpoint.to_json()}\n".encode())
