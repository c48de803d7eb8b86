"""A client of a server on a real socket that says what a test wants it to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from distinct_async import DistinctClient, RetryPolicy
from distinct_async.testing import World

from .wire.responses import encoded, whole
from .wire.server import Behaviour, FaultServer, Seen, say

OPENING = datetime(2026, 6, 1, tzinfo=UTC)
KEY = "distinct-key-7d1c55aa"
VANTIO_KEY = "sk_vantio-key-91b0ce42"
ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(attempts=3, base=0, cap=0)


def saying(response: object) -> Behaviour:
    """Bytes go out as they are, a behaviour is one already, and anything else is JSON under a 200."""
    if isinstance(response, bytes):
        return say(response)
    if callable(response):
        return response
    return say(whole(encoded(response)))


def client_of(server: FaultServer, **settings: Any) -> DistinctClient:
    """A client with a key for each vendor, both of which are this server."""
    urls = {"base_url": server.url, "vantio_base_url": server.url}
    return DistinctClient(KEY, vantio_api_key=VANTIO_KEY, **{"retry": ONCE, "timeout": 10, **urls, **settings})


@asynccontextmanager
async def served(*responses: object, **settings: Any) -> AsyncIterator[tuple[DistinctClient, FaultServer]]:
    """A client and its server, which gives these responses in turn, and the last of them ever after."""
    async with FaultServer() as server:
        if responses:
            *first, last = map(saying, responses)
            server.script(*first)
            server.steady = last
        async with client_of(server, **settings) as client:
            yield client, server


def query(seen: Seen) -> dict[str, str]:
    """The parameters of a request; a repeated one fails the test."""
    pairs = parse_qsl(urlsplit(seen.target).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def queue(count: int) -> World:
    """A world in which so many users scan ``tp-1``, one a second."""
    world = World()
    for number in range(count):
        world.add_scan("tp-1", f"user-{number}", OPENING + timedelta(seconds=number))
    return world


def tasks_left() -> list[object]:
    """The tasks that are neither the test's nor a server's."""
    left = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    servers = ("RequestHandler", "BaseSelectorEventLoop._accept")
    return [coro for coro in left if not getattr(coro, "__qualname__", "").startswith(servers)]


def connections_out(client: DistinctClient) -> int:
    """The connections of a client's own session on which a response is awaited or read."""
    state = client._engine.core._loop_state
    connector = state.session._http_session.connector if state is not None else None
    return len(connector._acquired) if connector is not None else 0
