"""The commands that ask the vendors: their words, and which call of the library each of them is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from distinct_async import DistinctClient, Walk
from distinct_async.cli.doctor import examine
from distinct_async.cli.jobs import done
from distinct_async.cli.options import (
    COMMON,
    OUTPUT,
    PAGED,
    ROWS,
    ROWS_GROUP,
    WALKED,
    Common,
    Flag,
    Output,
    Paged,
    Rows,
    Walked,
)
from distinct_async.cli.reading import IMPRESSION, TOUCHPOINT, USER, VISIT, found, listed, walked
from distinct_async.models import VisitsType

if TYPE_CHECKING:
    from distinct_async.etl import Progress, Result

PageSize = Annotated[int | None, Parameter(group=ROWS_GROUP, validator=Number(gte=1))]
FileFormat = Literal["parquet", "csv", "jsonl"]
Prefetch = Annotated[int, Parameter(group=ROWS_GROUP, validator=Number(gte=1))]


def touchpoints(
    experience_id: str, /, *, rows: Paged = PAGED, output: Output = OUTPUT, common: Common = COMMON
) -> None:
    """List the touchpoints of an experience, with their totals.

    Args:
        experience_id: As in your Distinct account: exp-1, say.
    """

    async def call(client: DistinctClient) -> Sequence[object]:
        return (await client.metrics.experience(experience_id, page_size=rows.page_size)).touchpoints

    listed(call, TOUCHPOINT, rows, output, common)


def user(
    user_id: str, /, *, experience: str, rows: Rows = ROWS, output: Output = OUTPUT, common: Common = COMMON
) -> None:
    """List the touchpoints that a user scanned in an experience, with the times.

    Args:
        user_id: As in the user's QR code: user-1, say.
        experience: The experience's id.
    """

    async def call(client: DistinctClient) -> Sequence[object]:
        return (await client.metrics.user(user_id, experience_id=experience)).touchpoints

    listed(call, USER, rows, output, common)


def visits(
    touchpoint_id: str,
    /,
    *,
    unique: Flag = False,
    experience: str | None = None,
    prefetch: Prefetch = 4,
    rows: Walked = WALKED,
    output: Output = OUTPUT,
    common: Common = COMMON,
) -> None:
    """Walk all visits of a touchpoint.

    Args:
        touchpoint_id: As `distinct-async touchpoints` lists it: tp-1, say.
        unique: Only the first visit of each user.
        experience: Sent along; what it does here is not documented.
        prefetch: Pages asked ahead.
    """

    def ask(client: DistinctClient, limit: int | None) -> Walk[object]:
        walk = client.metrics.unique_visits if unique else client.metrics.total_visits
        return walk(
            touchpoint_id,
            experience_id=experience,
            page_size=rows.page_size,
            offset=rows.offset,
            limit=limit,
            prefetch=prefetch,
        )

    walked(ask, VISIT, rows, output, common)


def impression(impression_id: str, /, *more: str, output: Output = OUTPUT, common: Common = COMMON) -> None:
    """Show impressions (Vantio) by their ids, in that order.

    Exits with 3 where some do not exist, after those that do.

    Args:
        impression_id: imp_123abc, say.
        more: Further ids; many are asked for at once.
    """
    found((impression_id, *more), output, common)


def impressions(
    *,
    program: str | None = None,
    poster: str | None = None,
    rows: Walked = WALKED,
    output: Output = OUTPUT,
    common: Common = COMMON,
) -> None:
    """Walk all impressions (Vantio), or those of a program or poster.

    Args:
        program: Only this program's, by its id.
        poster: Only this poster's, by its id.
    """

    def ask(client: DistinctClient, limit: int | None) -> Walk[object]:
        return client.impressions.list(
            program_id=program, poster_id=poster, page_size=rows.page_size, offset=rows.offset, limit=limit
        )

    walked(ask, IMPRESSION, rows, output, common)


def export(
    experience_id: str,
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o")],
    visits_type: VisitsType = "TOTAL",
    format: FileFormat | None = None,  # noqa: A002  # the option's name
    rebuild: Flag = False,
    prefetch: Prefetch = 4,
    page_size: PageSize = None,
    common: Common = COMMON,
) -> int:
    """Write all visits of an experience to one file, with a manifest that proves what is in it.

    Run again after a crash or an error, it does not ask for what is there. A summary goes to stdout.

    Args:
        experience_id: exp-1, say.
        output: The file, which is there when it is whole; <FILE>.manifest.json stands beside it.
        visits_type: Every visit, or the first of each user.
        format: By default what the file's name says; it must not say another one.
        rebuild: Where a list has changed since a crash, or under the walk, walk it anew, instead of an error.
        prefetch: Pages asked ahead, for each touchpoint.
        page_size: Rows per request; the server's default is 50.
    """

    async def job(client: DistinctClient, move: Callable[["Progress"], object]) -> "Result":
        from distinct_async import etl  # noqa: PLC0415  # its extras are loaded by the jobs

        return await etl.export(
            client,
            experience_id,
            output,
            visits_type=visits_type,
            format=format,
            on_drift="rebuild" if rebuild else "raise",
            page_size=page_size,
            prefetch=prefetch,
            on_progress=move,
        )

    return done(job, output, OUTPUT, common)


def sync(
    experience_id: str,
    database: Path,
    /,
    *,
    visits_type: VisitsType | None = None,
    rebuild: Flag = False,
    prefetch: Prefetch = 4,
    page_size: PageSize = None,
    output: Output = OUTPUT,
    common: Common = COMMON,
) -> int:
    """Bring a DuckDB database up to date with an experience: each visit exactly once, only the new ones asked for.

    Run it again after whatever happened. A summary goes to stdout.

    Args:
        experience_id: exp-1, say.
        database: The file; made where there is none.
        visits_type: Only every visit, or only the first of each user; by default both.
        rebuild: Where the history of a list has changed, replace what is stored of it, instead of an error.
        prefetch: Pages asked ahead, for each touchpoint.
        page_size: Rows per request; the server's default is 50.
    """

    async def job(client: DistinctClient, move: Callable[["Progress"], object]) -> "Result":
        from distinct_async import etl  # noqa: PLC0415  # as above

        return await etl.sync(
            client,
            experience_id,
            database,
            visits_type=visits_type,
            on_drift="rebuild" if rebuild else "raise",
            page_size=page_size,
            prefetch=prefetch,
            on_progress=move,
        )

    return done(job, database, output, common)


def doctor(*, experience: str | None = None, output: Output = OUTPUT, common: Common = COMMON) -> int:
    """Look at keys, addresses and the way to both vendors; say what is wrong, and what to do.

    Exits with 0 where all is well, 2 for keys and settings, 4 where a key is refused, 6 where a vendor is not reached.
    No key is ever shown.

    Args:
        experience: Ask for this one; without it for one that does not exist, which proves a little less.
    """
    return examine(experience, output, common)
