"""The client as a whole, on real sockets: views, lent and made sessions, hooks, proxies, bounds, pickles."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import gzip
import inspect
import pickle
import traceback
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from distinct_async import Checkpoint, DistinctClient, RetryPolicy, Timeouts
from distinct_async.errors import (
    ClientStateError,
    ConfigurationError,
    ConnectError,
    DistinctError,
    InvalidRequestError,
    NotFoundError,
    ProtocolError,
    RequestTimeoutError,
    ServerError,
)
from distinct_async.testing import FakeServer, World

from .rig import AT_ONCE, KEY, ONCE, VANTIO_KEY, client_of, served
from .wire import responses
from .wire.responses import encoded, head, whole
from .wire.server import Behaviour, Exchange, FaultServer, free_port, say, say_and_hang


async def failure(call: Any) -> DistinctError:
    with pytest.raises(DistinctError) as caught:
        await call
    return caught.value


def slowly(seconds: float) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await exchange.send(whole(responses.correct(exchange.seen.target)))

    return behave


# -- views


async def test_a_view_has_limits_of_its_own_and_leaves_the_others_alone() -> None:
    client = DistinctClient(KEY, timeout=Timeouts(1, 2), deadline=3, retry=RetryPolicy(5))
    before = client._engine.options
    view = client.with_options(timeout=7, deadline=None, retry=RetryPolicy(6))
    assert (Timeouts(5.0, 7), None, RetryPolicy(6)) == (
        view._engine.options.timeouts,
        view._engine.options.deadline,
        view._engine.options.retry,
    )
    assert before == client._engine.options == client.with_options()._engine.options
    assert (Timeouts(1, 2), 9, RetryPolicy(5)) == (
        (further := client.with_options(deadline=9)._engine.options).timeouts,
        further.deadline,
        further.retry,
    )
    assert None is view.with_options(timeout=8)._engine.options.deadline, (
        "a view of a view keeps what it does not change"
    )
    assert DistinctClient is type(view)


async def test_the_limits_and_urls_of_a_client_can_be_read_and_not_set() -> None:
    urls = {"distinct": "https://d.example", "vantio": "https://v.example"}
    policy = RetryPolicy(5)
    client = DistinctClient(
        KEY, base_url=f"{urls['distinct']}/", vantio_base_url=f"{urls['vantio']}/api/v1", deadline=3, retry=policy
    )
    assert (Timeouts(), 3, policy, urls) == (client.timeouts, client.deadline, client.retry, client.base_urls)
    view = client.with_options(timeout=7, deadline=None)
    assert (Timeouts(attempt=7), None, policy, urls) == (view.timeouts, view.deadline, view.retry, view.base_urls)
    for name in ("timeouts", "deadline", "retry", "base_urls"):
        with pytest.raises(AttributeError):
            setattr(client, name, None)
    client.base_urls.clear()  # type: ignore[attr-defined]
    assert urls == client.base_urls


def test_a_required_key_that_is_missing_is_refused_at_once() -> None:
    DistinctClient().require()
    DistinctClient(KEY).require("distinct")
    DistinctClient(KEY, vantio_api_key=KEY).require("distinct", "vantio")
    for client, variable in ((DistinctClient(), "DISTINCT_API_KEY"), (DistinctClient(KEY), "VANTIO_API_KEY")):
        with pytest.raises(ConfigurationError, match=variable) as caught:
            client.require("distinct", "vantio")
        assert variable == caught.value.variable
    for unknown in ("Distinct", "d", ""):
        with pytest.raises(ConfigurationError, match=f"'distinct' and 'vantio', got '{unknown}'"):
            DistinctClient(KEY).require("distinct", unknown)  # type: ignore[arg-type]


def test_a_limit_that_is_refused_is_named_as_it_was_given() -> None:
    for make in (DistinctClient, DistinctClient().with_options):
        with pytest.raises(ConfigurationError, match=r"^timeout must be > 0 seconds, got 0$") as caught:
            make(timeout=0)
        assert "timeout" == caught.value.setting
    with pytest.raises(ConfigurationError, match=r"^attempt must be > 0 seconds, got 0$"):
        Timeouts(attempt=0)
    for name in ("timeout", "retry"):
        options: dict[str, Any] = {name: None}
        with pytest.raises(ConfigurationError, match=name):
            DistinctClient().with_options(**options)
    assert "<not given>" in str(inspect.signature(DistinctClient.with_options))


class Plain(DistinctClient):
    pass


class Tenant(DistinctClient):
    """One whose constructor takes something else, and which keeps it."""

    def __init__(self, tenant: str) -> None:
        super().__init__(KEY, timeout=3)
        self.tenant = tenant

    def where(self) -> str:
        return self.tenant


class Demanding(Tenant):
    def __new__(cls, *_: object, needed: bool) -> Self:
        assert needed
        return super().__new__(cls)

    def __init__(self, tenant: str, *, needed: bool) -> None:
        super().__init__(f"{tenant} {needed}")


@pytest.mark.parametrize(
    "made", [lambda: Plain(KEY), lambda: Tenant("acme"), lambda: Demanding("acme", needed=True)], ids=["", "1", "2"]
)
def test_a_view_of_a_subclass_is_one_and_keeps_what_it_knows(made: Callable[[], DistinctClient]) -> None:
    client = made()
    view = client.with_options(timeout=7).with_options(deadline=8)
    assert type(client) is type(view)
    assert (7, 8) == (view._engine.options.timeouts.attempt, view._engine.options.deadline)
    assert view._engine.core is client._engine.core
    if isinstance(client, Tenant):
        assert isinstance(view, Tenant)
        assert (client.where(), 3) == (view.where(), client._engine.options.timeouts.attempt)
        view.tenant = "other"
        assert "other" != client.tenant


async def test_a_views_limits_are_what_its_calls_obey() -> None:
    async with served(say_and_hang()) as (client, server):
        for view, limit in (
            (client.with_options(timeout=0.4), "attempt"),
            (client.with_options(deadline=0.4), "deadline"),
        ):
            for call in (
                view.metrics.experience("exp-1"),
                view.impressions.get("a"),
                view.metrics.total_visits("tp-1").collect(),
            ):
                error = await failure(call)
                assert isinstance(error, RequestTimeoutError)
                assert limit == error.limit
        assert 6 == len(server.requests)
        view = client.with_options(timeout=0.4, retry=AT_ONCE)
        assert 3 == (await failure(view.metrics.experience("exp-1"))).attempts


async def test_a_view_shares_the_session_and_the_cache() -> None:
    async with served() as (client, server):
        view = client.with_options(timeout=5)
        await client.impressions.get("imp_123abc")
        await view.impressions.get("imp_123abc")
        assert 1 == len(server.requests)
        await view.metrics.experience("exp-1")
        assert 1 == server.connections
        assert view._engine.core is client._engine.core


async def test_a_view_shares_the_gate() -> None:
    async with served(slowly(0.03), max_concurrency=2) as (client, server):
        view = client.with_options(timeout=5)
        await asyncio.gather(*(one.metrics.experience("exp-1") for one in (client, view) * 3))
        assert (2, 6) == (server.peak_in_flight, len(server.requests))


async def test_a_view_shares_the_rate() -> None:
    async with served(rate_limit=50) as (client, _):
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(one.metrics.experience("exp-1") for one in (client, client.with_options(timeout=5)) * 3))
        assert 0.09 <= asyncio.get_running_loop().time() - began


async def test_a_view_shares_the_budget() -> None:
    async with served(whole(b"", 500), retry=AT_ONCE) as (client, _):
        view = client.with_options(timeout=5)
        for one in (client, view) * 12:
            await failure(one.metrics.experience("exp-1"))
        assert 14 > client._engine.core.budgets["distinct"].tokens
        assert 1 == (await failure(view.metrics.experience("exp-1"))).attempts
        assert 500 == client._engine.core.budgets["vantio"].tokens


async def test_a_view_is_closed_with_its_client_and_closes_it() -> None:
    for closed, used in ((0, 1), (1, 0)):
        async with served() as (client, _):
            both = [client, client.with_options(timeout=5)]
            await both[used].metrics.experience("exp-1")
            await both[closed].close()
            assert ClientStateError is type(await failure(both[used].metrics.experience("exp-1")))


# -- nothing before it is needed


def test_a_client_needs_no_loop_and_opens_nothing() -> None:
    client = DistinctClient(KEY, session=lambda: pytest.fail("a session was made"))
    client.with_options(timeout=1)
    client.metrics.total_visits("tp-1").resume(
        Checkpoint.from_json(
            '{"version":1,"endpoint":"metrics.total_visits","ids":{"touchpoint_id":"tp-1","experience_id":null},'
            '"position":0,"last":null}'
        )
    )
    asyncio.run(client.close())


async def test_a_walk_is_held_against_bad_input_before_anything_is_sent() -> None:
    async with served() as (client, server):
        for wrong in ({"page_size": 0}, {"offset": -1}, {"limit": -1}, {"prefetch": 0}, {"on_drift": "no"}):
            with pytest.raises(InvalidRequestError):
                client.metrics.total_visits("tp-1", **wrong)
    assert 0 == server.connections


# -- a session that is lent


@asynccontextmanager
async def lent(server: FaultServer, session: aiohttp.ClientSession, **settings: Any) -> AsyncIterator[DistinctClient]:
    """A client of this session, which must be open and unchanged afterwards."""
    before = {name: value for name, value in vars(session).items() if name != "_connector"}
    async with session:
        async with client_of(server, session=session, **settings) as client:
            yield client
        assert not session.closed
        assert before == {name: value for name, value in vars(session).items() if name != "_connector"}
        async with session.get(f"{server.url}/api/v1/impressions/of_the_owner"):
            pass


async def test_a_lent_session_closed_during_calls_ends_them_with_a_client_state_error() -> None:
    async with FaultServer() as server:
        server.steady = lambda exchange: exchange.hold()
        session = aiohttp.ClientSession()
        async with client_of(server, session=session, max_concurrency=1, retry=AT_ONCE) as client:
            asked, queued = (asyncio.create_task(client.metrics.experience("exp-1")) for _ in range(2))
            await server.sees(1)
            await session.close()
            ended = await asyncio.gather(asked, queued, return_exceptions=True)
    assert [ClientStateError] * 2 == [type(error) for error in ended], ended
    assert 1 == len(server.requests)


async def test_a_lent_session_is_never_closed_and_nothing_is_set_on_it() -> None:
    async with FaultServer() as server, lent(server, aiohttp.ClientSession()) as client:
        await client.metrics.experience("exp-1")
    assert ["/v3/touchpoint/metrics", "/api/v1/impressions/of_the_owner"] == [seen.path for seen in server.requests]
    assert 1 == server.connections, "its pool is used"


async def test_a_lent_session_that_raises_for_status_is_overridden() -> None:
    refusal = say(whole({"message": "Experience not found"}, 404))
    async with FaultServer() as server:
        server.script(refusal)
        async with lent(server, aiohttp.ClientSession(raise_for_status=True)) as client:
            error = await failure(client.metrics.experience("exp-1"))
        assert (NotFoundError, "Experience not found") == (type(error), error.message)


async def test_a_lent_sessions_own_hook_for_statuses_is_not_called() -> None:
    async def hook(response: aiohttp.ClientResponse) -> None:
        raise AssertionError(response.status)

    async with FaultServer() as server:
        server.script(say(whole(b"", 500)))
        async with lent(server, aiohttp.ClientSession(raise_for_status=False)) as client:
            client._engine.core.settings.session._raise_for_status = hook  # type: ignore[union-attr]
            assert ServerError is type(await failure(client.metrics.experience("exp-1")))
            client._engine.core.settings.session._raise_for_status = False  # type: ignore[union-attr]


@pytest.mark.parametrize("decompress", [True, False])
async def test_a_lent_session_may_decompress_or_not(decompress: bool) -> None:  # noqa: FBT001
    body = gzip.compress(encoded(responses.experience()))
    async with FaultServer() as server:
        server.script(say(whole(body, 200, ("Content-Encoding", "gzip"))))
        async with lent(server, aiohttp.ClientSession(auto_decompress=decompress)) as client:
            assert 2 == (await client.metrics.experience("exp-1")).total_touchpoints


@pytest.mark.parametrize(
    "theirs",
    [
        aiohttp.ClientTimeout(total=0.05),
        aiohttp.ClientTimeout(sock_read=0.05),
        aiohttp.ClientTimeout(0.05, 0.05, 0.05, 0.05),
    ],
    ids=["total", "read", "all"],
)
async def test_a_lent_sessions_timeouts_are_not_ours(theirs: aiohttp.ClientTimeout) -> None:
    async with FaultServer() as server:
        server.script(slowly(0.15))
        async with lent(server, aiohttp.ClientSession(timeout=theirs)) as client:
            assert 2 == (await client.metrics.experience("exp-1")).total_touchpoints


async def test_our_timeouts_hold_over_a_lent_session_without_any() -> None:
    async with FaultServer() as server:
        server.script(say_and_hang(), say_and_hang(head(200, ("Content-Length", "9"))))
        session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        async with lent(server, session, timeout=0.1) as client:
            for _ in range(2):
                assert RequestTimeoutError is type(await failure(client.metrics.experience("exp-1")))


async def test_a_lent_session_follows_no_redirect_for_us() -> None:
    async with FaultServer() as server, FaultServer() as elsewhere:
        server.script(say(whole(b"", 302, ("Location", f"{elsewhere.url}/away?a=b"))))
        async with lent(server, aiohttp.ClientSession()) as client:
            error = await failure(client.metrics.experience("exp-1"))
        assert ProtocolError is type(error)
        assert f"{elsewhere.url}/away" in str(error)
        assert 0 == elsewhere.connections


async def test_a_lent_session_may_carry_a_base_url_and_headers_and_its_keys_are_ours() -> None:
    headers = {"X-Mine": "1", "x-distinct-api-key": "other", "Authorization": "Bearer other", "Accept": "text/html"}
    session = aiohttp.ClientSession(base_url="https://elsewhere.invalid/", headers=headers)
    async with FaultServer() as server, lent(server, session, max_body=2**20) as client:
        await client.metrics.experience("exp-1")
        await client.impressions.get("imp_123abc")
        first, second = server.requests
    assert (KEY, "application/json", "1") == tuple(first.headers[n] for n in ("x-distinct-api-key", "accept", "x-mine"))
    assert (f"Bearer {VANTIO_KEY}", "application/json") == (second.headers["authorization"], second.headers["accept"])


@pytest.mark.filterwarnings("ignore:.*auth.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:BasicAuth:DeprecationWarning")
async def test_a_lent_session_that_logs_in_elsewhere_is_no_foreign_error() -> None:
    session = aiohttp.ClientSession(auth=aiohttp.BasicAuth("me", "secret"))
    async with FaultServer() as server, lent(server, session) as client:
        with contextlib.suppress(DistinctError):
            await client.impressions.get("imp_123abc")
        await client.metrics.experience("exp-1")


async def test_a_lent_session_that_its_owner_closed_is_named() -> None:
    async with FaultServer() as server:
        session = aiohttp.ClientSession()
        async with client_of(server, session=session) as client:
            await client.metrics.experience("exp-1")
            await session.close()
            error = await failure(client.metrics.experience("exp-1"))
    assert ClientStateError is type(error)
    assert "the aiohttp.ClientSession of this client was closed" in str(error)
    assert 1 == len(server.requests)


async def test_two_clients_may_borrow_one_session() -> None:
    async with FaultServer() as server, aiohttp.ClientSession() as session:
        async with client_of(server, session=session) as one, client_of(server, session=session) as other:
            await one.metrics.experience("exp-1")
            await one.close()
            await other.metrics.experience("exp-1")
        assert (1, 2) == (server.connections, len(server.requests))


# -- a factory


async def test_a_factory_is_called_once_within_the_loop_and_its_session_is_closed_by_us() -> None:
    made: list[aiohttp.ClientSession] = []

    def factory() -> aiohttp.ClientSession:
        asyncio.get_running_loop()
        made.append(aiohttp.ClientSession(raise_for_status=True, timeout=aiohttp.ClientTimeout(0.01)))
        return made[-1]

    async with FaultServer() as server:
        async with client_of(server, session=factory) as client:
            assert [] == made
            server.script(slowly(0.05))
            await asyncio.gather(*(client.metrics.experience("exp-1") for _ in range(3)))
            await client.impressions.get("imp_123abc")
            assert [False] == [session.closed for session in made]
        assert [True] == [session.closed for session in made]
        assert await server.settles()


def test_a_factory_is_called_again_for_another_loop() -> None:
    made: list[aiohttp.ClientSession] = []

    def factory() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession())
        return made[-1]

    client = DistinctClient(KEY, session=factory, base_url=f"http://127.0.0.1:{free_port()}", retry=ONCE)

    async def call() -> None:
        assert ConnectError is type(await failure(client.metrics.experience("exp-1")))

    asyncio.run(call())
    asyncio.run(call())
    asyncio.run(client.close())
    assert [True, True] == [session.closed for session in made]


@pytest.mark.parametrize("made", [None, "a session", 5])
async def test_a_factory_of_something_else_is_named(made: Any) -> None:
    async with DistinctClient(KEY, session=lambda: made) as client:
        error = await failure(client.metrics.experience("exp-1"))
    assert ConfigurationError is type(error)
    assert type(made).__name__ in str(error)


async def test_a_factory_that_fails_fails_as_it_is_and_the_next_call_tries_again() -> None:
    nothing: dict[str, aiohttp.ClientSession] = {}
    results: list[Callable[[], aiohttp.ClientSession]] = [lambda: nothing["no"], aiohttp.ClientSession]

    def factory() -> aiohttp.ClientSession:
        return results.pop(0)()

    async with FaultServer() as server, client_of(server, session=factory) as client:
        with pytest.raises(KeyError):
            await client.metrics.experience("exp-1")
        await client.metrics.experience("exp-1")


# -- trace hooks


async def test_trace_hooks_see_every_request() -> None:
    seen: list[str] = []
    config = aiohttp.TraceConfig()

    async def begins(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(f"{params.method} {params.url.path}")

    async def ends(_: object, __: object, params: aiohttp.TraceRequestEndParams) -> None:
        seen.append(str(params.response.status))

    config.on_request_start.append(begins)
    config.on_request_end.append(ends)
    async with served(whole(b"", 503), responses.experience(), retry=AT_ONCE, trace_configs=[config]) as (client, _):
        await client.metrics.experience("exp-1")
    path = "GET /v3/touchpoint/metrics"
    assert [path, "503", path, "200"] == seen


async def test_a_trace_hook_that_fails_is_the_users_and_shows_no_key() -> None:
    config = aiohttp.TraceConfig()

    async def begins(*_: object) -> None:
        raise LookupError("of the user's")

    config.on_request_start.append(begins)
    async with served(trace_configs=[config]) as (client, _):
        with pytest.raises(LookupError) as caught:
            await client.metrics.experience("exp-1")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(trace.format())


# -- proxies


def beyond(server: FaultServer) -> dict[str, Any]:
    """The settings of a client for which the server is on another machine, that only a proxy can reach."""
    url = server.url.replace("127.0.0.1", "vendors.internal")
    return {"base_url": url, "vantio_base_url": url, "allow_http": True, "trust_env": True}


class Proxy:
    """A little forwarding proxy on a socket, which wants the login that it is given, if any."""

    def __init__(self, login: str | None = None) -> None:
        self.login = login
        self.lines: list[str] = []

    @property
    def address(self) -> str:
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            asked = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, rest = asked.split("\r\n", 1)
            self.lines.append(line)
            expected = self.login and base64.b64encode(self.login.encode()).decode()
            if expected and f"Proxy-Authorization: Basic {expected}" not in rest:
                writer.write(whole(b"", 407, ("Connection", "close")))
            else:
                method, url, version = line.split(" ")
                host, _, path = url.removeprefix("http://").partition("/")
                there, onward = await asyncio.open_connection("127.0.0.1", int(host.partition(":")[2]))
                onward.write(f"{method} /{path} {version}\r\nConnection: close\r\n{rest}".encode())
                writer.write(await there.readuntil(b"\r\n\r\n"))
                length = 2**16
                writer.write(await there.read(length))
                onward.close()
            await writer.drain()
        writer.close()


async def test_a_proxy_of_the_environment_is_used_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultServer() as server, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        async with client_of(server, **beyond(server) | {"trust_env": False}) as client:
            assert ConnectError is type(await failure(client.metrics.experience("exp-1")))
        assert [] == proxy.lines
        async with client_of(server, **beyond(server)) as client:
            assert 2 == (await client.metrics.experience("exp-1")).total_touchpoints
            assert "imp_123abc" == (await client.impressions.get("imp_123abc")).id
    url = beyond(server)["base_url"]
    assert [f"GET {url}/v3/touchpoint/metrics", f"GET {url}/api/v1/impressions/imp_123abc"] == [
        line.split(" HTTP")[0].split("?")[0] for line in proxy.lines
    ]
    assert 2 == len(server.requests)


async def test_a_lent_session_keeps_its_own_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultServer() as server, Proxy() as proxy, aiohttp.ClientSession() as lent:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        async with client_of(server, **beyond(server), session=lent) as client:
            assert ConnectError is type(await failure(client.metrics.experience("exp-1")))
    assert [] == proxy.lines


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_loopback_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    async with FaultServer() as server, Proxy() as proxy:
        monkeypatch.setenv(variable, f"http://{proxy.address}")
        async with client_of(server, trust_env=True) as client:
            await client.metrics.experience("exp-1")
        assert ([], 1) == (proxy.lines, len(server.requests))
        async with client_of(server, **beyond(server)) as client:
            await client.metrics.experience("exp-1")
        assert 1 == len(proxy.lines)


async def test_a_proxys_login_goes_to_the_proxy_and_into_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultServer() as server, Proxy("me:pass-of-mine") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass-of-mine@{proxy.address}")
        async with client_of(server, **beyond(server)) as client:
            await client.impressions.get("imp_123abc")
            assert "pass-of-mine" not in f"{client!r}{client._engine!r}{client._engine.core.settings!r}"
    (seen,) = server.requests
    assert f"Bearer {VANTIO_KEY}" == seen.headers["authorization"]


async def test_a_proxy_that_is_not_there_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultServer() as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass-of-mine@127.0.0.1:{free_port()}")
        async with client_of(server, **beyond(server)) as client:
            error = await failure(client.metrics.experience("exp-1"))
    assert ConnectError is type(error)
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert "pass-of-mine" not in "".join(trace.format()) + repr(error)


async def test_a_proxy_without_a_scheme_is_http(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultServer() as server, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        async with client_of(server, **beyond(server)) as client:
            await client.metrics.experience("exp-1")
    assert 1 == len(proxy.lines)


async def test_a_lent_session_keeps_to_its_own_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultServer() as server, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
        async with aiohttp.ClientSession() as session, client_of(server, session=session, trust_env=True) as client:
            await client.metrics.experience("exp-1")
    assert [] == proxy.lines


# -- plain http


class Resolver(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = 2) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family or 2, proto=0, flags=0)]

    async def close(self) -> None:
        pass


async def test_plain_http_off_loopback_is_spoken_only_if_allowed() -> None:
    def factory() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver(), family=2))  # type: ignore[arg-type]

    async with FaultServer() as server:
        urls = dict.fromkeys(("base_url", "vantio_base_url"), f"http://vendors.internal:{server.port}")
        with pytest.raises(ConfigurationError, match=r"vendors\.internal"):
            client_of(server, session=factory, **urls)
        async with client_of(server, session=factory, allow_http=True, **urls) as client:
            await client.metrics.experience("exp-1")
            await client.impressions.get("imp_123abc")
    assert {f"vendors.internal:{server.port}"} == {seen.headers["host"] for seen in server.requests}


# -- the bound of a body


def packed(body: bytes, coding: str | None) -> bytes:
    match coding:
        case "gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
    return body


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("size", [2_000, 200_000])
async def test_a_body_may_be_as_large_as_max_body_and_no_larger(coding: str | None, size: int) -> None:
    body = encoded(responses.experience() | {"padding": ""})
    body = encoded(responses.experience() | {"padding": "x" * (size - len(body))})
    assert size == len(body)
    headers = () if coding is None else (("Content-Encoding", coding),)
    behaviour = say(whole(packed(body, coding), 200, *headers))
    for bound, fits in ((size, True), (size - 1, False)):
        async with served(behaviour, max_body=bound, retry=AT_ONCE) as (client, server):
            if fits:
                assert 2 == (await client.metrics.experience("exp-1")).total_touchpoints
            else:
                error = await failure(client.metrics.experience("exp-1"))
                assert ProtocolError is type(error)
                assert f"max_body={bound}" in str(error)
            assert 1 == len(server.requests), "it is not tried again"


async def test_a_refusals_body_is_bounded_too() -> None:
    async with served(whole(b"x" * 5_000, 404), max_body=1_000) as (client, _):
        assert ProtocolError is type(await failure(client.metrics.experience("exp-1")))


# -- pickles


async def test_what_holds_a_client_is_neither_pickled_nor_copied_and_says_what_to_do() -> None:
    async with served() as (client, _):
        walk = client.metrics.total_visits("tp-1")
        refusing = {
            "DistinctClient": client,
            "key": client.with_options(timeout=1),
            "checkpoint": walk,
            "run.checkpoint": walk.run(),
        }
        for used in (False, True):
            for hint, value in refusing.items():
                for take in (pickle.dumps, copy.copy, copy.deepcopy):
                    with pytest.raises(TypeError, match=hint):
                        take(value)
            if not used:
                await client.metrics.experience("exp-1")
        for endpoint in (client.metrics, client.impressions):
            with pytest.raises(TypeError):
                pickle.dumps(endpoint)


async def test_what_is_a_value_is_pickled() -> None:
    async with served() as (client, _):
        walk = client.metrics.total_visits("tp-1")
        page = await walk
        impression = await client.impressions.get("imp_123abc")
    async with served(say_and_hang(), timeout=0.05) as (client, _):
        error = await failure(client.metrics.user("user-1", experience_id="exp-1"))
    for value in (page, page.checkpoint, impression, page.items[0], Timeouts(1, 2), RetryPolicy(2)):
        assert value == pickle.loads(pickle.dumps(value))
    assert str(error) == str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("_", range(10))  # which generator is closed first is left to chance
def test_a_client_in_a_generator_that_is_left_open_is_closed_with_the_loop(world: World, _: int) -> None:
    problems: list[dict[str, Any]] = []

    async def names() -> AsyncGenerator[str | None, None]:
        async with DistinctClient(**fake.settings) as client:
            for touchpoint in (await client.metrics.experience("exp-1")).touchpoints:
                yield touchpoint.name

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        kept.append(names())
        await anext(kept[0])

    kept: list[AsyncGenerator[str | None, None]] = []
    with FakeServer.run_in_thread(world) as fake:
        asyncio.run(main())
    assert [] == problems
