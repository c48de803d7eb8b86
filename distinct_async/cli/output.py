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
from distinct_async.cli.options import WALK_FILES, Format, Output
from distinct_async.errors import StorageError
from distinct_async.files import atomic_replace, resolve_path, storage_errors, sync_file

_LISTED: Final = 5  # items of a list in a table's cell
_ENDLESS: Final = 10_000  # columns if nothing need be folded
_SAVE_SECONDS: Final = 0.5

Row = Mapping[str, object]


@frozen
class Shape:
    """How rows of a kind look.

    Attributes:
        unit: What they are called.
        names: Their columns.
        wide: The columns that no table has room for; only blocks show them.
        prose: The columns whose texts a table may wrap between words.
        blocks: Whether each row is a block of lines rather than a line of a table.
        styles: How words in the column ``state`` look.
        extend: Returns rows with more columns, and more rows, for a terminal that has room for them.
    """

    unit: str
    names: Sequence[str]
    wide: Sequence[str] = ()
    prose: Sequence[str] = ()
    blocks: bool = False
    styles: Mapping[str, str] = field(factory=dict)
    extend: Callable[[Sequence[Row]], Sequence[Row]] | None = None

    def row(self, *values: object) -> Row:
        """Return a row of these values, if no class has them as attributes."""
        return dict(zip(self.names, values, strict=True))


class Encoder:
    """Rows as JSON lines; the other formats override what differs.

    Args:
        shape: What they are.
        terminal: Whether a terminal shows them: control characters are then escaped or replaced.
    """

    head: bytes = b""

    def __init__(self, shape: Shape, *, terminal: bool) -> None:
        self.shape: Shape = shape
        self.names: Sequence[str] = shape.names
        self.terminal: bool = terminal

    def encode(self, rows: Iterable[object]) -> bytes:
        """Return some rows."""
        return self._escape(msgspec.json.Encoder().encode_lines(self._dicts(rows)))

    def end(self) -> bytes:
        """Return what comes after the last row."""
        return b""

    def _dicts(self, rows: Iterable[object]) -> list[dict[str, object]]:
        # msgspec takes attrs classes too, but gives the fields of a slotted one sorted by name
        names = self.names
        return [row if isinstance(row, dict) else {name: getattr(row, name) for name in names} for row in rows]

    def _plain(self, rows: Iterable[object]) -> list[Mapping[str, object]]:
        """Return the rows as JSON has them: times are texts."""
        plain: list[Mapping[str, object]] = msgspec.to_builtins(self._dicts(rows))
        return plain

    def _escape(self, encoded: bytes) -> bytes:
        if not self.terminal:
            return encoded
        return re.sub(r"[^\n -~]+", lambda found: _escaped(found[0]), encoded.decode()).encode()


class _Json(Encoder):
    """One array."""

    _before = b"[\n"

    def encode(self, rows: Iterable[object]) -> bytes:
        encoded = b""
        for row in self._dicts(rows):
            encoded += self._before + self._escape(msgspec.json.encode(row))
            self._before = b",\n"
        return encoded

    def end(self) -> bytes:
        return b"[]\n" if self._before == b"[\n" else b"\n]\n"


class _Csv(Encoder):
    """A head and lines; a list or an object is JSON in its cell, null is an empty cell."""

    def __init__(self, shape: Shape, *, terminal: bool) -> None:
        super().__init__(shape, terminal=terminal)
        self.head = self._lines([shape.names])

    def encode(self, rows: Iterable[object]) -> bytes:
        return self._lines([_cell(value) for value in row.values()] for row in self._plain(rows))

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

    def __init__(self, shape: Shape, *, terminal: bool) -> None:
        super().__init__(shape, terminal=terminal)
        self._rows: list[Mapping[str, object]] = []

    def encode(self, rows: Iterable[object]) -> bytes:
        self._rows += self._plain(rows)
        return b""

    def end(self) -> bytes:
        # Not FORCE_COLOR, which test runners set for all their children, decides: in a pipe it is plain and not folded
        console = Console(
            file=io.StringIO(), force_terminal=self.terminal, highlight=False, width=None if self.terminal else _ENDLESS
        )
        endless = console.options.update(width=_ENDLESS)
        extend, names = self.shape.extend, [name for name in self.names if name not in self.shape.wide]
        drawn = None
        if self.terminal and self._rows and extend is not None:
            more = extend(self._rows)
            drawn = self._draw(list(more[0]), more)
        if drawn is None or Measurement.get(console, endless, drawn).minimum > console.width:
            drawn = self._draw(names, self._rows)
        if Measurement.get(console, endless, drawn).maximum > console.width:
            drawn.padding = (0, 1, 0, 0)
        too_wide = Measurement.get(console, endless, drawn).minimum > console.width
        with console.capture() as capture:
            if self._rows and (too_wide or self.shape.blocks):
                blocks = Text("\n\n").join(self._block(console, row) for row in self._rows)
                console.print(blocks, soft_wrap=True)
            else:
                console.print(drawn)
        return re.sub(r" +$", "", capture.get(), flags=re.MULTILINE).encode()

    def _draw(self, names: Sequence[str], rows: Sequence[Row]) -> Table:
        numbers = [name for name in names if any(isinstance(row[name], int | float) for row in rows)]
        drawn = make_table(names, numbers, self.shape.prose)
        for row in rows:
            drawn.add_row(*(self._text(name, row[name]) for name in names))
        for column in drawn.columns:
            if column.no_wrap:  # rich thinks that it needs no more than its longest word, and would cut the others
                cells = "\n".join(map(str, (column.header, *column.cells)))
                column.min_width = max(map(cell_len, cells.splitlines()), default=0)
        return drawn

    def _text(self, name: str, value: object) -> Text:
        return Text(_shown(value), self.shape.styles.get(str(value), "") if name == "state" else "")

    def _block(self, console: Console, row: Mapping[str, object]) -> Text:
        indent = max(map(len, self.names)) + 3
        lines = []
        for name in self.names:
            value = _shown(row[name]).replace("\n", "\n" + " " * indent)
            line = Text(wrap(console, name.ljust(indent) + value, indent))
            line.stylize("dim", 0, len(name))
            lines.append(line)
        return Text("\n").join(lines)


_ENCODERS: Final[Mapping[Format, type[Encoder]]] = {"json": _Json, "jsonl": Encoder, "csv": _Csv, "table": _Table}


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def _cell(value: object) -> object:
    return msgspec.json.encode(value).decode() if isinstance(value, tuple | list | dict) else value


def _shown(value: object) -> str:
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
            more = [f"and {len(value) - _LISTED:,} more"] if len(value) > _LISTED else []
            return "\n".join([*map(_shown, value[:_LISTED]), *more])
    return printable(str(value))


class Writer:
    """Writes rows to a stream: stdout, a device, or a file that `open_output` puts in its place at the end."""

    def __init__(self, file: BinaryIO, encoder: Encoder, option: str, stderr: Stderr) -> None:
        self._file, self._encoder, self._option, self._stderr = file, encoder, option, stderr
        self._begun = False
        self.rows: int = 0
        self.reached: Checkpoint | None = None

    def write(self, rows: Iterable[object]) -> None:
        """Write some rows."""
        head = b"" if self._begun else self._encoder.head
        self._begun = True
        self._put(head + self._encoder.encode(rows))

    def save(self, checkpoint: Checkpoint, rows: int) -> None:
        """Note the position behind what was written, and how many rows that were."""
        self.reached, self.rows = checkpoint, self.rows + rows

    def end(self) -> None:
        """Write what comes after the last row."""
        self._put(self._encoder.end())

    def _put(self, data: bytes) -> None:
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
        self._size = 0 if saved is None or self._is_new else _size_at(path, self._progress, encoder.head, saved)
        # Not buffered: after a full disk nothing is left that a later close would try to write again
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", 0)
        super().__init__(file, encoder, f"--output {path}", stderr)
        self._begun = self._size > 0
        self._changed = False
        self._saved, self._next = saved, 0.0

    def _put(self, data: bytes) -> None:
        with storage_errors(self._option):
            if not self._changed:
                self._note(0 if self._saved is None else self._saved.position)
                self._file.truncate(self._size)
                self._file.seek(self._size)
                self._changed = True
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]

    def save(self, checkpoint: Checkpoint, rows: int) -> None:
        """Note the position behind what was written; about twice a second it is stored too."""
        super().save(checkpoint, rows)
        self._size = self._file.tell()
        if time.monotonic() >= self._next:
            self._store()

    def _store(self) -> None:
        if self.reached is not None and self.reached != self._saved:
            with storage_errors(self._option):
                os.fsync(self._file.fileno())
                self._note(self.reached.position)
            write_checkpoint(self._checkpoint, self.reached)
            self._saved, self._next = self.reached, time.monotonic() + _SAVE_SECONDS

    def _note(self, position: int) -> None:
        with self._progress.open("ab") as file:
            file.write(f"{position} {self._size}\n".encode())
            sync_file(file)

    def close(self) -> None:
        """Cut off what is not complete, and store the position."""
        try:
            with storage_errors(self._option):
                if self._changed:
                    self._file.truncate(self._size)
            self._store()
            self._progress.unlink(missing_ok=True)
        finally:
            self._file.close()
            if self._is_new and not self._changed:
                self._path.unlink(missing_ok=True)


def _size_at(path: Path, progress: Path, head: bytes, saved: Checkpoint) -> int:
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
            begins = file.read(len(head))
            file.seek(max(0, size - 1))
            ends = file.read(1)
    if size and (begins != head or ends != b"\n"):
        raise StorageError(f"{path} holds other columns, or ends within a row; choose another file")
    return size


@contextmanager
def open_output(
    shape: Shape, output: Output, stderr: Stderr, checkpoint: Path | None = None, saved: Checkpoint | None = None
) -> Iterator[Writer]:
    """Yield what writes rows of a shape to where they are wanted.

    Args:
        shape: The rows.
        output: The options.
        stderr: What shares the terminal.
        checkpoint: The file of positions; with it, a file of rows is continued.
        saved: What it says now.

    Raises:
        CycloptsError: The options contradict each other.
        StorageError: It cannot be written.
    """
    terminal = output.output is None and sys.stdout.isatty()
    chosen = output.choose(terminal=terminal)
    encoder = _ENCODERS[chosen](shape, terminal=terminal)
    if output.output is None:
        sys.stdout.flush()
        writer = Writer(sys.stdout.buffer, encoder, "stdout", stderr)
        try:
            yield writer
        except BrokenPipeError:
            raise
        except BaseException:
            if chosen == "table" and writer.rows:  # other formats have written all that came
                writer.end()
            raise
        writer.end()
        return
    option = f"--output {output.output}"
    path = resolve_path(output.output, "--output", devices=True)
    is_stream = path.exists() and not path.is_file()  # a device or a named pipe
    if checkpoint is not None and not is_stream:
        if chosen not in {"jsonl", "csv"}:
            raise CycloptsError(f"{option}: with --checkpoint rows are appended; use .jsonl or .csv")
        with storage_errors(option):
            _adopt_part_of_0_1_0(path, chosen, saved)
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
