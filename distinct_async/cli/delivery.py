"""Rows on their way to where they are wanted, and how far they have come."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import frozen
from cyclopts import CycloptsError

from distinct_async import Checkpoint, Page
from distinct_async.cli.files import Target, told, write_checkpoint
from distinct_async.cli.options import Format, Output
from distinct_async.cli.rows import writer


@frozen
class Shape:
    """How rows of a kind look.

    :ivar unit: what they are called. :ivar names: their columns. :ivar wide: of these, what no table has room for.
    """

    unit: str
    names: Sequence[str]
    wide: Sequence[str] = ()

    def columns(self, format_: Format) -> Sequence[str]:
        """The columns in that format."""
        return [name for name in self.names if format_ != "table" or name not in self.wide]


class Delivery:
    """Rows to stdout or into a file, in the format that was chosen.

    :param checkpoint: the file that will say how far they came; None for none.
    :param saved: what it says so far.
    :raises CycloptsError: for an output that would be lost. :raises StorageError: for one that cannot be written.
    """

    def __init__(
        self, shape: Shape, output: Output, checkpoint: Path | None = None, saved: Checkpoint | None = None
    ) -> None:
        self._shape, self._path, self._checkpoint = shape, output.output, checkpoint
        self.format: Format = output.chosen(terminal=sys.stdout.isatty())
        if saved is not None and self._path is not None and self._path.is_file():
            told_so = f"is there already, and what follows row {saved.position:,} would replace it: name another file"
            raise CycloptsError(f"--output {self._path}: {told_so}")
        self._part = None if saved is None else self._part_at(saved.position)
        continued = self._part is not None and self._part.exists()
        self.target: Target = Target(self._path, self._part if continued else None)
        self._writer = writer(
            self.format,
            shape.columns(self.format),
            self.target.file,
            terminal=self._path is None and sys.stdout.isatty(),
            continued=continued,
        )
        self.rows: int = 0
        self.reached: Checkpoint | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.target.drop()

    def put(self, rows: Iterable[object]) -> None:
        """Write some rows, as far as they can be written at once."""
        with told(self.target.option):
            self._writer.write(rows)
        self.target.mark()

    def take(self, page: Page[object]) -> None:
        """Write a page: the checkpoint after it holds only now."""
        self.put(page.items)
        self.rows += len(page)
        self.reached = page.checkpoint

    def finish(self) -> None:
        """Nothing more comes: the file takes its name, and the checkpoint is written."""
        with told(self.target.option):
            self._writer.end()
        self.target.finish()
        if self._checkpoint is not None and self.reached is not None:
            self._save(self._checkpoint, self.reached)

    def suspend(self) -> str | None:
        """It ends before its end: keep what was written, with its checkpoint, and return how to go on."""
        if self.format == "table":  # the others have written all they got
            with told(self.target.option):
                self._writer.end()
            self.target.mark()
        if self.reached is None:
            return None
        done = f"{self.rows:,} {self._shape.unit} were written"
        if self._checkpoint is None and self._path is not None:
            return f"{self.rows:,} {self._shape.unit} came, and none is kept: with --checkpoint FILE they would be"
        if self._checkpoint is None:
            return f"{done}; to go on, save this in a file for --checkpoint: {self.reached.to_json()}"
        part = self._part_at(self.reached.position)
        if part is not None:
            self.target.keep(part)
            done += f" to {part.name}"
        self._save(self._checkpoint, self.reached, part)
        return f"{done}; the same command goes on after row {self.reached.position:,}"

    def _save(self, path: Path, checkpoint: Checkpoint, part: Path | None = None) -> None:
        write_checkpoint(path, checkpoint)
        if self._part is not None and self._part != part:
            self._part.unlink(missing_ok=True)  # only now: until then it fits the checkpoint before

    def _part_at(self, position: int) -> Path | None:
        """Where the rows up to that position are, so that a part never goes with another checkpoint."""
        if self._path is None or (self._path.exists() and not self._path.is_file()):  # /dev/null has no parts
            return None
        return self._path.with_name(f"{self._path.name}.{position}.{self.format}.part")
