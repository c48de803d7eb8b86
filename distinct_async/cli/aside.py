"""What is said beside the data, on stderr: notes, warnings, our log, and how far it is."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from distinct_async.cli.layout import COLOUR
from distinct_async.cli.options import Common

Moved = Callable[[int, int | None, int], None]
"""Told how far it is: rows, rows in all where that is known, retries."""

_LOG = logging.getLogger("distinct_async")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        whole = task.completed / task.elapsed if task.finished and task.elapsed else None
        speed = whole or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class _Left(TimeRemainingColumn):
    def render(self, task: Task) -> Text:
        left = super().render(task)
        return left.append(" left") if left.plain else left


class _Shown(logging.Handler):
    """Shows log lines above what is live."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(Text(f"{record.levelname.lower()}: {self.format(record)}"), soft_wrap=True)


class Aside:
    """What a command says on stderr, as a context manager; with `quiet`, errors only."""

    def __init__(self, common: Common) -> None:
        self._quiet = common.quiet
        # As for stdout, not FORCE_COLOR decides
        self.console: Console = Console(stderr=True, force_terminal=sys.stderr.isatty(), highlight=False)
        self._handler = _Shown(self.console)
        self._level = logging.DEBUG if common.debug else logging.ERROR if common.quiet else logging.WARNING

    def __enter__(self) -> Self:
        self._before = _LOG.level
        _LOG.setLevel(self._level)
        _LOG.addHandler(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _LOG.removeHandler(self._handler)
        _LOG.setLevel(self._before)

    def note(self, text: str) -> None:
        """Say what is good to know."""
        if not self._quiet:
            self.console.print(Text(text), soft_wrap=True)

    def say(self, text: str) -> None:
        """Say what must be known."""
        self.console.print(Text(f"distinct-async: {text}"), soft_wrap=True)

    @contextmanager
    def progress(self, unit: str, *, streams: bool, transient: bool = False) -> Iterator[Moved]:
        """A live line on a terminal, and nothing elsewhere.

        :param streams: data appears on stdout meanwhile: if that is a terminal too, there is no place for both.
        :param transient: leave nothing of it.
        """
        if self._quiet or not self.console.is_terminal or (streams and sys.stdout.isatty()):
            yield lambda _rows, _total, _retries: None
            return
        progress = Progress(
            BarColumn(None, complete_style=COLOUR, finished_style=COLOUR, table_column=Column(ratio=1)),
            TextColumn("{task.completed:,} " + unit),
            _Rate(),
            _Left(compact=True),
            TextColumn("{task.fields[retries]} retries"),
            console=self.console,
            expand=True,
            redirect_stdout=False,
            transient=transient,
        )
        with progress:
            task = progress.add_task("", total=None, retries=0)
            yield lambda rows, total, retries: progress.update(task, completed=rows, total=total, retries=retries)
