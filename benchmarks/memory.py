"""The peak memory of a long walk beside that of a short one, each in a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, take_turns
from benchmarks.walks import items
from distinct_async import DistinctClient

_SHORT, _LONG = 200_000, 2_000_000


def peak() -> float:
    """This process's peak, in megabytes.

    Linux hands `ru_maxrss` on to children, even across exec: a small child would tell its parent's peak. VmHWM is
    its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import resource  # noqa: PLC0415  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


async def _walk(url: str, rows: int) -> None:
    async with DistinctClient("bench", base_url=url) as client:
        if await items(client, rows, 1000, 8) != rows:
            raise AssertionError("rows are missing")
    print(peak())


async def _child(url: str, rows: int) -> Cost:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, url, str(rows), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return {"peak": float(output)}


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """2 000 000 rows against 200 000, 1 000 a page, window 8, row by row."""
    url = server.url(0)
    floor = Peer(f"{_SHORT} rows", partial(_child, url, _SHORT))
    long = Peer(f"{_LONG} rows", partial(_child, url, _LONG), target="peak <= 1.03")
    yield await take_turns("memory of a walk", floor, [long], 3 if full else 1, warm_up=False)


if __name__ == "__main__":
    asyncio.run(_walk(sys.argv[1], int(sys.argv[2])))
