"""The pytest fixtures: `distinct_world`, `distinct_server` and `distinct_env`, there as soon as the package is.

All three are plain functions, so that any asyncio plugin, in any mode, and tests without a loop can use them.
The wheel holds a copy of this file outside the package, and the entry point leads there: pytest loads it in every
project of the environment, and to import it from here would load the package, and aiohttp, into all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distinct_async.testing import FakeServer, World


@pytest.fixture
def distinct_world() -> World:
    """What the fake vendors know: 1,000 scans by 90 users at 3 touchpoints of `exp-1`. Define your own instead."""
    from distinct_async.testing import World  # noqa: PLC0415  # see above

    return World.sample(touchpoints=3, scans=1_000, users=90, seed=7)


@pytest.fixture
def distinct_server(distinct_world: World) -> Iterator[FakeServer]:
    """Both fake vendors on `distinct_world`, running in a thread of their own until the test ends."""
    from distinct_async.testing import FakeServer  # noqa: PLC0415  # see above

    with FakeServer.run_in_thread(distinct_world) as fake:
        yield fake


@pytest.fixture
def distinct_env(distinct_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """The `distinct_server`, with the four variables set, so that a `DistinctClient()` anywhere finds it."""
    monkeypatch.setenv("DISTINCT_API_KEY", distinct_server.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", distinct_server.url)
    monkeypatch.setenv("VANTIO_API_KEY", distinct_server.vantio_api_key)
    monkeypatch.setenv("VANTIO_BASE_URL", distinct_server.url)
    return distinct_server
