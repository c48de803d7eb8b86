"""How things look, on a terminal and in a pipe: headings, tables, progress and bars, none wider than the console."""

from collections.abc import Sequence
from datetime import datetime
from math import ceil
from textwrap import indent

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column, Table

_INDENT = 2
COLOUR = "cyan"


def heading(console: Console, title: str, call: str = "") -> None:
    """Begin a section; `call` is the code that it is about."""
    console.print()
    console.print(title, style="bold")
    if call:
        console.print(indent(call, " " * _INDENT), style="dim", markup=False)
    console.print()


def put(console: Console, what: str | Table) -> None:
    """Print below a heading."""
    if isinstance(what, str):
        console.print(indent(what, " " * _INDENT), markup=False)
    else:
        console.print(Padding(what, (0, 0, 0, _INDENT), expand=False))


def table(*names: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table without lines: columns of words, then columns of numbers."""
    columns = [Column(name) for name in names] + [Column(name, justify="right") for name in numbers]
    return Table(*columns, box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")


def progress(console: Console) -> Progress:
    """Live bars for tasks with the fields `pages` and `retries`; in a pipe, a line for each of them at the end."""
    bar = BarColumn(None, complete_style=COLOUR, finished_style=COLOUR, table_column=Column(ratio=1))
    return Progress(
        TextColumn(" " * (_INDENT - 1)),  # and the space between columns
        TextColumn("{task.description}"),
        *([bar] if console.is_terminal else []),
        TextColumn("{task.completed:>7,} visits  {task.fields[pages]:>3} pages  {task.fields[retries]} retries"),
        console=console,
        expand=console.is_terminal,
    )


def hours(console: Console, counts: Sequence[int]) -> Table:
    """A chart of 24 counts, one for each hour of the day; the afternoon stands beside the morning."""
    block = "#" if console.options.ascii_only else "█"
    longest = max(1, (console.width - _INDENT) // 2 - 15)  # hours, counts and gaps; older rich pads the last one too
    most = max(1, *counts)
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for _ in range(2):
        drawn.add_column(style="dim")
        drawn.add_column(justify="right", width=7)
        drawn.add_column(style=COLOUR, width=longest)
    rows = [(f"{hour:02}", f"{count:,}", block * ceil(count / most * longest)) for hour, count in enumerate(counts)]
    for morning, afternoon in zip(rows[:12], rows[12:], strict=True):
        drawn.add_row(*morning, *afternoon)
    return drawn


def clock(time: datetime) -> str:
    """A time to the minute."""
    return f"{time:%Y-%m-%d %H:%M}"
