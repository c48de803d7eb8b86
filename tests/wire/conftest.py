"""A fault server, and clients of it that are closed whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from distinct_async import DistinctClient

from .checks import AT_ONCE, KEY, ROOMY, VANTIO_KEY
from .server import FaultServer

if TYPE_CHECKING:
    from .checks import Build


@pytest.fixture
async def server() -> AsyncIterator[FaultServer]:
    async with FaultServer() as server:
        yield server


@pytest.fixture
async def build(server: FaultServer) -> AsyncIterator[Build]:
    """Make a client of the server that tries three times without waiting, by default."""
    built: list[DistinctClient] = []

    def build(**changes: Any) -> DistinctClient:
        settings: dict[str, Any] = {
            "vantio_api_key": VANTIO_KEY,
            "base_url": server.url,
            "vantio_base_url": server.url,
            "timeout": ROOMY,
            "retry": AT_ONCE,
        }
        built.append(DistinctClient(KEY, **(settings | changes)))
        return built[-1]

    yield build
    for client in built:
        await client.close()


@pytest.fixture
def client(build: Build) -> DistinctClient:
    return build()


@pytest.fixture
async def _no_debug() -> None:
    """Spare a test under load, or hundreds of a table, asyncio's debug mode: it costs more than all the rest."""
    asyncio.get_running_loop().set_debug(enabled=False)
