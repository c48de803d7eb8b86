"""The options that several commands share: what they make of keys and limits, and the rules for formats and paths."""

import os
import re
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from itertools import combinations
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from attrs import frozen
from cyclopts import CycloptsError, Group, Parameter
from cyclopts.validators import Number

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.errors import ConfigurationError
from distinct_async.files import read_key_file as read_settings
from distinct_async.files import read_lines, resolve_path, same_file
from distinct_async.models import VisitsType

RowFormat = Literal["table", "json", "jsonl", "csv"]

ROWS_GROUP: Final = Group("Rows", sort_key=1)
OUTPUT_GROUP: Final = Group("Output", sort_key=2)
COMMON_GROUP: Final = Group("Common", sort_key=3)

Flag = Annotated[bool, Parameter(show_default=False)]
Seconds = Annotated[float | None, Parameter(validator=Number(gt=0))]

_SUFFIX_FORMATS: Final[Mapping[str, str]] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
ROW_FORMATS: Final = ("json", "jsonl", "csv")
EXPORT_FORMATS: Final = ("parquet", "csv", "jsonl")

TIMEOUT: Final = 30.0
DEADLINE: Final = 90.0

T = TypeVar("T")


def join_help_lines(target: T) -> T:
    """Return the same, with each parameter's help in one line: cyclopts would keep the line breaks."""
    target.__doc__ = re.sub(r"\n {8,}", " ", cleandoc(target.__doc__ or ""))
    return target


@join_help_lines
@Parameter(name="*", group=COMMON_GROUP)
@frozen
class CommonOptions:
    """What every command accepts.

    Args:
        key_file: A file with lines like DISTINCT_API_KEY=... (and VANTIO_API_KEY, DISTINCT_BASE_URL,
            VANTIO_BASE_URL), or with one key (sk_... is Vantio's). What it does not set comes from the environment
            variables of these names.
        timeout: Seconds for one attempt of a request; by default 30.
        deadline: Seconds for a request with all its attempts and waits; by default 90.
        rate_limit: Requests per second to each vendor, at most.
        allow_http: Allow plain http to other hosts than this one; the API key is then sent unencrypted.
        quiet: No progress, notes and warnings.
        debug: Log on stderr, and a traceback if there is a bug.
    """

    key_file: Path | None = None
    timeout: Seconds = None
    deadline: Seconds = None
    rate_limit: Seconds = None
    allow_http: Flag = False
    quiet: Annotated[Flag, Parameter(alias="-q")] = False
    debug: Flag = False


def make_client(
    common_options: CommonOptions, settings: Mapping[str, str], *, timeout: float = TIMEOUT, attempts: int | None = None
) -> DistinctClient:
    """Return a client with these settings, and those of the environment for what they do not set.

    Args:
        common_options: The options of all commands.
        settings: Keys and base URLs, by the names of their variables.
        timeout: Seconds for one attempt, if no option says another.
        attempts: Attempts of a request; None for the client's default.

    Raises:
        ConfigurationError: A key or a URL is invalid.
    """
    return DistinctClient(
        settings.get("DISTINCT_API_KEY"),
        vantio_api_key=settings.get("VANTIO_API_KEY"),
        base_url=settings.get("DISTINCT_BASE_URL"),
        vantio_base_url=settings.get("VANTIO_BASE_URL"),
        timeout=common_options.timeout or timeout,
        deadline=common_options.deadline or DEADLINE,
        rate_limit=common_options.rate_limit,
        allow_http=common_options.allow_http,
        retry=RetryPolicy() if attempts is None else RetryPolicy(attempts=attempts),
    )


def open_client(common_options: CommonOptions, warn: Callable[[str], None]) -> DistinctClient:
    """Return a client with the keys of the key file, if there is one, and of the environment.

    Args:
        common_options: The options of all commands.
        warn: Prints a warning.

    Raises:
        CycloptsError: The key file cannot be read, or sets nothing.
        ConfigurationError: A key or a URL is invalid.
    """
    return make_client(common_options, read_key_file(common_options, warn))


def read_key_file(common_options: CommonOptions, warn: Callable[[str], None]) -> Mapping[str, str]:
    """Return what the key file sets, by the names of the variables.

    Args:
        common_options: The options of all commands.
        warn: Prints a warning.

    Raises:
        CycloptsError: It cannot be read, or sets nothing.
    """
    if (path := common_options.key_file) is None:
        return {}
    try:
        settings = read_settings(path, "--key-file")
    except ConfigurationError as error:
        raise CycloptsError(error.message) from None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        warn(f"warning: others may read {path}; run chmod 600 on it")
    return settings


@Parameter(name="*", group=OUTPUT_GROUP)
@frozen
class OutputOptions:
    """How and where rows are written.

    Args:
        format: By default a table on a terminal, JSON lines in a pipe, and in a file what its suffix names.
        output: Write this file instead of stdout; .json, .jsonl, .ndjson or .csv.
    """

    format: RowFormat | None = None
    output: Annotated[Path | None, Parameter(alias="-o")] = None

    def choose(self, *, terminal: bool) -> RowFormat:
        """Return the format.

        Args:
            terminal: Whether stdout is one.

        Raises:
            CycloptsError: The format is not clear, or contradicts the file's suffix.
        """
        if self.output is None:
            return self.format or ("table" if terminal else "jsonl")
        if self.output.exists() and not self.output.is_file():  # a device or a named pipe has no suffix to follow
            return self.format or "jsonl"
        row_format: RowFormat = choose_format(self.output, self.format, ROW_FORMATS)  # type: ignore[assignment]
        return row_format


def choose_format(path: Path, format_option: str | None, formats: Sequence[str]) -> str:
    """Return the one format that a file's suffix and ``--format`` name.

    Args:
        path: The file.
        format_option: What ``--format`` says; None if it was not given.
        formats: The formats that the command writes.

    Raises:
        CycloptsError: They name no format, an unknown one, or two.
    """
    suffix = path.suffix.lower()
    suffixes = [each for each, name in _SUFFIX_FORMATS.items() if name in formats]
    if not suffix and format_option is not None:
        return format_option
    if suffix not in suffixes:
        if format_option == "table" and suffix == ".txt":
            return format_option
        names = f"{', '.join(suffixes)}, or a name without a suffix and --format"
        raise CycloptsError(f"--output {path}: the suffix names no format of this command; use {names}")
    if format_option not in {None, _SUFFIX_FORMATS[suffix]}:
        raise CycloptsError(f"--format {format_option} contradicts the suffix of --output {path}; drop one of them")
    return _SUFFIX_FORMATS[suffix]


@Parameter(name="*", group=ROWS_GROUP)
@frozen
class RowOptions:
    """Which rows.

    Args:
        limit: Rows in all; by default all of them, but in a table of visits or impressions the first 20.
        offset: Rows to skip.
    """

    limit: Annotated[int | None, Parameter(validator=Number(gte=0))] = None
    offset: Annotated[int, Parameter(validator=Number(gte=0), show_default=False)] = 0


@Parameter(name="*", group=ROWS_GROUP)
@frozen
class PageOptions(RowOptions):
    """Which rows, and how many in a request.

    Args:
        page_size: Rows per request; the server's default is 50.
    """

    page_size: Annotated[int | None, Parameter(validator=Number(gte=1))] = None


@join_help_lines
@Parameter(name="*", group=ROWS_GROUP)
@frozen
class WalkOptions(PageOptions):
    """Which rows of a long list.

    Args:
        checkpoint: Continue from the position in this file, if it exists. At the end, after an error and after Ctrl-C
            it holds the position that was reached. With it, -o appends to a .jsonl or .csv file.
    """

    checkpoint: Path | None = None


@join_help_lines
@Parameter(name="*", group=ROWS_GROUP)
@frozen
class JobReadOptions:
    """Which rows of an experience, and how.

    Args:
        visits_type: TOTAL: every visit; UNIQUE: the first of each user; by default both.
        rebuild: If rows have moved, so that those written no longer match the server's, reload that list, instead of
            an error.
        prefetch: Pages requested ahead, for each touchpoint.
        page_size: Rows per request.
    """

    visits_type: VisitsType | None = None
    rebuild: Flag = False
    prefetch: Annotated[int, Parameter(validator=Number(gte=1))] = 4
    page_size: Annotated[int, Parameter(validator=Number(gte=1))] = 500


def read_experiences(named_ids: Sequence[str], file: Path | None) -> list[str]:
    """Return the ids of experiences that the command line and a file name, each once.

    Raises:
        CycloptsError: There are none.
        StorageError: The file cannot be read.
    """
    ids = [*named_ids]
    if file is not None:
        ids += [line for line in read_lines(file, f"--experiences {file}") if not line.startswith("#")]
    if not ids:
        raise CycloptsError(
            f"--experiences {file}: there is no id in it" if file else "name an experience, or --experiences FILE"
        )
    return [*dict.fromkeys(ids)]


WALK_FILES: Final = (".progress",)
EXPORT_FILES: Final = (".manifest.json", ".parts")
DATABASE_FILES: Final = (".wal", ".tmp")


def check_paths(
    common_options: CommonOptions,
    files: Mapping[str, Path | None],
    *,
    beside_suffixes: Sequence[str] = (),
    new_parent: bool = False,
    stdout: bool = False,
) -> None:
    """Refuse paths where no file can be written, and two options that lead to one file, before anything is opened.

    Args:
        common_options: With the key file.
        files: The files that the command writes, by the names of their options; the data first.
        beside_suffixes: What is appended to the name of the data for files beside it.
        new_parent: Whether a missing folder of the data will be created.
        stdout: Whether the command writes to stdout too, which may lead to a file.

    Raises:
        CycloptsError: Two options lead to one file.
        DistinctError: No file can be written there.
    """
    paths: list[tuple[str, Path]] = []
    for number, (name, path) in enumerate(files.items()):
        if path is not None:
            suffixes = beside_suffixes if number == 0 else ()
            resolved = resolve_path(
                path, name, suffixes=suffixes, new_parent=new_parent and number == 0, devices=not suffixes
            )
            paths += [(name, resolved), *((name, resolved.with_name(resolved.name + suffix)) for suffix in suffixes)]
    if common_options.key_file is not None:
        paths.append(("--key-file", Path(os.path.realpath(common_options.key_file))))
    if stdout:
        paths.append(("stdout", Path("/dev/stdout")))
    for (name, path), (other_name, other_path) in combinations(paths, 2):
        if name != other_name and (same_file(path, other_path) or path in other_path.parents):
            raise CycloptsError(f"{name} and {other_name} lead to one file, or to files that replace each other")


def check_output(output: OutputOptions, common_options: CommonOptions) -> None:
    """Refuse an invalid output before anything is opened; see `check_paths` and `Output.choose`."""
    check_paths(common_options, {"--output": output.output})
    output.choose(terminal=sys.stdout.isatty())
