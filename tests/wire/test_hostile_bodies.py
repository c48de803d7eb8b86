"""Bodies that are small on the wire and large to read, numbers and texts that no model holds, and echoes of the key."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from distinct_async import DistinctClient, errors, structure
from distinct_async.sansio import dialect
from distinct_async.sansio.messages import Decoder, Reading, Request, Response
from distinct_async.session import _decompress, _UnusableBody
from distinct_async.vendors import Vendor

from . import responses
from .checks import KEY
from .responses import distinct, whole
from .server import FaultServer, say, say_and_close

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .checks import Build

VISIT_HEAD = '{"statusCode":200,"data":{"touchpoints":{"id":"tp-1","name":null,"value":null,"totalVisits":9,'


def rows_of(row: str, count: int = 300_000) -> dict[str, str]:
    """Return a body of each shape with so many of these rows."""
    rows = ",".join([row] * count)
    return {
        "experience": f'{{"statusCode":200,"data":{{"totalTouchpoints":9,"touchpoints":[{rows}]}}}}',
        "user": f'{{"statusCode":200,"data":{{"totalTouchpoints":9,"touchpoints":[{rows}]}}}}',
        "touchpoint": f'{VISIT_HEAD}"totalVisitsDetails":{{"items":[{rows}]}}}}}}}}',
        "impressions": f'{{"impressions":[{rows}]}}',
        "impression": f'{{"id":"imp","metadata":{{"a":[{rows}]}}}}',
    }


DECODERS: dict[str, Decoder[object]] = {
    "experience": structure.EXPERIENCE,
    "user": structure.USER,
    "touchpoint": structure.TOUCHPOINT["TOTAL"],
    "impressions": structure.IMPRESSIONS,
    "impression": structure.IMPRESSION,
}


def read(name: str, body: bytes) -> object:
    reading = reading_of(name, body)
    if reading.error is not None:
        raise reading.error
    return reading.value


def reading_of(name: str, body: bytes) -> Reading[object]:
    vendor: Vendor = "vantio" if name.startswith("impression") else "distinct"
    request = Request(vendor, name, "/", decoder=DECODERS[name])
    return dialect.read(request, Response(200, {"Content-Type": "application/json"}, body))


@pytest.mark.parametrize("row", ["{}", "[]", "0", '""', "null", '{"userId":1}', '{"a":{"b":{"c":[[[]]]}}}', "1e5"])
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.timeout(120)  # tracing megabytes of values takes seconds, on a busy machine many
def test_what_a_wrong_body_costs_is_bounded_by_its_size(name: str, row: str) -> None:
    body = rows_of(row)[name].encode()
    tracemalloc.start()
    try:
        with pytest.raises(errors.DecodeError) as caught:
            read(name, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(body) + 40 * 2**20
    assert 1 <= len(caught.value.paths) <= 20
    assert max(map(len, caught.value.paths)) <= 200
    assert len(caught.value.excerpt) <= 2048
    assert len(str(caught.value)) < 1000


def test_a_thousand_wrong_rows_are_reported_as_more() -> None:
    with pytest.raises(errors.DecodeError, match=r"\(and more\)") as caught:
        read("touchpoint", rows_of('{"userId":"u","timestampUTC":1}', 1000)["touchpoint"].encode())
    assert [f"$.data.touchpoints.totalVisitsDetails.items[{row}].timestampUTC" for row in range(20)] == [
        *caught.value.paths
    ]


def test_a_few_wrong_rows_are_counted() -> None:
    with pytest.raises(errors.DecodeError, match=r"\(and 2 more\)") as caught:
        read("touchpoint", rows_of('{"userId":"u","timestampUTC":1}', 5)["touchpoint"].encode())
    assert 5 == len(caught.value.paths)


async def test_a_bomb_of_wrong_rows_ends_in_one_error(server: FaultServer, client: DistinctClient) -> None:
    body = gzip.compress(rows_of("{}")["experience"].encode())
    assert len(body) < 3000
    server.script(say(whole(body, 200, ("Content-Encoding", "gzip"))))
    with pytest.raises(errors.DecodeError, match=r"and more"):
        await client.metrics.experience("exp-1")


@pytest.mark.parametrize("number", [2**63, 2**64, -(2**63) - 1, 10**30, int("9" * 400)])
@pytest.mark.parametrize(
    ("place", "body"),
    [
        ("$.data.totalTouchpoints", {"totalTouchpoints": None, "touchpoints": []}),
        ("$.data.touchpoints.totalVisits", {"touchpoints": {"id": "tp-1", "totalVisits": None}}),
        (
            "$.data.touchpoints.totalVisitsDetails.pagination.offset",
            {
                "touchpoints": {
                    "id": "tp-1",
                    "totalVisits": 0,
                    "totalVisitsDetails": {"items": [], "pagination": {"offset": None, "pageSize": 1}},
                }
            },
        ),
    ],
)
def test_numbers_beyond_64_bits_are_refused_in_their_place(number: int, place: str, body: Any) -> None:
    text = json.dumps(distinct(body)).replace("null", str(number), 1).encode()
    with pytest.raises(errors.DecodeError) as caught:
        read("experience" if "Touchpoints" in place else "touchpoint", text)
    assert (place,) == caught.value.paths


def test_numbers_of_64_bits_are_read() -> None:
    body = json.dumps(distinct({"totalTouchpoints": 2**63 - 1, "touchpoints": []})).encode()
    assert 2**63 - 1 == read("experience", body).total_touchpoints  # type: ignore[attr-defined]


# --- half a surrogate pair --------------------------------------------------------------------------------------------

HALVES = ["\\ud83d", "cut \\ud83d", "\\ude00", "\\ud83d\\ud83d\\ude00", "\\uD83Dx"]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", ["impression", "impressions"])
def test_half_a_pair_in_free_text_of_an_impression_is_replaced(name: str, half: str) -> None:
    row = json.dumps({**responses.IMPRESSION, "user_agent": "?", "metadata": {"?": ["?", {"a": "?"}]}})
    body = row.replace("?", half)
    made: Any = read(name, (body if name == "impression" else f'{{"impressions":[{body}]}}').encode())
    impression = made if name == "impression" else made.impressions[0]
    expected = json.loads(f'"{half}"').encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert expected == impression.user_agent
    assert {expected: [expected, {"a": expected}]} == impression.metadata


@pytest.mark.parametrize("half", HALVES)
def test_half_a_pair_in_a_name_is_replaced_and_in_an_id_refused(half: str) -> None:
    row = '{"id":"%s","name":"%s","value":"v","totalVisits":1,"uniqueVisits":1}'
    body = '{"statusCode":200,"data":{"totalTouchpoints":2,"touchpoints":[%s,%s]}}'
    good = row % ("tp-1", half)
    made: Any = read("experience", (body % (good, good)).encode())
    assert "\N{REPLACEMENT CHARACTER}" in made.touchpoints[1].name
    with pytest.raises(errors.DecodeError, match="half a surrogate pair") as caught:
        read("experience", (body % (good, row % (half, "name"))).encode())
    assert ("$.data.touchpoints[1].id",) == caught.value.paths


@pytest.mark.parametrize("half", HALVES)
def test_half_a_pair_in_a_user_id_is_refused_with_its_row(half: str) -> None:
    rows = ",".join(json.dumps(responses.VISITS[0]).replace("user-1", each) for each in ("u", half))
    with pytest.raises(errors.DecodeError) as caught:
        read("touchpoint", f'{VISIT_HEAD}"totalVisitsDetails":{{"items":[{rows}]}}}}}}}}'.encode())
    assert ("$.data.touchpoints.totalVisitsDetails.items[1].userId",) == caught.value.paths


@pytest.mark.parametrize("vendor", ["distinct", "vantio"])
async def test_half_a_pair_in_an_error_message_is_replaced(
    server: FaultServer, client: DistinctClient, vendor: str
) -> None:
    server.script(say(whole(b'{"message":"no \\ud83d here","error":"Not Found"}', 404)))
    call = client.metrics.experience("exp-1") if vendor == "distinct" else client.impressions.get("imp_1")
    with pytest.raises(errors.NotFoundError, match="no \N{REPLACEMENT CHARACTER} here"):
        await call


# --- gzip -------------------------------------------------------------------------------------------------------------


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 2**16])
@pytest.mark.parametrize("rest", [b"", b"\0\0\0", b"junk"])
async def test_all_members_of_gzip_are_read(size: int, rest: bytes) -> None:
    packed = b"".join(map(gzip.compress, (b'{"a"', b"", b": 1}"))) + rest
    assert b'{"a": 1}' == b"".join([piece async for piece in _decompress(pieces(packed, size))])


@pytest.mark.parametrize("member", [gzip.compress(b"", mtime=0), gzip.compress(b"\0" * 100_000, mtime=0)])
async def test_many_members_are_bounded(server: FaultServer, build: Build, member: bytes) -> None:
    body = member * (300_000 // len(member) + 1)
    server.script(say_and_close(whole(body, 200, ("Content-Encoding", "gzip"))))
    with pytest.raises(errors.ProtocolError, match="max_body=250000"):
        await build(max_body=250_000).metrics.experience("exp-1")


async def test_a_damaged_second_member_is_noticed() -> None:
    packed = gzip.compress(b'{"a": 1}') + gzip.compress(b"more")[:-8] + b"\0" * 8
    with pytest.raises(_UnusableBody):
        [piece async for piece in _decompress(pieces(packed, 99))]


# --- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [206, 304])
async def test_a_partial_or_conditional_response_is_not_a_whole_one(
    server: FaultServer, client: DistinctClient, status: int
) -> None:
    server.script(say_and_close(whole(responses.experience() if status == 206 else b"", status)))
    with pytest.raises(errors.ProtocolError, match=rf"HTTP {status} (Partial|Not Modified)") as caught:
        await client.metrics.experience("exp-1")
    assert 1 == caught.value.attempts
    assert "redirect" not in str(caught.value)


# --- echoes -----------------------------------------------------------------------------------------------------------

AWKWARD = 'ab/c+d"e&f=g'


@pytest.mark.parametrize(
    "written",
    [
        AWKWARD,
        AWKWARD.replace("/", "\\/"),
        AWKWARD.replace("/", "\\u002f"),
        AWKWARD.replace("/", "\\u002F").replace("&", "\\u0026"),
        quote(AWKWARD, safe=""),
        quote(quote(AWKWARD, safe=""), safe=""),
        AWKWARD.replace("&", "&amp;").replace('"', "&quot;"),
        "".join(f"&#{ord(sign)};" for sign in AWKWARD),
        "".join(f"\\x{ord(sign):02x}" for sign in AWKWARD),
    ],
)
async def test_a_key_that_is_echoed_escaped_is_blanked(server: FaultServer, written: str) -> None:
    body = b'{"message": %b}' % json.dumps(f"bad key {written}").encode()
    for content in (body, f"<p>bad key {written}</p>".encode()):
        server.script(say_and_close(whole(content, 401, ("X-Request-Id", quote(AWKWARD, safe="")))))
        client = DistinctClient(f" {AWKWARD} ", base_url=server.url)
        async with client:
            with pytest.raises(errors.AuthenticationError) as caught:
                await client.metrics.experience("exp-1")
        error = caught.value
        for text in (str(error), error.message, error.body, str(error.request_id), repr(dict(error.headers))):
            assert written not in text
            assert AWKWARD not in text
            assert quote(AWKWARD, safe="") not in text


async def test_a_key_is_sent_without_the_spaces_around_it(server: FaultServer) -> None:
    async with DistinctClient(f"  {KEY} ", base_url=server.url) as client:
        await client.metrics.experience("exp-1")
    assert KEY == server.requests[-1].headers["x-distinct-api-key"]


# --- nesting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [2_000, 100_000])
@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"[":', "}]"), ("[", ""), ('{"a":', "")]
)
@pytest.mark.parametrize("name", DECODERS)
def test_deep_nesting_is_refused_and_not_taken_for_a_cut_body(
    name: str, opening: str, closing: str, depth: int
) -> None:
    nest = opening * depth + ("1" + closing * depth if closing else "")
    body = rows_of(nest, 1)[name] if closing else rows_of(nest, 1)[name].partition(nest)[0] + nest
    reading = reading_of(name, body.encode())
    assert not reading.again
    with pytest.raises(errors.DecodeError):
        raise reading.error or AssertionError(reading.value)


# --- a handshake cut short --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
async def test_a_handshake_that_is_cut_short_is_called_one_and_retried(build: Build, reset: bool) -> None:  # noqa: FBT001
    connections = 0

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read(99)  # of the ClientHello
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        client = build(base_url=f"https://127.0.0.1:{port}")
        with pytest.raises(errors.TLSError, match="closed the connection during the TLS handshake"):
            await client.metrics.experience("exp-1")
    assert 3 == connections
