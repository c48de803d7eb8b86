"""The options that several commands share, each told once."""

import re
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from attrs import frozen
from cyclopts import Group, Parameter
from cyclopts.validators import Number

Format = Literal["table", "json", "jsonl", "csv"]

ROWS_GROUP: Final = Group("Rows", sort_key=1)
OUTPUT_GROUP: Final = Group("Output", sort_key=2)
COMMON_GROUP: Final = Group("Common", sort_key=3)

Flag = Annotated[bool, Parameter(show_default=False)]

_SUFFIXES: Final[dict[str, Format]] = {".json": "json", ".csv": "csv"}

T = TypeVar("T")


def unfolded(documented: T) -> T:
    """The same, with each parameter's help in one line: cyclopts would keep the breaks."""
    documented.__doc__ = re.sub(r"\n {8,}", " ", cleandoc(documented.__doc__ or ""))
    return documented


@unfolded
@Parameter(name="*", group=COMMON_GROUP)
@frozen
class Common:
    """What every command takes.

    Args:
        key_file: Where the keys stand: lines like DISTINCT_API_KEY=... (and VANTIO_API_KEY, DISTINCT_BASE_URL,
            VANTIO_BASE_URL), or one bare key (sk_... is Vantio's). Else they come from the variables of these names.
        rate_limit: Requests a second at most, to each vendor.
        allow_http: Send keys over plain http to other hosts than this one, within docker-compose, say.
        quiet: No progress, notes and warnings.
        debug: Our log on stderr, and a traceback where we have a bug.
    """

    key_file: Path | None = None
    rate_limit: Annotated[float | None, Parameter(validator=Number(gt=0))] = None
    allow_http: Flag = False
    quiet: Annotated[Flag, Parameter(alias="-q")] = False
    debug: Flag = False


@Parameter(name="*", group=OUTPUT_GROUP)
@frozen
class Output:
    """How and where rows are written.

    Args:
        format: By default a table on a terminal, in a file what its name says, else JSON lines.
        output: Write this file instead of stdout; it is there when it is whole.
    """

    format: Format | None = None
    output: Annotated[Path | None, Parameter(alias="-o")] = None

    def chosen(self, *, terminal: bool) -> Format:
        """The format, with stdout being a terminal or not."""
        if self.format is not None:
            return self.format
        if self.output is not None:
            return _SUFFIXES.get(self.output.suffix.lower(), "jsonl")
        return "table" if terminal else "jsonl"


@Parameter(name="*", group=ROWS_GROUP)
@frozen
class Rows:
    """Which rows.

    Args:
        limit: Rows in all; without it all of them, but in a table of visits or impressions the first 20.
        offset: Rows to skip.
    """

    limit: Annotated[int | None, Parameter(validator=Number(gte=0))] = None
    offset: Annotated[int, Parameter(validator=Number(gte=0), show_default=False)] = 0


@Parameter(name="*", group=ROWS_GROUP)
@frozen
class Paged(Rows):
    """Which rows, and how many at a time.

    Args:
        page_size: Rows per request; the server's default is 50.
    """

    page_size: Annotated[int | None, Parameter(validator=Number(gte=1))] = None


@unfolded
@Parameter(name="*", group=ROWS_GROUP)
@frozen
class Walked(Paged):
    """Which rows of a list without end.

    Args:
        checkpoint: Go on where this file says, if it is there. At the end, after an error and after Ctrl-C it says
            where to go on.
    """

    checkpoint: Path | None = None


COMMON: Final = Common()
OUTPUT: Final = Output()
ROWS: Final = Rows()
PAGED: Final = Paged()
WALKED: Final = Walked()
