"""``distinct-async serve``: the fake vendors as a process of their own, for programs in any language."""

import asyncio
import json
import re
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

from cyclopts import CycloptsError

from distinct_async.testing import FakeServer, Fault, World

_LATENCY: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)", re.ASCII)
_STATUS: Final = re.compile(r"[2-5]\d\d", re.ASCII)
_SCANS_PER_USER: Final = 11


def serve(world: World, port: int, faults: Sequence[Fault], latency: float, grow: float) -> None:
    """Return when SIGTERM or Ctrl-C came; CycloptsError if the port cannot be had."""
    asyncio.run(_serve(FakeServer(world, port=port, faults=[*faults], latency=latency), grow))


async def _serve(fake: FakeServer, grow: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # so it is on Windows, where Ctrl-C cancels
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(fake)
        except OSError as error:
            raise CycloptsError(f"--port {fake.port}: {error}") from None
        told = {"url": fake.url, "api_key": fake.api_key, "vantio_api_key": fake.vantio_api_key}
        print(json.dumps(told), flush=True)  # noqa: T201  # for programs: plain, and at once in a pipe too
        while not stop.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(1 / grow if grow else None):
                    await stop.wait()
            if not stop.is_set():
                fake.world.grow(1)


def sample(touchpoints: int, scans: int, seed: int) -> World:
    """A sample world with a plausible number of users."""
    return World.sample(touchpoints=touchpoints, scans=scans, users=scans // _SCANS_PER_USER + 1, seed=seed)


def read(path: Path) -> World:
    """The world that a file lists; CycloptsError, with the place in the file, if it does not."""
    try:
        return World.from_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CycloptsError(f"--data {path}: {error}") from None


def rule(text: str, seed: int) -> Fault:
    """The fault of a text like ``503:0.1`` or ``reset``; CycloptsError if it is none."""
    what, colon, chance = text.partition(":")
    try:
        probability = float(chance) if colon else 1.0
        if 0 <= probability <= 1:
            if _STATUS.fullmatch(what):
                return Fault(status=int(what), probability=probability, seed=seed)
            return Fault(wire=what, probability=probability, seed=seed)  # type: ignore[arg-type]  # it looks itself
    except ValueError:
        pass
    raise CycloptsError(
        f"--fault {text}: not a status or one of close, reset, hang, garbage, cut, drip, with or without a probability "
        "from 0 to 1 behind a colon"
    )


def seconds(text: str) -> float:
    """The seconds of a text like ``50ms`` or ``1.5s``; CycloptsError if it is none."""
    found = _LATENCY.fullmatch(text)
    if found is None:
        raise CycloptsError(f"--latency {text}: a number with ms or s behind it, as in 50ms")
    return float(found[1]) * (0.001 if found[2] == "ms" else 1)
