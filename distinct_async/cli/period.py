"""``--since`` and ``--until``: where a period begins and ends in a list of visits, found by bisection."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import pairwise

from cyclopts import CycloptsError

from distinct_async import DistinctClient
from distinct_async.cli.client import make_client, read_key_file
from distinct_async.cli.console import open_stderr
from distinct_async.cli.options import Common
from distinct_async.cli.signals import run
from distinct_async.errors import DriftError
from distinct_async.models import TouchpointMetrics

Look = Callable[[DistinctClient, int], Awaitable[TouchpointMetrics]]
"""Requests one visit at an offset."""


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


def find_period(look: Look, since: datetime | None, until: datetime | None, common: Common) -> tuple[int, int]:
    """Return the offset of the first visit of a period, and how many there are.

    Args:
        look: Requests one visit.
        since: The period's begin, which is in it.
        until: The period's end, which is not in it.
        common: The options of all commands.

    Raises:
        CycloptsError: The list is not sorted by time.
        DriftError: It became shorter meanwhile.
    """

    async def search() -> tuple[int, int]:
        async with client:
            first = await look(client, 0)
            total = (first.total_visits if first.unique_visits is None else first.unique_visits) or 0
            times = {0: first.visits[0].timestamp_utc} if first.visits else {}

            async def time_at(offset: int) -> datetime:
                if offset not in times:
                    visits = (await look(client, offset)).visits
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

    with open_stderr(common) as stderr:
        client = make_client(common, read_key_file(common, stderr))
        with stderr.progress():
            return run(search())
