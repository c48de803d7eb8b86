"""What users would pick instead, each in an environment and a process of its own, with the floor and us beside it.

One file per peer: its ``ways(url)`` gives what walks so many rows, so many a page, and returns the rows it saw.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.server import Server
from benchmarks.turns import Section

PEERS = {
    "httpx_pydantic": ("httpx", "pydantic"),
    "openapi_client": ("openapi-python-client",),
    "dlt_rest": ("dlt",),
}

WINDOWS = (8, 32)

Way = Callable[[int, int], Awaitable[int]]
Ways = Callable[[str], AbstractAsyncContextManager[Mapping[str, Way]]]
Ask = Callable[[int, int, int], Awaitable[tuple[int, int]]]  # rows, size and offset, to the total and the page's rows

_ROOT = Path(__file__).parents[2]


async def _sequential(ask: Ask, rows: int, size: int) -> int:
    total, seen = await ask(rows, size, 0)
    while seen < total:
        seen += (await ask(rows, size, seen))[1]
    return seen


async def _window(ask: Ask, ahead: int, rows: int, size: int) -> int:
    total, seen = await ask(rows, size, 0)
    offsets = iter(range(seen, total, size))
    tasks = deque(asyncio.ensure_future(ask(rows, size, offset)) for offset in islice(offsets, ahead))
    while tasks:
        seen += (await tasks.popleft())[1]
        if (offset := next(offsets, None)) is not None:
            tasks.append(asyncio.ensure_future(ask(rows, size, offset)))
    return seen


def by_hand(ask: Ask) -> Mapping[str, Way]:
    """The loops that one writes around a client of single pages: one after the other, and in order with a window."""
    windows = {f"theirs, window {ahead}": partial(_window, ask, ahead) for ahead in WINDOWS}
    return {"theirs, one after the other": partial(_sequential, ask), **windows}


async def _run(*command: str) -> tuple[int, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace")


async def environment(name: str, *packages: str) -> Path | None:
    """The interpreter of a peer's environment, which is made on first use; None where that does not work."""
    folder, wanted = _ROOT / ".nox" / f"peer-{name}", "\n".join((sys.version, *packages))
    python, stamp = folder / ("Scripts" if os.name == "nt" else "bin") / "python", folder / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    for command in (
        (sys.executable, "-m", "venv", "--clear", str(folder)),
        (str(python), "-m", "pip", "install", "--quiet", "--editable", f"{_ROOT}[arrow,duckdb]", "orjson", *packages),
    ):
        code, output = await _run(*command)
        if code:
            why = next((line.strip() for line in output.splitlines() if "ERROR: " in line), "it cannot be installed")
            print(f"peers: skipped {name}: {why}\n")
            return None
    stamp.write_text(wanted)
    return python


async def measure(server: Server, *, full: bool) -> AsyncIterator[Section]:
    """Each peer's walks at 0 ms, beside our window of 8, and at 5 ms, where all have one of 32 too."""
    for peer, packages in PEERS.items():
        if (python := await environment(peer, *packages)) is None:
            continue
        command = (str(python), "-m", __name__, peer, str(server.port), *(["full"] if full else []))
        process = await asyncio.create_subprocess_exec(*command, cwd=_ROOT, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None  # noqa: S101  # asked for
        async for line in process.stdout:
            yield msgspec.json.decode(line, type=Section)
        if await process.wait():
            print(f"peers: {peer} failed, see above\n")
