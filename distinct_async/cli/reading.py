"""What the vendors know, to stdout or a file: single calls, walks with a way to continue, and periods of a walk."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil
from typing import Final

from attrs import evolve
from cyclopts import CycloptsError

from distinct_async import DistinctClient, Walk
from distinct_async.cli.console import Stderr, UpdateProgress, open_stderr
from distinct_async.cli.exits import MissingError, PartialError, run
from distinct_async.cli.options import (
    WALK_FILES,
    CommonOptions,
    OutputOptions,
    RowOptions,
    WalkOptions,
    check_output,
    check_paths,
    open_client,
)
from distinct_async.cli.output import Row, RowLayout, Writer, open_output, read_checkpoint, write_checkpoint
from distinct_async.errors import DistinctError, DriftError
from distinct_async.models import TouchpointMetrics

_DEFAULT_TABLE_ROWS: Final = 20  # rows of a table without --limit
_MAX_NAMED_IDS: Final = 10  # missing ids

_MAX_BAR_WIDTH: Final = 10  # columns of the longest bar

FetchVisit = Callable[[DistinctClient, int], Awaitable[TouchpointMetrics]]
"""Requests one visit at an offset."""


def _with_shares(rows: Sequence[Row]) -> list[Row]:
    """Return touchpoints with their shares of all visits, and the total; visitors of several cannot be added up."""
    counts = [int(str(row["total_visits"])) for row in rows]
    total, largest = sum(counts), max(counts)
    touchpoint_rows: list[Row] = [
        {
            **{name: row[name] for name in ("id", "name", "total_visits", "unique_visits")},
            "share": f"{count / total:.1%}" if total else "",
            "per_visitor": count / int(str(row["unique_visits"])) if row["unique_visits"] else None,
            "": "█" * ceil(count / largest * _MAX_BAR_WIDTH) if largest else "",
        }
        for row, count in zip(rows, counts, strict=True)
    ]
    empty_row = dict.fromkeys(touchpoint_rows[0])
    return [*touchpoint_rows, {**empty_row, "id": "total", "total_visits": total, "share": "100.0%" if total else ""}]


TOUCHPOINT_LAYOUT: Final = RowLayout(
    "touchpoints", ("id", "name", "value", "total_visits", "unique_visits"), extend=_with_shares
)
USER_LAYOUT: Final = RowLayout("touchpoints", ("id", "name", "value", "total_visits", "timestamps_utc"))
VISIT_LAYOUT: Final = RowLayout("visits", ("user_id", "timestamp_utc"))
IMPRESSION_LAYOUT: Final = RowLayout(
    "impressions",
    ("id", "poster_id", "program_id", "student_id", "scanned_at", "user_agent", "ip_address", "metadata"),
    wide=("user_agent", "ip_address", "metadata"),
)


def write_rows(
    fetch_rows: Callable[[DistinctClient], Awaitable[Sequence[object]]],
    layout: RowLayout,
    rows: RowOptions,
    output: OutputOptions,
    common_options: CommonOptions,
) -> None:
    """Write what one call returns."""
    check_output(output, common_options)
    with open_stderr(common_options) as stderr:
        client = open_client(common_options, stderr.say)

        async def fetch_with_client() -> Sequence[object]:
            async with client:
                return await fetch_rows(client)

        with stderr.progress():
            all_rows = run(fetch_with_client())
        stop = None if rows.limit is None else rows.offset + rows.limit
        with open_output(layout, output, stderr) as writer:
            writer.write(all_rows[rows.offset : stop])


def write_impressions(impression_ids: Sequence[str], output: OutputOptions, common_options: CommonOptions) -> None:
    """Write these impressions.

    Raises:
        MissingError: Some do not exist; raised after the others are written.
    """
    missing: list[str] = []

    async def fetch_rows(client: DistinctClient) -> Sequence[object]:
        results = [each async for each in client.impressions.get_many(impression_ids, missing="none")]
        missing.extend(one for one, each in zip(impression_ids, results, strict=True) if each is None)
        return [each for each in results if each is not None]

    write_rows(fetch_rows, evolve(IMPRESSION_LAYOUT, blocks=True), RowOptions(), output, common_options)
    if missing:
        named_ids = ", ".join(missing[:_MAX_NAMED_IDS]) + (", ..." if len(missing) > _MAX_NAMED_IDS else "")
        raise MissingError(f"no such impression: {named_ids} ({len(missing)} of {len(impression_ids)})")


def write_walk(
    make_walk: Callable[[DistinctClient, int | None], Walk[object]],
    layout: RowLayout,
    rows: WalkOptions,
    output: OutputOptions,
    common_options: CommonOptions,
    *,
    stop: int | None = None,
) -> None:
    """Write what a walk yields.

    Args:
        make_walk: Makes the walk, with a limit of rows.
        layout: Its rows.
        rows: Which of them.
        output: Where to.
        common_options: The options of all commands.
        stop: The offset behind the last row that belongs to these; None for the end of the list.

    Raises:
        PartialError: An error ended it after some rows, and the checkpoint says where to continue.
    """
    files = {"--output": output.output, "--checkpoint": rows.checkpoint}
    beside_suffixes = WALK_FILES if rows.checkpoint is not None and _is_file(output) else ()
    check_paths(common_options, files, beside_suffixes=beside_suffixes, stdout=output.output is None)
    table = output.choose(terminal=sys.stdout.isatty()) == "table"
    with open_stderr(common_options) as stderr:
        saved = read_checkpoint(rows.checkpoint)
        client = open_client(common_options, stderr.say)
        walk = make_walk(client, _DEFAULT_TABLE_ROWS if table and rows.limit is None else rows.limit)
        if saved is not None:
            walk = walk.resume(saved)
            stderr.note(f"continuing after row {saved.position:,}")
        writer: Writer | None = None
        try:
            with (
                open_output(layout, output, stderr, rows.checkpoint, saved) as writer,
                stderr.progress(
                    layout.unit, keep=output.output is not None or not sys.stdout.isatty()
                ) as update_progress,
            ):
                remaining = run(_write_pages(client, walk, writer, update_progress, stop))
        except BrokenPipeError:
            raise  # which rows the reader has seen is unknown, so no checkpoint can be saved
        except BaseException as error:
            _keep_position(error, writer, layout, rows, output, stderr)
            raise
        if rows.checkpoint is not None and writer.reached is not None:
            write_checkpoint(rows.checkpoint, writer.reached)
        if table and remaining:
            stderr.note(f"{remaining}: --limit shows more, --format jsonl or -o FILE takes all")
        elif table and not writer.rows:
            stderr.note(f"no {layout.unit}")


def _is_file(output: OutputOptions) -> bool:
    return output.output is not None and (not output.output.exists() or output.output.is_file())


def _keep_position(
    error: BaseException,
    writer: Writer | None,
    layout: RowLayout,
    rows: WalkOptions,
    output: OutputOptions,
    stderr: Stderr,
) -> None:
    """Keep what was written before an error, and say how to continue."""
    if writer is None or writer.reached is None:
        return
    written = f"{writer.rows:,} {layout.unit} were written"
    if rows.checkpoint is not None:
        write_checkpoint(rows.checkpoint, writer.reached)
        resume_hint = f"{written}; the same command continues after row {writer.reached.position:,}"
    elif _is_file(output):
        resume_hint = (
            f"{writer.rows:,} {layout.unit} were received but not saved; use --checkpoint FILE to keep partial results"
        )
    else:
        resume_hint = f"{written}; to continue, save this in a file for --checkpoint: {writer.reached.to_json()}"
    if not isinstance(error, DistinctError):
        stderr.say(resume_hint)
    elif rows.checkpoint is None:
        error.add_note(resume_hint)
    else:
        raise PartialError(resume_hint) from error


async def _write_pages(
    client: DistinctClient, walk: Walk[object], writer: Writer, update_progress: UpdateProgress, stop: int | None
) -> str:
    """Write all pages; return what the list has behind the last of them, up to `stop`, in words."""
    async with client, walk.run() as walk_run:
        async for page in walk_run.pages():
            writer.write(page.items)
            writer.save(page.checkpoint, len(page))
            report, total = walk_run.report, walk_run.report.total_last
            if total is not None:
                total -= page.offset + len(page) - report.rows
                total = total if walk.limit is None else min(total, walk.limit)
            update_progress(report.rows, total, report.retries)
    if walk_run.report.complete or writer.reached is None:
        return ""
    known_ends = [each for each in (walk_run.report.total_last, stop) if each is not None]
    if not known_ends:
        return "there may be more"
    rows_left = min(known_ends) - writer.reached.position
    return f"and {rows_left:,} more" if rows_left > 0 else ""


def parse_time(option: str, text: str | None) -> datetime | None:
    """Return the time of a text like ``2026-06-01`` or ``2026-06-01T10:00:00Z``; without a zone it is in UTC.

    Raises:
        CycloptsError: The text is something else.
    """
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CycloptsError(f"{option} {text}: not a time like 2026-06-01 or 2026-06-01T10:00:00Z") from None


def find_period(
    fetch_visit: FetchVisit, since: datetime | None, until: datetime | None, common_options: CommonOptions
) -> tuple[int, int]:
    """Return the offset of the first visit of a period, and how many there are.

    Args:
        fetch_visit: Requests one visit.
        since: The period's begin, which is in it.
        until: The period's end, which is not in it.
        common_options: The options of all commands.

    Raises:
        CycloptsError: The list is not sorted by time.
        DriftError: It became shorter meanwhile.
    """

    async def search() -> tuple[int, int]:
        async with client:
            first = await fetch_visit(client, 0)
            total = (first.total_visits if first.unique_visits is None else first.unique_visits) or 0
            times = {0: first.visits[0].timestamp_utc} if first.visits else {}

            async def time_at(offset: int) -> datetime:
                if offset not in times:
                    visits = (await fetch_visit(client, offset)).visits
                    if not visits:
                        raise DriftError(f"there is no visit {offset + 1:,} of {total:,} any more")
                    times[offset] = visits[0].timestamp_utc
                    if any(earlier > later for (_, earlier), (_, later) in pairwise(sorted(times.items()))):
                        problem = "--since and --until need visits sorted oldest-first, and these are not"
                        raise CycloptsError(f"{problem}; read all of them, and select by timestamp_utc")
                return times[offset]

            async def count_before(moment: datetime) -> int:
                low, high = 0, total
                while low < high:
                    middle = (low + high) // 2
                    low, high = (middle + 1, high) if await time_at(middle) < moment else (low, middle)
                return low

            if total > 1:
                await time_at(total - 1)
            begin = 0 if since is None else await count_before(since)
            end = total if until is None else await count_before(until)
            return begin, max(0, end - begin)

    with open_stderr(common_options) as stderr:
        client = open_client(common_options, stderr.say)
        with stderr.progress():
            return run(search())
