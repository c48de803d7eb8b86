"""Faults before an response begins: each row of the table "Getting there"."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from distinct_async import RetryPolicy, Timeouts
from distinct_async.errors import ConnectError, RequestTimeoutError, TLSError, TransportError

from . import responses
from .checks import BOTH_VENDORS, USER, Ask, Build, assert_correct, assert_recovers, failure
from .server import (
    Behaviour,
    Exchange,
    FaultServer,
    black_hole,
    free_port,
    say_and_close,
    say_and_reset,
    serve_correctly,
)

if TYPE_CHECKING:
    from pathlib import Path

    from distinct_async import DistinctClient

HALF_A_HEAD = responses.head(200, ("X-Half", "a header that must not be repeated"))[:-4]


# -- no connection


@BOTH_VENDORS
async def test_a_refused_connection_is_tried_again_and_ends_in_a_connect_error(build: Build, ask: Ask) -> None:
    port = free_port()
    client = build(base_url=f"http://127.0.0.1:{port}", vantio_base_url=f"http://127.0.0.1:{port}")
    error = await failure(ask.call(client))
    assert ConnectError is type(error)
    assert f"cannot connect to 127.0.0.1 port {port} (Connection refused)" == error.message
    assert_correct(error, ask, attempts=3)
    async with FaultServer(port=port) as server:
        await assert_recovers(client, server, ask)


@dataclass
class Names:
    """A name service in our hands: what each name resolves to, and how often it was asked."""

    addresses: dict[str, list[tuple[str, int]]]
    asked: int = 0


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Resolve only what a test has named; everything else does not exist."""
    book = Names({})
    original = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if host.endswith(".test"):
            book.asked += 1
            if host not in book.addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            found = [original(*address, type=socket.SOCK_STREAM) for address in book.addresses[host]]
            return [entry for entries in found for entry in entries]
        return original(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return book


async def test_a_name_that_does_not_resolve_is_tried_again_and_ends_in_a_connect_error(
    server: FaultServer, build: Build, names: Names
) -> None:
    client = build(base_url=f"http://nowhere.test:{server.port}", allow_http=True)
    error = await failure(USER.call(client))
    assert ConnectError is type(error)
    assert "the host name nowhere.test does not resolve (Name or service not known)" == error.message
    assert 3 == names.asked
    assert_correct(error, USER, attempts=3)
    names.addresses["nowhere.test"] = [(server.host, server.port)]
    await assert_recovers(client, server, USER)


@BOTH_VENDORS
async def test_a_black_hole_ends_in_a_timeout_that_names_connect(build: Build, ask: Ask) -> None:
    with black_hole() as port:
        url = f"http://127.0.0.1:{port}"
        client = build(base_url=url, vantio_base_url=url, timeout=Timeouts(connect=0.1, attempt=5))
        error = await failure(ask.call(client))
        assert RequestTimeoutError is type(error)
        assert "connect" == error.limit
        assert_correct(error, ask, attempts=3)
        assert 0.3 <= error.elapsed < 2
    async with FaultServer(port=port) as server:
        await assert_recovers(client, server, ask)


@pytest.mark.parametrize("hole", ["::1", "127.0.0.2"])
async def test_a_black_hole_beside_a_good_address_does_no_harm(
    server: FaultServer, build: Build, names: Names, hole: str
) -> None:
    with black_hole(hole, server.port):
        names.addresses["two.test"] = [(hole, server.port), (server.host, server.port)]
        client = build(base_url=f"http://two.test:{server.port}", allow_http=True)
        assert 2 == (await client.metrics.user("user-1", experience_id="exp-1")).total_touchpoints
        assert 1 == len(server.requests)
        await assert_recovers(client, server, USER)


# -- TLS


class Papers:
    """A certificate authority and server contexts made from it."""

    def __init__(self) -> None:
        self.authority = trustme.CA()

    def of(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context

    def trusted(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def papers() -> Papers:
    return Papers()


def over_tls(build: Build, server: FaultServer, trust: ssl.SSLContext | aiohttp.Fingerprint) -> DistinctClient:
    url = f"https://localhost:{server.port}"

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust, family=socket.AF_INET))

    return build(base_url=url, vantio_base_url=url, session=session)


@BOTH_VENDORS
@pytest.mark.parametrize("wrong", ["self-signed", "wrong host"])
async def test_a_certificate_that_is_not_trusted_is_not_tried_again(
    build: Build, papers: Papers, ask: Ask, wrong: str
) -> None:
    bad = Papers().of("localhost") if wrong == "self-signed" else papers.of("other.test")
    async with FaultServer(tls=[bad, papers.of("localhost")]) as server:
        client = over_tls(build, server, papers.trusted())
        error = await failure(ask.call(client))
        assert TLSError is type(error)
        assert (1, 0) == (server.connections, len(server.requests))
        assert_correct(error, ask, attempts=1)
        await assert_recovers(client, server, ask)


async def test_a_self_signed_certificate_is_refused_with_no_session_of_the_users(build: Build) -> None:
    async with FaultServer(tls=[Papers().of("localhost")]) as server:
        client = build(base_url=f"https://localhost:{server.port}")
        error = await failure(USER.call(client))
        assert TLSError is type(error)
        assert (1, 0) == (server.connections, len(server.requests))
        assert_correct(error, USER, attempts=1)


async def test_another_certificate_than_the_pinned_one_is_not_tried_again(build: Build) -> None:
    pinned, other = trustme.CA().issue_cert("localhost"), trustme.CA().issue_cert("localhost")
    contexts = []
    for certificate in (other, pinned):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        contexts.append(context)
    der = ssl.PEM_cert_to_DER_cert(pinned.cert_chain_pems[0].bytes().decode())
    async with FaultServer(tls=contexts) as server:
        client = over_tls(build, server, aiohttp.Fingerprint(hashlib.sha256(der).digest()))
        error = await failure(USER.call(client))
        assert TLSError is type(error)
        assert (1, 0) == (server.connections, len(server.requests))
        assert_correct(error, USER, attempts=1)
        await assert_recovers(client, server, USER)


async def test_a_client_certificate_and_a_custom_ca_are_two_lines_in_a_session(
    build: Build, papers: Papers, tmp_path: Path
) -> None:
    mutual = papers.of("localhost")
    mutual.verify_mode = ssl.CERT_REQUIRED
    papers.authority.configure_trust(mutual)
    ca, certificate = tmp_path / "ca.pem", tmp_path / "client.pem"
    papers.authority.cert_pem.write_to_path(ca)
    papers.authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(certificate)

    tls = ssl.create_default_context(cafile=ca)
    without = ssl.create_default_context(cafile=ca)
    tls.load_cert_chain(certificate)
    async with FaultServer(tls=[mutual, mutual]) as server:
        error = await failure(USER.call(over_tls(build, server, without)))
        assert isinstance(error, TransportError)
        assert "does it need a client certificate?" in str(error)
        assert 0 == len(server.requests)
        client = over_tls(build, server, tls)
        assert 2 == (await client.metrics.user("user-1", experience_id="exp-1")).total_touchpoints


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_refuses_a_client_without_certificate_is_not_tried_again(
    build: Build, papers: Papers, version: ssl.TLSVersion
) -> None:
    mutual = papers.of("localhost")
    mutual.verify_mode, mutual.maximum_version = ssl.CERT_REQUIRED, version
    papers.authority.configure_trust(mutual)
    over = threading.Event()

    def refuse() -> None:
        """Send the alert, as most servers do, not asyncio's; and read all, or a reset could overtake it."""
        while not over.is_set():  # aiohttp may resend once
            try:
                raw, _ = listener.accept()
            except TimeoutError:
                continue
            connection = mutual.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
            with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
                connection.do_handshake()
            with socket.socket(fileno=connection.detach()) as plain:
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(65_536):
                    pass

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=papers.trusted(), family=socket.AF_INET))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        url = f"https://localhost:{listener.getsockname()[1]}"
        refused = asyncio.ensure_future(asyncio.to_thread(refuse))
        error = await failure(USER.call(build(base_url=url, vantio_base_url=url, session=session)))
        over.set()
        await refused
    assert TLSError is type(error)
    assert error.message.startswith("the server refused the TLS connection ([SSL: ")
    assert error.message.endswith("; does it need a client certificate?")
    assert_correct(error, USER, attempts=1)


async def test_tls_spoken_to_a_plain_port_is_a_tls_error_with_a_hint(build: Build, papers: Papers) -> None:
    async with FaultServer(tls=[None, papers.of("localhost")]) as server:
        client = over_tls(build, server, papers.trusted())
        error = await failure(USER.call(client))
        assert TLSError is type(error)
        assert "https?" in str(error)
        assert (1, 0) == (server.connections, len(server.requests))
        assert_correct(error, USER, attempts=1)
        await assert_recovers(client, server, USER)


async def test_plain_http_spoken_to_a_tls_port_is_tried_again_and_gives_a_hint(build: Build, papers: Papers) -> None:
    async with FaultServer(tls=[papers.of("localhost")]) as server:
        client = build(base_url=server.url)
        error = await failure(USER.call(client))
        assert TransportError is type(error)
        assert "scheme" in str(error)
        assert server.connections in {3, 6}
        assert_correct(error, USER, attempts=3)
        server.tls.clear()
        await assert_recovers(client, server, USER)


# -- a connection that ends before the response


@BOTH_VENDORS
@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(say_and_close(), id="close before the head"),
        pytest.param(say_and_reset(), id="reset before the head"),
        pytest.param(say_and_reset(HALF_A_HEAD), id="reset in the head"),
        pytest.param(say_and_close(HALF_A_HEAD), id="close in the head"),
        pytest.param(say_and_close(b"HTTP/1."), id="close in the status line"),
    ],
)
async def test_a_connection_that_ends_before_the_body_is_tried_again(
    server: FaultServer, client: DistinctClient, ask: Ask, ending: Behaviour
) -> None:
    server.steady = ending
    error = await failure(ask.call(client))
    assert isinstance(error, TransportError)
    assert not isinstance(error, ConnectError | RequestTimeoutError)
    assert len(server.requests) in {3, 6}  # aiohttp resends each once
    assert "must not be repeated" not in str(error)
    assert_correct(error, ask, attempts=3)
    await assert_recovers(client, server, ask)


@BOTH_VENDORS
async def test_a_connection_that_ended_before_the_head_once_is_forgotten(
    server: FaultServer, client: DistinctClient, ask: Ask
) -> None:
    server.script(say_and_reset(), say_and_close(), say_and_reset(HALF_A_HEAD))
    assert None is not await ask.call(client)
    assert 4 == len(server.requests)
    await assert_recovers(client, server, USER)


async def answer_then_leave(exchange: Exchange) -> None:
    await serve_correctly(exchange)
    exchange.close()


@pytest.mark.parametrize(
    ("script", "requests"),
    [
        pytest.param([answer_then_leave], 2, id="closed while idle"),
        pytest.param([serve_correctly, say_and_close()], 3, id="closed at the next request"),
        pytest.param([serve_correctly, say_and_reset()], 3, id="reset at the next request"),
    ],
)
async def test_a_kept_alive_connection_that_the_server_dropped_is_nobodys_error(
    server: FaultServer, build: Build, script: list[Behaviour], requests: int
) -> None:
    client = build(retry=RetryPolicy(attempts=1))
    server.script(*script)
    await USER.call(client)
    await USER.call(client)
    assert (2, requests) == (server.connections, len(server.requests))
    await assert_recovers(client, server, USER)


# -- proxies


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_in_the_environment_is_ignored(
    server: FaultServer, client: DistinctClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with FaultServer() as proxy:
        monkeypatch.setenv(name, proxy.url)
        await USER.call(client)
        assert (0, 1) == (proxy.connections, len(server.requests))
        await assert_recovers(client, server, USER)


async def test_a_proxy_in_the_environment_is_used_when_asked_for(
    server: FaultServer, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FaultServer() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client = build(trust_env=True, base_url="http://vendors.internal:8080", allow_http=True)
        await USER.call(client)
        assert (1, 0) == (len(proxy.requests), server.connections)
        assert proxy.requests[0].target.startswith("http://vendors.internal:8080/v3/touchpoint/metrics?")
        await client.close()
        assert await proxy.settles()
