"""The pytest fixtures `distinct_world`, `distinct_server` and `distinct_env`, available when the package is installed.

They are synchronous, so that they work with every asyncio plugin in every mode, and in tests without an event loop.

pytest loads the plugin in every project of the environment. The entry point refers to a copy of this file outside the
package, because importing it from here would import the package, and aiohttp, in all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distinct_async.testing import FakeServer, World


@pytest.fixture
def distinct_world() -> World:
    """The data of the fake vendors: 1,000 scans by 90 users at 3 touchpoints of `exp-1`. Override it with your own."""
    from distinct_async.testing import World  # noqa: PLC0415  # see the module's docstring

    return World.sample(touchpoints=3, scans=1_000, users=90, seed=7)


@pytest.fixture
def distinct_server(distinct_world: World) -> Iterator[FakeServer]:
    """A `FakeServer` that serves `distinct_world` from another thread until the test ends."""
    from distinct_async.testing import FakeServer  # noqa: PLC0415  # see the module's docstring

    with FakeServer.run_in_thread(distinct_world) as fake:
        yield fake


@pytest.fixture
def distinct_env(distinct_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """The `distinct_server`, with the environment variables of both vendors set for ``DistinctClient()``."""
    monkeypatch.setenv("DISTINCT_API_KEY", distinct_server.api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", distinct_server.url)
    monkeypatch.setenv("VANTIO_API_KEY", distinct_server.vantio_api_key)
    monkeypatch.setenv("VANTIO_BASE_URL", distinct_server.url)
    return distinct_server
