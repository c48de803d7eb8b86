"""What the vendors know, to stdout or a file: answers of one call, and walks page by page with a way to go on."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from distinct_async import DistinctClient, Walk
from distinct_async.cli.aside import Aside, Moved
from distinct_async.cli.delivery import Delivery, Shape
from distinct_async.cli.exits import MissingError, PartialError
from distinct_async.cli.files import read_checkpoint
from distinct_async.cli.keys import client_of
from distinct_async.cli.options import Common, Output, Rows, Walked
from distinct_async.cli.stopping import run
from distinct_async.errors import DistinctError

_HEAD = 20  # rows of a table, where nobody says how many
_NAMED = 10  # missing ids

TOUCHPOINT: Final = Shape("touchpoints", ("id", "name", "value", "total_visits", "unique_visits"))
USER: Final = Shape("touchpoints", ("id", "name", "value", "total_visits", "timestamps_utc"))
VISIT: Final = Shape("visits", ("user_id", "timestamp_utc"))
IMPRESSION: Final = Shape(
    "impressions",
    ("id", "poster_id", "program_id", "student_id", "scanned_at", "user_agent", "ip_address", "metadata"),
    wide=("user_agent", "ip_address", "metadata"),
)

Call = Callable[[DistinctClient], Awaitable[Sequence[object]]]
Ask = Callable[[DistinctClient, int | None], Walk[object]]


def listed(call: Call, shape: Shape, rows: Rows, output: Output, common: Common) -> None:
    """Write what one call gives."""
    with Aside(common) as aside:
        client = client_of(common, aside)

        async def found() -> Sequence[object]:
            async with client:
                return await call(client)

        everything = run(found())
        stop = None if rows.limit is None else rows.offset + rows.limit
        with Delivery(shape, output) as delivery:
            delivery.put(everything[rows.offset : stop])
            delivery.finish()


def found(impression_ids: Sequence[str], output: Output, common: Common) -> None:
    """Write these impressions.

    :raises MissingError: behind them, where some do not exist.
    """
    missing: list[str] = []
    with Aside(common) as aside, Delivery(IMPRESSION, output) as delivery:
        client = client_of(common, aside)

        async def each() -> None:
            async with client, aclosing(client.impressions.get_many(impression_ids, missing="none")) as impressions:
                ids = iter(impression_ids)
                async for impression in impressions:
                    impression_id = next(ids)
                    if impression is None:
                        missing.append(impression_id)
                    else:
                        delivery.put([impression])

        run(each())
        delivery.finish()
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise MissingError(f"no such impression: {named} ({len(missing)} of {len(impression_ids)})")


def walked(
    ask: Callable[[DistinctClient, int | None], Walk[object]],
    shape: Shape,
    rows: Walked,
    output: Output,
    common: Common,
) -> None:
    """Write what a walk gives.

    :param ask: makes the walk, with so many rows in all.
    :raises PartialError: where an error ended it after some rows, and the checkpoint says where to go on.
    """
    with Aside(common) as aside:
        saved = read_checkpoint(rows.checkpoint)
        table = output.chosen(terminal=sys.stdout.isatty()) == "table"
        limit = _HEAD if table and rows.limit is None else rows.limit
        client = client_of(common, aside)
        walk = ask(client, limit)
        if saved is not None:
            walk = walk.resume(saved)
            aside.note(f"going on after row {saved.position:,}")
        with Delivery(shape, output, rows.checkpoint, saved) as delivery:
            try:
                with aside.progress(shape.unit, streams=output.output is None and not table, transient=table) as moved:
                    left = run(_pages(client, walk, delivery, moved))
                delivery.finish()
            except BrokenPipeError:
                raise  # nobody knows how many of the rows were read before: no checkpoint may stand behind them
            except BaseException as error:
                if (kept := delivery.suspend()) is None:
                    raise
                if not isinstance(error, DistinctError):
                    aside.say(kept)
                elif rows.checkpoint is None:
                    error.add_note(kept)
                else:
                    raise PartialError(kept) from error
                raise
        if table and left:
            aside.note(f"{left}: --limit shows more, --format jsonl or -o FILE takes all")


async def _pages(client: DistinctClient, walk: Walk[object], delivery: Delivery, moved: Moved) -> str:
    """Take all pages; what the list has behind the last of them, in words."""
    first = last = None
    async with client, walk.run() as walking:
        async for page in walking.pages():
            delivery.take(page)
            first, last = first or page, page
            total, report = walking.report.total_last, walking.report
            if total is not None:
                total -= first.offset
                total = total if walk.limit is None else min(total, walk.limit)
            moved(report.rows, total, report.retries)
    if last is None or walking.report.complete:
        return ""
    if walking.report.total_last is None:
        return "there may be more"
    more = walking.report.total_last - last.checkpoint.position
    return f"and {more:,} more" if more > 0 else ""
