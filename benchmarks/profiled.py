"""Where the time of a page goes: a walk under cProfile, which makes calls of Python functions look a little dear.

A function of C counts for whoever called it, but for those that are looked for here: decoding, and the socket.
"""

import cProfile
import pstats
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import distinct_async
from benchmarks import walks
from benchmarks.server import Server
from benchmarks.turns import Row, Section
from distinct_async import DistinctClient

_Function = tuple[str, int, str]  # file, line, name; as pstats has them

_OURS = Path(distinct_async.__file__).parent
_C = {
    "'decode' of 'msgspec": "msgspec: JSON to wire rows",
    "msgspec._core.convert": "msgspec: wire rows to ours",
    "select.": "waiting for the server",
    "_socket.socket": "the kernel: send, receive",
}


def _part(function: _Function) -> str | None:
    """What the function is part of; None where its callers decide."""
    file, _, name = function
    if file == "~":
        return next((part for sign, part in _C.items() if sign in name), None)
    if file.startswith("<"):
        return "ours, by attrs and cattrs" if "distinct_async" in file else "the rest"
    path = Path(file)
    if path.is_relative_to(_OURS):
        return f"ours: {path.relative_to(_OURS).with_suffix('').as_posix()}"
    if path == Path(walks.__file__):
        return "the caller's own loop"
    return next((name for name in ("aiohttp", "asyncio", "yarl", "multidict") if name in path.parts), "the rest")


def _parts(profile: cProfile.Profile) -> Counter[str]:
    seconds: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if part := _part(function):
            seconds[part] += own
        else:
            for caller, (_, _, there, _) in callers.items():
                seconds[_part(caller) or "the rest"] += there
    return seconds


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Pages of 1 000 and of 50 rows, 0 ms, window 8, page by page; of each part its share and its microseconds."""
    for size, count in ((1000, 60), (50, 400)):
        tries = []
        async with DistinctClient("bench", base_url=server.url(0)) as client:
            for _ in range(15 if full else 5):
                with cProfile.Profile() as profile:
                    await walks.pages(client, size * count, size, 8)
                tries.append(_parts(profile))
        parts = min(tries, key=Counter.total)  # the one that was disturbed the least
        whole = parts.total()
        rows = [
            Row(part, {"share": seconds / whole, "us": seconds / count * 1e6})
            for part, seconds in parts.most_common()
            if seconds > whole / 100
        ]
        title = f"profile of a walk, 0 ms, {size} a page, window 8, pages: a page"
        yield Section(title, "all of it", {"time": whole / count}, rows)
