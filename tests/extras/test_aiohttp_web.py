"""One client for the life of an aiohttp.web app."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from distinct_async import DistinctClient
from distinct_async.aiohttp_web import CLIENT, cleanup_ctx
from distinct_async.errors import ClientStateError, ConfigurationError
from distinct_async.testing import FakeServer


async def show(request: web.Request) -> web.Response:
    metrics = await request.config_dict[CLIENT].metrics.experience("exp-1")
    return web.json_response(metrics.total_touchpoints)


def make_app(fake: FakeServer, require: Sequence[str] = ()) -> web.Application:
    app, inner = web.Application(), web.Application()
    app.cleanup_ctx.append(cleanup_ctx(lambda: DistinctClient(fake.api_key, base_url=fake.url), require))  # type: ignore[arg-type]
    for each in (app, inner):
        each.router.add_get("/show", show)
    app.add_subapp("/inner", inner)
    return app


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_one_client_serves_the_app_and_its_sub_apps(fake: FakeServer) -> None:
    async with serving(make_app(fake)) as url, aiohttp.ClientSession() as http:
        for path in ("/show", "/inner/show", "/show"):
            async with http.get(url + path) as response:
                assert 3 == await response.json()

    assert (3, 1) == (len(fake.requests), fake.connections)


async def test_the_client_is_closed_with_the_app(fake: FakeServer) -> None:
    app = make_app(fake)
    async with serving(app):
        client = app[CLIENT]

    with pytest.raises(ClientStateError):
        await client.metrics.experience("exp-1")


async def test_the_client_comes_from_the_environment_where_no_factory_is_given(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    app = web.Application()
    app.cleanup_ctx.append(cleanup_ctx())

    async with serving(app):
        assert fake.url in repr(app[CLIENT])


async def test_an_app_that_lacks_a_required_key_does_not_start(fake: FakeServer) -> None:
    with pytest.raises(ConfigurationError, match="VANTIO_API_KEY"):
        async with serving(make_app(fake, require=("distinct", "vantio"))):
            pytest.fail("it started")
