"""What every test has: clean surroundings, the fake vendors, a client of theirs, and an aioresponses that works."""

import inspect
import signal
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest
from hypothesis import settings

from distinct_async import DistinctClient
from distinct_async.testing import FakeServer, World

# aiohttp 3.14 made `stream_writer` a required argument, which aioresponses 0.7.9 does not pass:
# pnuckowski/aioresponses#289. To go when upstream releases.
if "stream_writer" in inspect.signature(aiohttp.ClientResponse).parameters:

    class Response(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{"stream_writer": Mock(output_size=0), **kwargs})

    aioresponses.core.ClientResponse = Response  # type: ignore[attr-defined]

# A slow machine is no failure; pytest-timeout finds what hangs.
settings.register_profile("ours", deadline=None)
settings.load_profile("ours")


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Ctrl-C reaches the commands under test even where a shell runs all this in the background: then it is ignored."""
    for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)  # a program that is started has none of ours


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys, servers or proxies of whoever runs it."""
    for vendor in ("DISTINCT", "VANTIO"):
        for name in ("API_KEY", "BASE_URL"):
            monkeypatch.delenv(f"{vendor}_{name}", raising=False)
    for proxied in ("HTTP", "HTTPS", "WS", "WSS", "ALL", "NO"):
        monkeypatch.delenv(f"{proxied}_PROXY", raising=False)
        monkeypatch.delenv(f"{proxied}_proxy".lower(), raising=False)


@pytest.fixture
def world() -> World:
    """A small world of scans: replace it in a module that needs another."""
    return World.sample(touchpoints=3, scans=300, users=40, seed=7)


@pytest.fixture
async def fake(world: World) -> AsyncIterator[FakeServer]:
    """Both vendors, on loopback."""
    async with FakeServer(world) as server:
        yield server


@pytest.fixture
def client_options() -> dict[str, Any]:
    """What `client` gets besides keys and URLs: replace it in a module or folder that needs something."""
    return {}


@pytest.fixture
async def client(fake: FakeServer, client_options: dict[str, Any]) -> AsyncIterator[DistinctClient]:
    """A client of the fake vendors."""
    async with DistinctClient(**fake.settings, **client_options) as client:
        yield client
