"""Fresh processes: importing the package and making a client, and a first call, beside aiohttp alone."""

import asyncio
import compileall
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import distinct_async
from benchmarks.server import Server
from benchmarks.turns import Cost, Peer, Section, take_turns

_OURS = """\
import distinct_async
distinct_async.DistinctClient("bench")
assert "aiohttp" not in sys.modules, "aiohttp is loaded before it is needed"
"""
_FLOOR_CALLS = """\
import asyncio, aiohttp, orjson
async def main():
    async with aiohttp.ClientSession() as session, session.get("{url}/api/v1/impressions/imp-1") as response:
        assert orjson.loads(await response.read())["id"] == "imp-1"
asyncio.run(main())
"""
_OURS_CALLS = """\
import asyncio, distinct_async
async def main():
    async with distinct_async.DistinctClient(vantio_api_key="bench", vantio_base_url="{url}") as client:
        assert (await client.impressions.get("imp-1")).id == "imp-1"
asyncio.run(main())
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
    output, _ = await process.communicate()
    cpu, time = map(float, output.split())
    return {"cpu": cpu, "time": time}


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Ours against the floor: importing must not contain it, and a call cannot do without."""
    rounds, url = 11 if full else 3, server.url(0)
    compileall.compile_dir(Path(distinct_async.__file__).parent, quiet=1)  # as pip does, PYTHONDONTWRITEBYTECODE or not
    floor = Peer("import aiohttp", partial(_child, "import aiohttp"))
    ours = Peer("ours, and making a client", partial(_child, _OURS), target="time <= 0.75")
    yield await take_turns("import", floor, [ours], rounds)
    floor = Peer("raw aiohttp and orjson", partial(_child, _FLOOR_CALLS.format(url=url)))
    yield await take_turns("cold start", floor, [Peer("ours", partial(_child, _OURS_CALLS.format(url=url)))], rounds)
