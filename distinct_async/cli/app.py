"""The commands: their words, and which call of the library each of them makes.

A command imports what it needs when it is called, so that ``--help`` waits for nothing.
"""

import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from attrs import evolve
from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from rich.console import Console

from distinct_async import DistinctClient, Walk
from distinct_async.cli import exits, options, reading
from distinct_async.cli.console import print_error
from distinct_async.cli.doctor import examine
from distinct_async.cli.jobs import run_job, write_report
from distinct_async.cli.options import (
    CommonOptions,
    Flag,
    JobReadOptions,
    OutputOptions,
    PageOptions,
    RowOptions,
    WalkOptions,
)
from distinct_async.errors import DistinctError
from distinct_async.models import TouchpointMetrics, VisitsType
from distinct_async.version import __version__

_NAME = "distinct-async"
_MAX_WIDTH = 80  # columns, if the terminal has as many

FileFormat = Literal["parquet", "csv", "jsonl"]
Experiences = Annotated[Path | None, Parameter(group=options.ROWS_GROUP, show_default=False)]
Prefetch = Annotated[int, Parameter(group=options.ROWS_GROUP, validator=Number(gte=1))]


def touchpoints(
    experience_id: str,
    /,
    *,
    rows: PageOptions = PageOptions(),
    output: OutputOptions = OutputOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> None:
    """List the touchpoints of an experience, with their totals; on a terminal, with shares too.

    Args:
        experience_id: The experience's id, as in your Distinct account; for example exp-1.
    """

    async def fetch_rows(client: DistinctClient) -> Sequence[object]:
        return (await client.metrics.experience(experience_id, page_size=rows.page_size)).touchpoints

    is_partial = rows.limit is not None or rows.offset > 0  # which has no shares and no total
    layout = evolve(reading.TOUCHPOINT_LAYOUT, extend=None) if is_partial else reading.TOUCHPOINT_LAYOUT
    reading.write_rows(fetch_rows, layout, rows, output, common_options)


def user(
    user_id: str,
    /,
    *,
    experience: str,
    rows: RowOptions = RowOptions(),
    output: OutputOptions = OutputOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> None:
    """List the touchpoints that a user scanned in an experience, with the times.

    Args:
        user_id: The user's id; for example user-1.
        experience: The experience's id.
    """

    async def fetch_rows(client: DistinctClient) -> Sequence[object]:
        return (await client.metrics.user(user_id, experience_id=experience)).touchpoints

    reading.write_rows(fetch_rows, reading.USER_LAYOUT, rows, output, common_options)


def visits(
    touchpoint_id: str,
    /,
    *,
    visits_type: VisitsType = "TOTAL",
    unique: Annotated[Flag, Parameter(show=False)] = False,
    experience: str | None = None,
    last: Annotated[int | None, Parameter(group=options.ROWS_GROUP, validator=Number(gte=1))] = None,
    since: Annotated[str | None, Parameter(group=options.ROWS_GROUP)] = None,
    until: Annotated[str | None, Parameter(group=options.ROWS_GROUP)] = None,
    prefetch: Prefetch = 4,
    rows: WalkOptions = WalkOptions(),
    output: OutputOptions = OutputOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> None:
    """Walk all visits of a touchpoint.

    Args:
        touchpoint_id: The touchpoint's id, as `distinct-async touchpoints` lists it; for example tp-1.
        visits_type: TOTAL: every visit; UNIQUE: the first of each user.
        unique: The name of --visits-type UNIQUE in version 0.1.0.
        experience: Sent to the server, whose documentation does not say what it does here.
        last: Only the last so many visits.
        since: Only visits from this time on: 2026-06-01, 2026-06-01T10:00:00Z; in UTC unless it says otherwise.
        until: Only visits before this time.
        prefetch: Pages requested ahead.
    """
    visits_type = "UNIQUE" if unique else visits_type
    period_begin, period_end = reading.parse_time("--since", since), reading.parse_time("--until", until)
    visits_in_period: int | None = None
    if last is not None and rows.offset:
        raise CycloptsError("--last and --offset contradict each other; drop one of them")
    if period_begin is not None or period_end is not None:
        if last is not None or rows.offset or rows.checkpoint is not None:
            raise CycloptsError("--since and --until cannot be combined with --last, --offset or --checkpoint")
        options.check_output(output, common_options)

        async def fetch_visit(client: DistinctClient, offset: int) -> TouchpointMetrics:
            return await client.metrics.touchpoint(
                touchpoint_id, visits_type=visits_type, experience_id=experience, page_size=1, offset=offset
            )

        offset, visits_in_period = reading.find_period(fetch_visit, period_begin, period_end, common_options)
        rows = evolve(rows, offset=offset)

    def make_walk(client: DistinctClient, limit: int | None) -> Walk[object]:
        method = client.metrics.unique_visits if visits_type == "UNIQUE" else client.metrics.total_visits
        row_limits = [each for each in (limit if last is None else rows.limit, visits_in_period) if each is not None]
        return method(
            touchpoint_id,
            experience_id=experience,
            page_size=rows.page_size,
            offset=rows.offset,
            limit=min(row_limits, default=None),
            prefetch=prefetch,
            last=last,
        )

    stop = None if visits_in_period is None else rows.offset + visits_in_period
    reading.write_walk(make_walk, reading.VISIT_LAYOUT, rows, output, common_options, stop=stop)


def impression(
    impression_id: str,
    /,
    *more: str,
    output: OutputOptions = OutputOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> None:
    """Show impressions (Vantio) by their ids, in that order.

    If some do not exist, the exit code is 3, and the others are written.

    Args:
        impression_id: For example imp_123abc.
        more: Further ids; several are requested at once.
    """
    reading.write_impressions((impression_id, *more), output, common_options)


def impressions(
    *,
    program: str | None = None,
    poster: str | None = None,
    rows: WalkOptions = WalkOptions(),
    output: OutputOptions = OutputOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> None:
    """Walk all impressions (Vantio), or those of a program or poster.

    Args:
        program: The id of the program.
        poster: The id of the poster.
    """

    def make_walk(client: DistinctClient, limit: int | None) -> Walk[object]:
        return client.impressions.list(
            program_id=program, poster_id=poster, page_size=rows.page_size, offset=rows.offset, limit=limit
        )

    reading.write_walk(make_walk, reading.IMPRESSION_LAYOUT, rows, output, common_options)


def export(
    *experience_id: str,
    output: Annotated[Path, Parameter(alias="-o", group=options.OUTPUT_GROUP)],
    format: Annotated[FileFormat | None, Parameter(group=options.OUTPUT_GROUP)] = None,  # noqa: A002  # the option's name
    safe_cells: Annotated[Flag, Parameter(group=options.OUTPUT_GROUP)] = False,
    experiences: Experiences = None,
    read_options: JobReadOptions = JobReadOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> int:
    """Write the visits of experiences to one file, with a manifest that proves what is in it.

    The file is written atomically. Run again, only what is missing is requested. A summary goes to stdout.

    Args:
        experience_id: The experience's id; for example exp-1. Several are read at once.
        output: The file: .parquet, .csv, .jsonl or .ndjson; <FILE>.manifest.json is written beside it.
        format: By default what the file's suffix names.
        safe_cells: Put an apostrophe before CSV texts that a spreadsheet would run as a formula.
        experiences: A file with ids of experiences, one per line.
    """
    ids = options.read_experiences(experience_id, experiences)
    options.check_paths(
        common_options, {"--output": output}, beside_suffixes=options.EXPORT_FILES, new_parent=True, stdout=True
    )
    file_format: FileFormat = options.choose_format(output, format, options.EXPORT_FORMATS)  # type: ignore[assignment]
    if safe_cells and file_format != "csv":
        raise CycloptsError("--safe-cells is for CSV only")

    from distinct_async import etl  # noqa: PLC0415  # --help does without

    job = partial(etl.export, format=file_format, safe_cells=safe_cells)
    return run_job(job, ids, output, read_options, OutputOptions(), common_options)


def sync(
    *experience_id_and_database: str,
    experiences: Experiences = None,
    timezone: str | None = None,
    read_options: JobReadOptions = JobReadOptions(),
    format: Annotated[options.RowFormat | None, Parameter(group=options.OUTPUT_GROUP)] = None,  # noqa: A002  # the option's name
    common_options: CommonOptions = CommonOptions(),
) -> int:
    """Bring a DuckDB database up to date with experiences: each visit exactly once, requesting only new ones.

    Run it again after an error or a crash. A summary goes to stdout, a row for each experience.

    Args:
        experience_id_and_database: The experience's id, for example exp-1, or several, which are read at once. Last
            the file of the database; created if it is missing.
        experiences: A file with ids of experiences, one per line; then only the database is named.
        timezone: Of the views, for example Europe/Berlin; the database keeps it. UTC at first.
        format: The format of the summary; by default a table on a terminal, JSON lines in a pipe.
    """
    if not experience_id_and_database:
        raise CycloptsError("name an experience and the file of a database")
    *named_ids, path = experience_id_and_database
    if not named_ids and experiences is None:
        raise CycloptsError(f"{path}: name an experience before the file of the database, or --experiences FILE")
    database, ids = Path(path), options.read_experiences(named_ids, experiences)
    options.check_paths(common_options, {"DATABASE": database}, beside_suffixes=options.DATABASE_FILES, stdout=True)

    from distinct_async import etl  # noqa: PLC0415  # as above

    return run_job(
        partial(etl.sync, timezone=timezone), ids, database, read_options, OutputOptions(format), common_options
    )


def report(
    experience_id: str,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", group=options.OUTPUT_GROUP)],
    warehouse: Path | None = None,
    offline: Flag = False,
    timezone: str | None = None,
    since: Annotated[date | None, Parameter(name="--from")] = None,
    until: date | None = None,
    program: str | None = None,
    no_impressions: Flag = False,
    interactive: Flag = False,
    rebuild: Flag = False,
    format: Annotated[options.RowFormat | None, Parameter(group=options.OUTPUT_GROUP)] = None,  # noqa: A002  # the option's name
    common_options: CommonOptions = CommonOptions(),
) -> int:
    """Write a report of an experience: one HTML file with charts, which loads nothing from anywhere.

    Users are counted, never listed. A row about the report goes to stdout.

    Args:
        experience_id: The experience's id; for example exp-1.
        output: The HTML file; replaced in one step.
        warehouse: A database of `distinct-async sync`, which is brought up to date first; without it all visits are
            read.
        offline: Read only the --warehouse, and request nothing.
        timezone: Of all times, for example Europe/Berlin; by default that of the warehouse, or UTC.
        since: The first day to show.
        until: The last day to show.
        program: Only the impressions of this program; by default all.
        no_impressions: Leave impressions as they are; else all are read, if there is a Vantio key.
        interactive: Put a script into the file that shows details under the mouse.
        rebuild: If rows have moved, reload that list in the warehouse, instead of an error.
        format: The format of the row; by default a table on a terminal, JSON lines in a pipe.
    """
    if offline and warehouse is None:
        raise CycloptsError("--offline reads a warehouse: name it with --warehouse")
    if since is not None and until is not None and until < since:
        raise CycloptsError(f"--from {since} is after --until {until}")
    options.check_paths(
        common_options,
        {"--warehouse": warehouse, "--output": output},
        beside_suffixes=options.DATABASE_FILES,
        stdout=True,
    )

    report_arguments: dict[str, object] = {
        "warehouse": warehouse,
        "offline": offline,
        "timezone": timezone,
        "since": since,
    }
    report_arguments |= {
        "until": until,
        "program_id": program,
        "impressions": not no_impressions,
        "interactive": interactive,
    }
    report_arguments["on_drift"] = "rebuild" if rebuild else "raise"
    return write_report(experience_id, output, report_arguments, OutputOptions(format), common_options)


def doctor(
    *,
    experience: str | None = None,
    output: OutputOptions = OutputOptions(),
    common_options: CommonOptions = CommonOptions(),
) -> int:
    """Check keys, addresses and the connection to both vendors; say what is wrong, and what to do.

    The exit code is 0 if all is well, 2 for keys and settings, 4 if a key is rejected, 6 if a vendor is not reached.
    No key is shown.

    Args:
        experience: An experience to request; without it one that does not exist is requested, which proves less.
    """
    return examine(experience, output, common_options)


_COMMANDS = (touchpoints, user, visits, impression, impressions, export, sync, report, doctor)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Raise the BrokenPipeError, so that everything is closed; rich would end the process here."""
        raise  # noqa: PLE0704  # called where rich handles it


def run(arguments: Sequence[str]) -> int:
    """Run one command, and return its exit code."""
    # Not FORCE_COLOR, which test runners set for all their children, decides: in a pipe it is plain
    console = _Console(force_terminal=sys.stdout.isatty(), highlight=False)
    console.width = min(console.width, _MAX_WIDTH)
    app = _make_app(console)
    try:
        exit_code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, DistinctError, exits.PartialError, exits.MissingError) as error:
        print_error(exits.error_line(error))
        if isinstance(error, CycloptsError):
            hint = f"Try: {' '.join([_NAME, *(word for word in arguments[:1] if word in app)])} --help"
            print(hint, file=sys.stderr)  # noqa: T201  # stderr is not for data, so not for the console
        return exits.exit_code(error)
    return exit_code or exits.OK


def _make_app(console: Console) -> App:
    app = App(
        name=_NAME,
        help="QR-scan data: touchpoint metrics (Distinct) and impressions (Vantio).",
        help_format="plaintext",
        version=lambda: __version__,
        console=console,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    usages = {sync: "sync [OPTIONS] EXPERIENCE_ID... DATABASE", export: "export [OPTIONS] EXPERIENCE_ID... -o FILE"}
    for command in _COMMANDS:
        app.command(command, usage=f"Usage: {_NAME} {usages[command]}" if command in usages else None)
    app.register_install_completion_command(
        help="Let the shell complete commands and options: bash, zsh or fish. Its startup file gets a line."
    )

    @app.command(name="help")
    def show_help(command: str | None = None, /) -> None:
        """Show the help of a command.

        Args:
            command: Its name; by default the list of all commands.
        """
        if command is not None and command not in app:
            raise CycloptsError(f"there is no command {command}")
        arguments = () if command is None else (command,)
        app((*arguments, "--help"), exit_on_error=False, print_error=False, result_action="return_value")

    @app.command
    def demo(*, debug: Flag = False) -> int:  # noqa: ARG001  # see `main`
        """Show the library at work: real requests, sample data, no key.

        Args:
            debug: A traceback if there is a bug.
        """
        from distinct_async.cli.demo import show  # noqa: PLC0415  # with it come aiohttp and the fake vendors

        return exits.OK if show(console) else exits.BUG

    @app.command
    @options.join_help_lines
    def serve(
        *,
        port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0,
        touchpoints: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
        experiences: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
        scans: Annotated[int, Parameter(validator=Number(gte=0))] = 100_000,
        seed: int = 7,
        fault: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
        latency: str = "0ms",
        grow: Annotated[float, Parameter(validator=Number(gte=0, lte=1000))] = 0,
        data: Path | None = None,
        debug: Flag = False,  # noqa: ARG001  # see `main`
    ) -> None:
        """Run the fake vendors, for programs in any language, until SIGTERM or Ctrl-C.

        Once they listen, one line of JSON on stdout gives their url, api_key and vantio_api_key.

        Requests wait until the sample is made.

        Args:
            port: On 127.0.0.1; 0 takes a free one.
            touchpoints: How many the sample has: tp-1 (the busiest), tp-2 and so on.
            experiences: How many the sample has: exp-1, exp-2 and so on, with the touchpoints by turns.
            scans: How many the sample has, over all touchpoints.
            seed: The same seed makes the same sample, and the same faults.
            fault: A status, or close, reset, hang, garbage, cut or drip; after a colon its probability: 503:0.1
                rejects one request in ten. May be repeated.
            latency: Before each response: 50ms, 1.5s.
            grow: New scans per second, at the ends of the lists, while it runs.
            data: A JSON file with the scans to serve instead of the sample: {"scans": [{"touchpoint_id": "tp-1",
                "user_id": "user-1", "at": "2024-01-01T10:00:00Z"}]}.
            debug: A traceback if there is a bug.
        """
        from distinct_async.cli import serve as fakes  # noqa: PLC0415  # as above

        faults = [fakes.parse_fault(text, seed + number) for number, text in enumerate(fault)]
        sample = partial(fakes.make_sample, touchpoints, scans, seed, experiences)
        world = None if data is None else fakes.read_world(data)  # before it listens: the file may be wrong
        announced_scans = scans if world is None else 0
        fakes.serve(lambda: world or sample(), announced_scans, port, faults, fakes.parse_seconds(latency), grow)

    return app
