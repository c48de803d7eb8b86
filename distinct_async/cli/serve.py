"""``distinct-async serve``: the fake vendors as a process of their own, for programs in any language."""

import asyncio
import errno
import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import define, field
from cyclopts import CycloptsError

from distinct_async.cli.console import open_console, wrap
from distinct_async.cli.exits import run
from distinct_async.testing import FakeServer, Fault, World

if TYPE_CHECKING:
    from aiohttp import web

_LATENCY_TEXT: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)", re.ASCII)
_STATUS_TEXT: Final = re.compile(r"[2-5]\d\d", re.ASCII)
_SCANS_PER_USER: Final = 11
_MIN_ANNOUNCED_SCANS: Final = 500_000


@define(eq=False)
class _WaitingServer(FakeServer):
    """Listens before its world is made; requests wait for that."""

    ready: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def _serve(self, request: "web.BaseRequest") -> "web.StreamResponse":
        await self.ready.wait()
        return await super()._serve(request)


def serve(
    make_world: Callable[[], World], scans: int, port: int, faults: Sequence[Fault], latency: float, grow: float
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        make_world: Makes the world, in a thread, while the server listens already.
        scans: How many scans it makes; with many, stderr says so.
        port: The port; 0 takes a free one.
        faults: The faults to inject.
        latency: Seconds before each response.
        grow: New scans per second.

    Raises:
        CycloptsError: The port is in use.
    """
    with suppress(KeyboardInterrupt, SystemExit):
        run(_serve(_WaitingServer(World(), port=port, faults=[*faults], latency=latency), make_world, scans, grow))


async def _serve(server: _WaitingServer, make_world: Callable[[], World], scans: int, grow: float) -> None:
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(server)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CycloptsError(f"--port: {server.port} is in use; choose another, or --port 0") from None
            raise CycloptsError(f"--port {server.port}: {error.strerror or error}") from None
        settings = {"url": server.url, "api_key": server.api_key, "vantio_api_key": server.vantio_api_key}
        print(json.dumps(settings), flush=True)  # noqa: T201  # for programs: plain, and at once in a pipe too
        started_at, console = time.monotonic(), open_console()
        if scans >= _MIN_ANNOUNCED_SCANS:
            console.print(wrap(console, f"making {scans:,} scans; requests wait until they are ready"), soft_wrap=True)
        server.world = await _run_in_thread(make_world)
        if scans >= _MIN_ANNOUNCED_SCANS:
            console.print(f"{scans:,} scans are ready after {time.monotonic() - started_at:.0f} s", soft_wrap=True)
        server.ready.set()
        while grow:
            await asyncio.sleep(1 / grow)
            server.world.grow(1)
        await asyncio.Event().wait()  # until it is cancelled


async def _run_in_thread(make_world: Callable[[], World]) -> World:
    """Return the world. If this is cancelled, nothing waits for the thread, as `asyncio.to_thread` would."""
    future: Future[World] = Future()
    future.set_running_or_notify_cancel()  # else a cancelled one would refuse the result

    def set_future() -> None:
        try:
            future.set_result(make_world())
        except BaseException as error:  # noqa: BLE001  # raised where the world is awaited
            future.set_exception(error)

    threading.Thread(target=set_future, name="distinct-async-serve", daemon=True).start()
    return await asyncio.wrap_future(future)


def make_sample(touchpoints: int, scans: int, seed: int, experiences: int) -> World:
    """Return a sample world with a plausible number of users."""
    users = scans // _SCANS_PER_USER + 1
    return World.sample(touchpoints=touchpoints, scans=scans, users=users, seed=seed, experiences=experiences)


def read_world(path: Path) -> World:
    """Return the world that a file lists.

    Raises:
        CycloptsError: It does not list one; with the place in the file.
    """
    try:
        return World.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CycloptsError(f"--data {path}: {getattr(error, 'strerror', None) or error}") from None


def parse_fault(text: str, seed: int) -> Fault:
    """Return the fault of a text like ``503:0.1`` or ``reset``.

    Raises:
        CycloptsError: The text is invalid.
    """
    kind, colon, probability_text = text.partition(":")
    try:
        probability = float(probability_text) if colon else 1.0
        if 0 <= probability <= 1:
            if _STATUS_TEXT.fullmatch(kind):
                return Fault(status=int(kind), probability=probability, seed=seed)
            return Fault(wire=kind, probability=probability, seed=seed)  # type: ignore[arg-type]  # it checks itself
    except ValueError:
        pass
    raise CycloptsError(
        f"--fault {text}: not a status or one of close, reset, hang, garbage, cut, drip, with or without a probability "
        "from 0 to 1 after a colon"
    )


def parse_seconds(text: str) -> float:
    """Return the seconds of a text like ``50ms`` or ``1.5s``.

    Raises:
        CycloptsError: The text is invalid.
    """
    match = _LATENCY_TEXT.fullmatch(text)
    if match is None:
        raise CycloptsError(f"--latency {text}: expected a number followed by ms or s, for example 50ms")
    return float(match[1]) * (0.001 if match[2] == "ms" else 1)
