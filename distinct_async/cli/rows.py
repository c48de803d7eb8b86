"""Models as rows: JSON, JSON lines, CSV and tables, under the names of the models' fields."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO

import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from distinct_async.cli.options import Format

_LISTED = 5  # items of a list in a table's cell
_ENDLESS = 10_000  # columns where nothing need be folded


class Writer:
    """Takes rows as they come; `names` are the columns."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def write(self, rows: Iterable[object]) -> None:
        """Take some more."""
        raise NotImplementedError

    def end(self) -> None:
        """There are no more."""

    def dicts(self, rows: Iterable[object]) -> list[dict[str, object]]:
        """The rows as they are."""
        # msgspec takes attrs classes too, but gives the fields of a slotted one sorted by name
        return [{name: getattr(row, name) for name in self.names} for row in rows]

    def plain(self, rows: Iterable[object]) -> list[Mapping[str, object]]:
        """The rows as JSON has them: times are texts."""
        plain: list[Mapping[str, object]] = msgspec.to_builtins(self.dicts(rows))
        return plain


class _JsonLines(Writer):
    def __init__(self, names: Sequence[str], file: BinaryIO) -> None:
        super().__init__(names)
        self._file, self._encoder = file, msgspec.json.Encoder()

    def write(self, rows: Iterable[object]) -> None:
        self._file.write(self._encoder.encode_lines(self.dicts(rows)))


class _Json(Writer):
    """One array, written row by row."""

    def __init__(self, names: Sequence[str], file: BinaryIO, *, continued: bool) -> None:
        super().__init__(names)
        self._file, self._before = file, b",\n" if continued else b"[\n"

    def write(self, rows: Iterable[object]) -> None:
        for row in self.dicts(rows):
            self._file.write(self._before + msgspec.json.encode(row))
            self._before = b",\n"

    def end(self) -> None:
        self._file.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


class _Csv(Writer):
    """A head and lines; a list or an object is JSON in its cell, null is an empty cell."""

    def __init__(self, names: Sequence[str], file: BinaryIO, *, continued: bool) -> None:
        super().__init__(names)
        self._file = file
        if not continued:
            self._put([names])

    def write(self, rows: Iterable[object]) -> None:
        self._put([_cell(value) for value in row.values()] for row in self.plain(rows))

    def _put(self, lines: Iterable[Sequence[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(lines)
        self._file.write(text.getvalue().encode())


class _Table(Writer):
    """Keeps the rows, since the widths depend on all of them."""

    def __init__(self, names: Sequence[str], file: BinaryIO, *, terminal: bool) -> None:
        super().__init__(names)
        self._file, self._terminal = file, terminal
        self._rows: list[Mapping[str, object]] = []

    def write(self, rows: Iterable[object]) -> None:
        self._rows += self.plain(rows)

    def end(self) -> None:
        drawn = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
        for name in self.names:
            number = any(isinstance(row[name], int) for row in self._rows)
            # Folded, not cut: a part of an id is none
            drawn.add_column(name, overflow="fold", justify="right" if number else "left")
        for row in self._rows:
            drawn.add_row(*(Text(_shown(value)) for value in row.values()))
        # Not FORCE_COLOR, which test runners set for all their children, decides: what is piped is plain, and whole
        console = Console(
            file=io.StringIO(),
            force_terminal=self._terminal,
            highlight=False,
            width=None if self._terminal else _ENDLESS,
        )
        if Measurement.get(console, console.options.update(width=_ENDLESS), drawn).maximum > console.width:
            drawn.padding = (0, 1, 0, 0)
        with console.capture() as capture:
            console.print(drawn)
        self._file.write(re.sub(r" +$", "", capture.get(), flags=re.MULTILINE).encode())


def writer(format_: Format, names: Sequence[str], file: BinaryIO, *, terminal: bool, continued: bool = False) -> Writer:
    """The writer of a format.

    :param terminal: the file is one: a table may be coloured, and must fit.
    :param continued: the file has rows already: go on below them.
    """
    match format_:
        case "table":
            return _Table(names, file, terminal=terminal)
        case "csv":
            return _Csv(names, file, continued=continued)
        case "json":
            return _Json(names, file, continued=continued)
    return _JsonLines(names, file)


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
        case tuple() | list():
            more = [f"and {len(value) - _LISTED:,} more"] if len(value) > _LISTED else []
            return "\n".join([*map(_shown, value[:_LISTED]), *more])
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in str(value))
