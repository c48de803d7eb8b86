"""Importing the package and making a client, in fresh processes, beside ``import aiohttp``."""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial

from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, take_turns

_OURS = """\
import distinct_async
distinct_async.DistinctClient("bench")
assert "aiohttp" not in sys.modules, "aiohttp is loaded before it is needed"
"""
_CLOCKED = """\
import sys, time
began, spent = time.perf_counter(), time.process_time()
{}
print(time.process_time() - spent, time.perf_counter() - began)
"""


async def _child(code: str) -> Cost:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLOCKED.format(code), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    cpu, time = map(float, told.split())
    return {"cpu": cpu, "time": time}


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:  # noqa: ARG001  # as the other subjects
    """Ours, against the floor, which it must not contain."""
    floor = Peer("import aiohttp", partial(_child, "import aiohttp"))
    ours = Peer("ours, and making a client", partial(_child, _OURS), target="time <= 0.75")
    yield await take_turns("import", floor, [ours], 11 if full else 5)
