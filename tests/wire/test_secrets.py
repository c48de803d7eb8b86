"""No key in anything that is kept, printed or sent on; no visitor in any log record or text of an error."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from distinct_async import DistinctClient, Timeouts
from distinct_async.errors import APIError, DecodeError, DistinctError

from . import responses
from .checks import (
    ADDRESS,
    BOTH_VENDORS,
    EXPERIENCE,
    IMPRESSION,
    KEY,
    KEYS,
    PERSONAL,
    ROOMY,
    USER,
    USER_AGENT,
    USER_ID,
    VANTIO_KEY,
    Ask,
    Build,
    assert_holds_no_key,
    assert_recovers,
    failure,
    rendered,
    shown,
)
from .faults import BODY, CUT, JSON, LENGTH, LIMIT, PERSON, Fault, every_fault
from .responses import chunked, head, whole
from .server import Behaviour, Exchange, FaultServer, black_hole, free_port, say, say_and_close, say_and_hang

QUICK = Timeouts(connect=0.1, attempt=0.1)


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="distinct_async")


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """No record of any logger holds a key, and none of ours a visitor."""
    everything = [(record.name, repr(vars(record)) + record.getMessage()) for record in caplog.records]
    assert [] == [text for _, text in everything for key in KEYS if key in text]
    ours = [text for name, text in everything if name.startswith("distinct_async")]
    assert [] == [text for text in ours for word in PERSONAL if word in text]


# -- the walk over all faults


@every_fault
async def test_no_fault_puts_a_key_or_a_visitor_anywhere(
    server: FaultServer, build: Build, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    client = build(max_body=LIMIT, timeout=QUICK if fault.never_ends else ROOMY)
    server.steady = fault.play
    for error in await asyncio.gather(*(failure(ask.call(client)) for ask in (USER, IMPRESSION))):
        assert_holds_no_key(error)
        assert [] == [word for word in PERSONAL if word in str(error) + repr(error)]
    assert_quiet(caplog)


@BOTH_VENDORS
async def test_no_failed_connection_puts_a_key_anywhere(
    build: Build, caplog: pytest.LogCaptureFixture, ask: Ask
) -> None:
    with black_hole() as hole:
        for url in (f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{hole}"):
            error = await failure(ask.call(build(base_url=url, vantio_base_url=url, timeout=QUICK)))
            assert_holds_no_key(error)
            assert [] == [word for word in PERSONAL if word in str(error) + repr(error)]
    assert_quiet(caplog)


@pytest.mark.parametrize("fault", CUT, ids=lambda fault: fault.name)
async def test_a_broken_connection_leaves_no_complaint_of_asyncios(
    server: FaultServer, client: DistinctClient, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.ERROR)  # debug records would keep alive what has something to complain of
    server.steady = fault.play
    await failure(USER.call(client))
    await assert_recovers(client, server, USER)
    gc.collect()
    assert [] == [record.getMessage() for record in caplog.records]


async def answer_slowly_then_reset(exchange: Exchange) -> None:
    await exchange.send(head(200, ("Transfer-Encoding", "chunked")) + chunked(BODY[:9], end=b""))
    await asyncio.sleep(0.02)
    await exchange.send(chunked(BODY[9:]))
    await asyncio.sleep(0.05)
    exchange.reset()


async def test_a_connection_that_is_reset_while_idle_leaves_no_complaint_of_asyncios(
    server: FaultServer, client: DistinctClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    server.script(answer_slowly_then_reset)
    await USER.call(client)
    assert await server.settles()
    await assert_recovers(client, server, USER)
    gc.collect()
    assert [] == [record.getMessage() for record in caplog.records]


# -- a server that returns what it received


def echo(key: str) -> dict[str, Behaviour]:
    """Every place of an response that some text of this library could be taken from, with the key in it."""
    message = {"statusCode": 404, "message": f"No account for {key}."}
    escaped = "".join(rf"\u{ord(letter):04x}" for letter in key).encode()
    long = b"-" * (4096 - 100)
    halves = b"-" * (4096 - len(key) // 2) + key.encode() + b"-" * 99
    early = b"-" * (1024 - len(key) // 2) + key.encode() + b"-" * 99
    return {
        "message": say(whole(message, 404)),
        "message of an envelope": say(whole(message, 200)),
        "message of a retried refusal": say(whole({"message": key}, 503)),
        "escaped message": say(whole(b'{"message": "%b"}' % escaped, 400)),
        "error": say(whole({"error": key}, 401)),
        "problem+json": say(whole({"title": key, "detail": f"Bearer {key}"}, 403)),
        "text": say(whole(f"who is {key}?".encode(), 400)),
        "text at the end of what is kept": say(whole(halves, 400)),
        "long text": say(whole(long + key.encode(), 400)),
        "HTML": say(whole(f"<p>{key}".encode(), 502, content_type="text/html")),
        "header": say(whole(b"", 404, ("X-Debug", f"Bearer {key}"))),
        "header name": say(whole(b"", 404, (key, "1"))),
        "request id": say(whole(b"", 500, ("X-Request-Id", key))),
        "Retry-After": say(whole(b"", 429, ("Retry-After", key))),
        "Location": say(whole(b"", 302, ("Location", f"http://else.test/{key}/there?key={key}"))),
        "host of a Location": say(whole(b"", 302, ("Location", f"http://{key}.test/"))),
        "user of a Location": say(whole(b"", 302, ("Location", f"http://{key}:x@else.test/"))),
        "Content-Type": say(whole(b"", 200, content_type=f"text/html; {key}")),
        "odd Content-Type": say(whole(b"", 200, content_type=f"{key}/html")),
        "Content-Encoding": say(whole(BODY, 200, ("Content-Encoding", key))),
        "Set-Cookie": say(whole(b"", 404, ("Set-Cookie", f"key={key}; {key}=;;"))),
        "reason phrase": say(whole(b"", 404, reason=key)),
        "status line": say_and_close(f"{key}\r\n\r\n".encode()),
        "status line of HTTP": say_and_close(f"HTTP/1.1 {key}\r\n\r\n".encode()),
        "malformed header": say_and_close(head(200, JSON, LENGTH, ("X-Odd", f"{key}\0")) + BODY),
        "header without a colon": say_and_close(f"HTTP/1.1 200 OK\r\n{key}\r\n\r\n".encode()),
        "chunk size": say_and_close(head(200, ("Transfer-Encoding", "chunked")) + f"{key}\r\n".encode()),
        "length": say_and_close(head(200, ("Content-Length", key))),
        "half a head": say_and_close(f"HTTP/1.1 200 OK\r\nX-Key: {key}".encode()),
        "no JSON": say(whole(f"key={key}".encode())),
        "no JSON at the end of what is kept": say(whole(early)),
        "cut JSON": say(whole(f'{{"statusCode": "{key}'.encode())),
        "JSON of another shape": say(whole({"statusCode": 200, "data": {"touchpoints": key, key: key}, key: key})),
        "a status in the envelope": say(whole({"statusCode": key, "data": None})),
        "a body that ends too soon": say_and_close(head(200, ("Content-Length", "9999")) + key.encode()),
    }


@pytest.mark.parametrize(("ask", "key"), [(USER, KEY), (IMPRESSION, VANTIO_KEY)], ids=str)
@pytest.mark.parametrize("place", echo(""))
async def test_a_key_that_the_server_sends_back_is_blanked(
    server: FaultServer, client: DistinctClient, caplog: pytest.LogCaptureFixture, ask: Ask, key: str, place: str
) -> None:
    server.steady = echo(key)[place]
    error = await failure(ask.call(client))
    assert_holds_no_key(error)
    for kept in (getattr(error, "body", ""), getattr(error, "excerpt", "")):
        assert key[: len(key) // 2] not in kept
    assert_quiet(caplog)
    await assert_recovers(client, server, ask)


# -- a server that talks about visitors


def gossip() -> dict[str, Behaviour]:
    text = f"No scan by {USER_ID} from {ADDRESS} with {USER_AGENT}"
    user, impression = responses.user(), {**responses.IMPRESSION, "user_agent": USER_AGENT, "ip_address": ADDRESS}
    row = {"id": "tp-1", "totalVisits": 1, "timestampsUTC": [PERSON]}
    data = {"totalTouchpoints": 1, "touchpoints": [row]}
    return {
        "text": say(whole(text.encode(), 404)),
        "HTML": say(whole(f"<p>{text}".encode(), 502, content_type="text/html")),
        "message": say(whole({"statusCode": 404, "message": text}, 404)),
        "message of an envelope": say(whole({"statusCode": 404, "message": text}, 200)),
        "problem+json": say(whole({"title": text, "detail": text}, 500)),
        "Location": say(whole(b"", 302, ("Location", f"http://else.test/?userId={USER_ID}&ip={ADDRESS}"))),
        "a time": say(whole({**impression, "scanned_at": PERSON, "data": data})),
        "a count": say(whole({**impression, "id": 7, "data": {"totalTouchpoints": PERSON, "touchpoints": []}})),
        "cut JSON": say(whole(responses.encoded(text)[:-3])),
        "no JSON": say(whole(text.encode())),
        "an address": say(whole({**impression, "ip_address": [ADDRESS], "data": {"touchpoints": USER_ID}})),
        "too many bytes": say(whole(responses.encoded(user) + PERSON.encode())),
    }


@BOTH_VENDORS
@pytest.mark.parametrize("place", gossip())
async def test_a_visitor_is_in_no_text_of_an_error_and_no_record(
    server: FaultServer, client: DistinctClient, caplog: pytest.LogCaptureFixture, ask: Ask, place: str
) -> None:
    server.steady = gossip()[place]
    error = await failure(ask.call(client))
    private = PERSONAL if ask is USER else (ADDRESS, USER_AGENT)
    assert [] == [word for word in private if word in str(error) + repr(error)]
    assert_quiet_about(private, caplog)
    await assert_recovers(client, server, ask)


def assert_quiet_about(words: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    ours = [repr(vars(record)) for record in caplog.records if record.name.startswith("distinct_async")]
    assert [] == [text for text in ours for word in words if word in text]


# -- a call that ends otherwise


@BOTH_VENDORS
@pytest.mark.parametrize(
    "hang",
    [
        pytest.param(say_and_hang(), id="before the head"),
        pytest.param(say_and_hang(head(200, JSON)[:-2]), id="in the head"),
        pytest.param(say_and_hang(head(200, JSON, LENGTH) + BODY[:-1]), id="in the body"),
        pytest.param(say(whole(b"", 503, ("Retry-After", "30"))), id="in a pause"),
    ],
)
async def test_a_cancelled_call_shows_no_key(
    server: FaultServer, client: DistinctClient, caplog: pytest.LogCaptureFixture, ask: Ask, hang: Behaviour
) -> None:
    server.steady = hang
    call = asyncio.ensure_future(ask.call(client))
    await server.sees(1)
    await asyncio.sleep(0.03)
    assert [] == [key for key in KEYS if key in repr(call)]
    call.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await call
    assert_holds_no_key(caught.value)
    assert_quiet(caplog)
    await client.close()
    assert await server.settles()


async def test_a_call_cancelled_while_it_connects_shows_no_key(build: Build) -> None:
    with black_hole() as port:
        call = asyncio.ensure_future(USER.call(build(base_url=f"http://127.0.0.1:{port}")))
        await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        assert_holds_no_key(caught.value)


@BOTH_VENDORS
async def test_the_callers_own_timeout_shows_no_key(server: FaultServer, client: DistinctClient, ask: Ask) -> None:
    server.steady = say_and_hang()
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.1):
            await ask.call(client)
    assert_holds_no_key(caught.value)
    await assert_recovers(client, server, ask)


async def test_a_closed_client_shows_no_key(server: FaultServer, client: DistinctClient) -> None:
    server.steady = say_and_hang()
    call = asyncio.ensure_future(USER.call(client))
    await server.sees(1)
    await client.close()
    assert_holds_no_key(await failure(call))
    assert_holds_no_key(await failure(USER.call(client)))


async def test_a_callers_mistake_shows_no_key_and_no_visitor(client: DistinctClient) -> None:
    for call in (
        client.metrics.user(f"{USER_ID}\n", experience_id="exp-1"),
        client.metrics.user(USER_ID, experience_id=""),
        client.impressions.get(".."),
        client.metrics.experience("exp-1", page_size=0),
    ):
        error = await failure(call)
        assert_holds_no_key(error)
        assert USER_ID not in str(error) + repr(error)


# -- what lies about


async def test_no_repr_holds_a_key(server: FaultServer, client: DistinctClient) -> None:
    walk = client.metrics.total_visits("tp-1")
    view = client.with_options(timeout=1)
    texts = [repr(thing) for thing in (client, view, client.metrics, client.impressions, walk)]
    async with walk.run() as run:
        async for page in run.pages():
            assert run.checkpoint is not None
            texts += [repr(page), repr(run), repr(run.report), repr(run.checkpoint), run.checkpoint.to_json()]
    texts += [repr(await ask.call(client)) for ask in (USER, IMPRESSION, EXPERIENCE)]
    texts += [repr(thing) for thing in (client, view)]
    assert [] == [text for text in texts for key in KEYS if key in text]
    await assert_recovers(client, server, USER)


async def test_an_impression_shows_no_visitor(client: DistinctClient) -> None:
    impression = await client.impressions.get("imp_123abc")
    private = (responses.IMPRESSION["user_agent"], responses.IMPRESSION["ip_address"], "campus_center")
    assert [] == [word for word in private if word in repr(impression) + str(impression)]


async def test_a_key_travels_only_to_its_own_vendor_and_only_in_its_header(build: Build) -> None:
    async with FaultServer() as distinct, FaultServer() as vantio:
        client = build(base_url=distinct.url, vantio_base_url=vantio.url)
        for ask in (USER, EXPERIENCE, IMPRESSION):
            await ask.call(client)
        assert [{"x-distinct-api-key": KEY}] * 2 == [with_key(seen.headers) for seen in distinct.requests]
        assert [{"authorization": f"Bearer {VANTIO_KEY}"}] == [with_key(seen.headers) for seen in vantio.requests]
        targets = [seen.target for seen in (*distinct.requests, *vantio.requests)]
        assert [] == [target for target in targets for key in KEYS if key in target]
        await client.close()
        assert [True, True] == [await distinct.settles(), await vantio.settles()]


def with_key(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if any(key in value for key in KEYS)}


@pytest.mark.parametrize("url", ["http://api.distinct.test", "http://192.0.2.1", "http://localhost.else.test"])
async def test_a_key_does_not_travel_in_the_clear(url: str) -> None:
    with pytest.raises(DistinctError) as caught:
        async with DistinctClient(KEY, base_url=url) as client:
            await USER.call(client)
    assert_holds_no_key(caught.value)


# -- the checks themselves


def test_these_checks_find_a_key_where_there_is_one() -> None:
    def leak(key: str) -> None:
        raise APIError(str(len(key)))

    with pytest.raises(APIError) as caught:
        leak(KEY)
    assert KEY in rendered(caught.value)
    assert KEY in shown(APIError(f"no {KEY}"))
    assert KEY in shown(DecodeError("no", excerpt=KEY))
