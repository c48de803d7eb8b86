"""Where the time of a page goes, and of a million rows of a job: cProfile makes calls of Python functions look dear.

A function of C counts for whoever called it, but for those that are looked for here: decoding, Arrow, and the socket.
What a job does in its destination's thread (DuckDB, Parquet) is one part: the profiler sees only one thread.
"""

import cProfile
import pstats
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from time import process_time, thread_time

import distinct_async
from benchmarks import etl, walks
from benchmarks.server import Server
from benchmarks.turns import Row, Section
from distinct_async import DistinctClient

_Function = tuple[str, int, str]  # file, line, name; as pstats has them

_OURS = Path(distinct_async.__file__).parent
_C = {
    "'decode' of 'msgspec": "msgspec: JSON to wire rows",
    "msgspec._core.convert": "msgspec: wire rows to ours",
    "'encode' of 'msgspec": "msgspec: times to text",
    "pyarrow": "pyarrow",
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
    if path in {Path(walks.__file__), Path(etl.__file__)}:
        return "the caller's own loop"
    return next(
        (name for name in ("aiohttp", "asyncio", "yarl", "multidict", "pyarrow") if name in path.parts), "the rest"
    )


def _parts(profile: cProfile.Profile) -> Counter[str]:
    seconds: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if part := _part(function):
            seconds[part] += own
        else:
            for caller, (_, _, there, _) in callers.items():
                seconds[_part(caller) or "the rest"] += there
    return seconds


async def _job(server: Server, job: str, rows: int) -> Section:
    """Profile a job of 200 touchpoints, 500 a page, 0 ms."""
    tries = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            spent, own = process_time(), thread_time()
            with cProfile.Profile() as profile:
                await etl.JOBS[job](server.url(0), f"200x{rows}", Path(folder), 500)
            parts: dict[str, float] = dict(_parts(profile))
            elsewhere = process_time() - spent - (thread_time() - own)
            parts["the destination's thread"] = max(0.0, elsewhere)
            parts.pop("waiting for the server", None)
            tries.append((sum(parts.values()), parts))
    whole, parts = min(tries, key=lambda each: each[0])
    millions = 200 * rows / 1e6
    shares = [
        Row(part, {"share": seconds / whole, "s": seconds / millions})
        for part, seconds in sorted(parts.items(), key=lambda each: -each[1])
        if seconds > whole / 50
    ]
    return Section(f"profile of a million rows: {job}", "all of it", {"time": whole / millions}, shares)


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Pages of 1 000 and of 50 rows, 0 ms, window 8, page by page; of each part its share and its microseconds."""
    for job in ("batches", "export", "sync") if find_spec("duckdb") and find_spec("pyarrow") else ():
        yield await _job(server, job, 5000 if full else 1000)
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
