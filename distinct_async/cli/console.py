"""What a command shows on a terminal: progress, notes, waits, tables; vendors' texts without control characters."""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from textwrap import TextWrapper
from typing import Final

from attrs import define, field
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from distinct_async.cli.options import CommonOptions

BAR_COLOUR: Final = "cyan"
GOOD_STYLE: Final = "green"  # these are the terminal's own colours, which its user can read on its background
BAD_STYLE: Final = "bold red"

UpdateProgress = Callable[[int, int | None, int], None]
"""Shows how far it is: rows, rows in all if that is known, retries."""

_LOG = logging.getLogger("distinct_async")
MIN_BAR_WIDTH: Final = 60  # columns; in fewer, figures take the place of bars, and gaps are narrow
_SILENT_SECONDS = 1.0  # seconds without a response that need no explanation; and between two lines about retries


def printable(text: str) -> str:
    """Return a text that cannot move the cursor, change colours, or reverse the line."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def plural(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 retry``, ``2 retries``."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def make_table(names: Iterable[str], numbers: Sequence[str] = (), prose: Sequence[str] = ()) -> Table:
    """Return an empty table without lines.

    Args:
        names: The columns.
        numbers: Those that are aligned to the right.
        prose: Those whose texts may be wrapped between words.
    """
    columns = [
        Column(name, justify="right" if name in numbers else "left", no_wrap=name not in prose) for name in names
    ]
    return Table(*columns, box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")


def squeeze(table: Table) -> None:
    """Narrow the gaps of a table, and let its texts be wrapped between words, so that none is cut."""
    table.padding = (0, 1, 0, 0)
    for column in table.columns:
        words = " ".join(map(str, (column.header, *column.cells))).split()
        column.no_wrap, column.min_width = False, max(map(len, words))


def open_console() -> Console:
    """Return a console on stderr."""
    # Not FORCE_COLOR, which test runners set for all their children, decides
    return Console(stderr=True, force_terminal=sys.stderr.isatty(), highlight=False)


def wrap(console: Console, text: str, indent: int = 0) -> str:
    """Return a text with line breaks between words where a terminal would break within them; ids stay in one piece.

    Args:
        console: The terminal; for a pipe the text is returned as it is.
        text: One line or several.
        indent: How far further lines are indented.
    """
    if not console.is_terminal:
        return text
    wrapper = TextWrapper(console.width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, text.split("\n")))


def print_error(text: str) -> None:
    """Print what ended the command."""
    console, name = open_console(), "distinct-async:"
    line = Text(wrap(console, f"{name} {printable(text)}"))
    line.stylize(BAD_STYLE, 0, len(name))
    console.print(line, soft_wrap=True)


class _RowsPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        average = task.completed / task.elapsed if task.finished and task.elapsed else None
        rate = average or task.speed
        return Text("" if rate is None else f"{rate:,.0f}/s")


class _TimeLeft(TimeRemainingColumn):
    def render(self, task: Task) -> Text:
        left = super().render(task)
        return left.append(" left") if left.plain else left


class ProgressBars(Progress):
    """Progress bars, and below them what is waited for; in a pipe, a line for each task at the end.

    Args:
        console: Where they are drawn.
        text: What is said of each task, as a format of rich.
        labels: Whether the tasks have descriptions, instead of rates and remaining times.
        waiting: What is waited for.
    """

    def __init__(self, console: Console, text: str, *, labels: bool = False, waiting: "Waiting | None" = None) -> None:
        self._waiting, is_terminal = waiting, console.is_terminal
        narrow = is_terminal and console.width < MIN_BAR_WIDTH
        styles = {"style": "dim", "complete_style": BAR_COLOUR, "finished_style": BAR_COLOUR, "pulse_style": BAR_COLOUR}
        bar = BarColumn(None, table_column=Column(ratio=1), **styles)  # rich: of 256 colours, for dark terminals
        super().__init__(
            *([TextColumn(" {task.description}")] if labels else []),
            *([bar] if is_terminal and not narrow else []),
            TextColumn(text),
            *([_RowsPerSecond(), _TimeLeft(compact=True)] if is_terminal and not narrow and not labels else []),
            *([TextColumn("{task.fields[retries]}")] if not narrow or not labels else []),
            console=console,
            expand=is_terminal,
            redirect_stdout=False,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the bars, and a line on what is waited for."""
        if self.tasks:
            yield self.make_tasks_table(self.tasks)
        if self._waiting is not None and (text := self._waiting.describe()):
            yield Text(text, style="dim", no_wrap=True, overflow="ellipsis")


@define
class Waiting:
    """What a command waits for.

    Attributes:
        deadline: Seconds for a request with all its attempts.
        since: When it began, or the latest response came.
        attempt: The attempt that is under way, or the next one.
        problem: Why the one before failed.
        complete: Whether all rows have come, so that a silence is not the server's.
        starts: When it is sent.
        over: Whether the command waits no more.
    """

    deadline: float
    since: float = field(factory=time.monotonic)
    attempt: int = 1
    problem: str = ""
    starts: float = 0.0
    complete: bool = False
    over: bool = False

    def respond(self, *, complete: bool = False) -> None:
        """A response came."""
        self.since, self.attempt, self.problem, self.starts = time.monotonic(), 1, "", 0.0
        self.complete = complete

    def retry(self, attempt: int, problem: str, wait: float) -> None:
        """An attempt failed, and the next one is sent after `wait` seconds."""
        self.attempt, self.problem, self.starts = attempt + 1, problem, time.monotonic() + wait

    def describe(self) -> str:
        """Return what is waited for, and how long at most; nothing if it was not long yet."""
        now = time.monotonic()
        if self.over or (not self.problem and (self.complete or now - self.since < _SILENT_SECONDS)):
            return ""
        last_failure = f"attempt {self.attempt - 1} failed ({self.problem}), " if self.problem else ""
        if (wait := self.starts - now) > 0:
            attempt_state = f"attempt {self.attempt} in {wait:.0f} s"
        else:
            attempt_state = f"attempt {self.attempt}: no response for {now - max(self.since, self.starts):.0f} s"
        return f"{last_failure}{attempt_state}, {max(0.0, self.since + self.deadline - now):.0f} s left"


class Stderr:
    """Notes, warnings, the log and progress.

    Args:
        common: The options of all commands.
        deadline: Seconds for a request with all its attempts, to say how long is left.
        job: Whether it runs long, often unattended: then retries are reported without a terminal too.
    """

    def __init__(self, common_options: CommonOptions, deadline: float, *, job: bool) -> None:
        self.console: Console = open_console()
        self.waiting: Waiting = Waiting(deadline)
        self._quiet, self._job = common_options.quiet, job
        self._level = (
            logging.DEBUG if common_options.debug else logging.ERROR if common_options.quiet else logging.WARNING
        )
        self._bars: ProgressBars | None = None
        self._reported = 0.0

    def note(self, text: str) -> None:
        """Print what is good to know."""
        if not self._quiet:
            self._print(text)

    def say(self, text: str) -> None:
        """Print what must be known."""
        self._print(f"distinct-async: {text}")

    def _print(self, text: str) -> None:
        self.console.print(Text(wrap(self.console, printable(text))), soft_wrap=True)

    def log(self, record: logging.LogRecord) -> None:
        """Show a record of the library's log: a retry in the line of what is waited for, others if they matter."""
        if (wait := getattr(record, "retry_in", None)) is not None:
            attempt, problem = getattr(record, "attempts", 0), str(getattr(record, "error", ""))
            self.waiting.retry(attempt, problem, wait)
            now = time.monotonic()
            if self._job and self._bars is None and now - self._reported >= _SILENT_SECONDS:
                self._reported = now
                self.note(f"attempt {attempt} of a request failed ({problem}); attempt {attempt + 1} in {wait:.3g} s")
        if record.levelno >= self._level:
            self._print(f"{record.levelname.lower()}: {record.getMessage()}")

    @contextmanager
    def progress(self, unit: str = "", *, keep: bool = False, shown: bool = True) -> Iterator[UpdateProgress]:
        """Show on a terminal how far it is and what it waits for; elsewhere nothing.

        Args:
            unit: What is counted; nothing if there is but one response to wait for.
            keep: Leave the bar on the screen.
            shown: Whether anything is requested.
        """
        self.waiting.respond()
        if self._quiet or not shown or not self.console.is_terminal:
            yield lambda _rows, _total, _retries: None
            return
        bars = ProgressBars(self.console, "{task.completed:,}{task.fields[of]} " + unit, waiting=self.waiting)
        bars.live.transient = not keep
        task = bars.add_task("", total=None, of="", retries="") if unit else None

        def update_progress(rows: int, total: int | None, retries: int) -> None:
            self.waiting.respond(complete=rows == total)
            if task is not None:
                of_total = "" if total is None else f" of {total:,}"
                bars.update(task, completed=rows, total=total, of=of_total, retries=plural(retries, "retry", "retries"))

        with bars:
            self._bars = bars
            try:
                yield update_progress
            finally:
                self._bars, self.waiting.over = None, True

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Take the progress off the screen while something else is written to it, unless it is to stay there."""
        if self._bars is None or not self._bars.live.transient:
            yield
            return
        self._bars.stop()
        try:
            yield
        finally:
            self._bars.start()


@contextmanager
def open_stderr(common_options: CommonOptions, deadline: float = 90.0, *, job: bool = False) -> Iterator[Stderr]:
    """Yield stderr, with the library's log and its warnings on it; see `Stderr` for the arguments."""
    stderr = Stderr(common_options, common_options.deadline or deadline, job=job)
    handler, level = logging.Handler(), _LOG.level
    handler.emit = stderr.log  # type: ignore[method-assign]
    _LOG.setLevel(logging.DEBUG if common_options.debug else logging.INFO)
    _LOG.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: stderr.note(f"warning: {message}")
            yield stderr
    finally:
        _LOG.removeHandler(handler)
        _LOG.setLevel(level)
