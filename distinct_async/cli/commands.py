"""The commands that ask the vendors: their words, and which call of the library each of them is."""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from distinct_async import DistinctClient, Walk
from distinct_async.cli.doctor import examine
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


def doctor(*, experience: str | None = None, output: Output = OUTPUT, common: Common = COMMON) -> int:
    """Look at keys, addresses and the way to both vendors; say what is wrong, and what to do.

    Exits with 0 where all is well, 2 for keys and settings, 4 where a key is refused, 6 where a vendor is not reached.
    No key is ever shown.

    Args:
        experience: Ask for this one; without it for one that does not exist, which proves a little less.
    """
    return examine(experience, output, common)
