"""The table "The response is broken", as data: what the server does, and what the caller must see."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass

import pytest

from distinct_async.errors import DecodeError, DistinctError, ProtocolError, RequestTimeoutError, ServerError
from distinct_async.errors import TransportError as Broken

from . import responses
from .checks import ADDRESS, USER_AGENT, USER_ID
from .responses import chunked, head, whole
from .server import Behaviour, drip, pour, say, say_and_close, say_and_hang, say_and_reset, say_in_two

LIMIT = 2**20  # the `max_body` of these tests' clients

BODY = responses.encoded(responses.user())
LENGTH = ("Content-Length", str(len(BODY)))
JSON = ("Content-Type", "application/json")
CHUNKED = ("Transfer-Encoding", "chunked")
GZIP = ("Content-Encoding", "gzip")
ZIPPED = gzip.compress(BODY)
PERSON = f"{USER_ID} {ADDRESS} {USER_AGENT}"
PAGE = f"<!doctype html><title>Log in</title><p>{PERSON}</p>".encode()
BOMB = gzip.compress(b" " * (40 * LIMIT), 1)
LONG_TEXT = gzip.compress(b'{"data": "' + b"a" * (40 * LIMIT) + b'"}', 1)


@dataclass(frozen=True)
class Fault:
    """What the server does to every request of one call, and how that call must end."""

    name: str
    play: Behaviour
    error: type[DistinctError]
    again: bool  # R: tried as often as the policy allows; else X: tried once
    says: tuple[str, ...] = ()  # what the error must tell
    resent: bool = False  # aiohttp itself sends each request a second time
    never_ends: bool = False  # only a time limit ends it

    @property
    def attempts(self) -> int:
        return 3 if self.again else 1

    @property
    def requests(self) -> set[int]:
        return {self.attempts, 2 * self.attempts} if self.resent else {self.attempts}


def retried(name: str, play: Behaviour, error: type[DistinctError], *says: str) -> Fault:
    return Fault(name, play, error, again=True, says=says)


def final(name: str, play: Behaviour, error: type[DistinctError], *says: str) -> Fault:
    return Fault(name, play, error, again=False, says=says)


def endless(name: str, play: Behaviour) -> Fault:
    return Fault(name, play, RequestTimeoutError, again=True, never_ends=True)


def malformed(name: str, data: bytes) -> Fault:
    return retried(name, say_and_close(data), ProtocolError)


SLOW = drip(head(200, JSON, LENGTH), BODY)


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def with_count(count: bytes) -> bytes:
    """The user's response and the impression's, both with this where a number or text is due."""
    return b'{"statusCode":200,"data":{"totalTouchpoints":%b,"touchpoints":[]},"id":%b}' % (count, count)


def redirect(name: str, status: int, *location: str, says: tuple[str, ...] = ("base_url",)) -> Fault:
    headers = [("Location", where) for where in location]
    return final(f"redirect: {name}", say(whole(b"", status, *headers)), ProtocolError, *says)


GOOD_CHUNK = head(200, JSON, CHUNKED) + chunked(BODY[:40], end=b"")

CUT = [
    retried("reset in a body with a length", say_and_reset(head(200, JSON, LENGTH) + BODY[:40]), Broken),
    retried("close in a body with a length", say_and_close(head(200, JSON, LENGTH) + BODY[:40]), Broken),
    retried("reset in a chunk", say_and_reset(head(200, JSON, CHUNKED) + b"ffff\r\n" + BODY), Broken),
    retried("close in a chunk", say_and_close(head(200, JSON, CHUNKED) + b"ffff\r\n" + BODY), Broken),
    retried("close between chunks", say_in_two(GOOD_CHUNK, b""), Broken),
    retried("close before the last chunk", say_and_close(head(200, JSON, CHUNKED) + chunked(BODY, end=b"")), Broken),
    retried("cut body of an error", say_and_close(head(400, JSON, ("Content-Length", "99")) + b'{"mess'), Broken),
]

MALFORMED = [
    malformed("bad chunk size", head(200, JSON, CHUNKED) + b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    malformed("negative chunk size", head(200, JSON, CHUNKED) + b"-5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    retried("bad chunk size after a good chunk", say_in_two(GOOD_CHUNK, b"zz\r\n" + BODY + b"\r\n"), ProtocolError),
    malformed("two lengths", head(200, JSON, LENGTH, ("Content-Length", "7")) + BODY),
    malformed("negative length", head(200, JSON, ("Content-Length", "-1")) + BODY),
    malformed("length in letters", head(200, JSON, ("Content-Length", "many")) + BODY),
    malformed("length and chunked together", head(200, JSON, LENGTH, CHUNKED) + chunked(BODY)),
    malformed("bytes after the body", whole(BODY) + b"and something that is no HTTP\r\n\r\n"),
    malformed("garbage for a status line", b"what do you want?\r\n\r\n"),
    malformed("status in letters", b"HTTP/1.1 OK OK\r\n\r\n"),
    malformed("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    malformed("HTTP/2 settings", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"),
    malformed("SSH banner", b"SSH-2.0-OpenSSH_9.6\r\n"),
    malformed("NUL in a header", head(200, JSON, LENGTH, ("X-Odd", "a\0b")) + BODY),
    malformed("20 kB header", head(200, JSON, LENGTH, ("X-Long", "a" * 20_000)) + BODY),
    malformed("500 headers", head(200, JSON, LENGTH, *[(f"X-Number-{n}", "1") for n in range(500)]) + BODY),
    malformed("header without a colon", b"HTTP/1.1 200 Fine\r\nno colon here\r\n\r\n"),
]

NO_SUCH_STATUS = [
    final("status 000", say_and_close(whole(BODY, "000")), ProtocolError),
    final("status 9999", say_and_close(whole(BODY, "9999")), ProtocolError),
    final("101 to a GET", say_and_close(head(101, ("Connection", "Upgrade"), ("Upgrade", "chat"))), ProtocolError),
]

ENCODED = [
    retried("garbage under gzip", say(whole(b"this was never gzip", 200, GZIP)), Broken),
    retried("garbage after a good start of gzip", say(whole(ZIPPED[:60] + b"\xff" * 40, 200, GZIP)), Broken),
    retried("wrong CRC under gzip", say(whole(ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], 200, GZIP)), Broken),
    retried("garbage under deflate", say(whole(b"\xff\xff\xff\xff", 200, ("Content-Encoding", "deflate"))), Broken),
    retried("empty under gzip", say(whole(b"", 200, GZIP)), DecodeError),
    final("unknown Content-Encoding", say(whole(BODY, 200, ("Content-Encoding", "klingon"))), DecodeError),
    final("Content-Encoding not asked for", say(whole(BODY, 200, ("Content-Encoding", "br"))), DecodeError),
    final("two Content-Encodings", say(whole(ZIPPED, 200, ("Content-Encoding", "gzip, gzip"))), DecodeError),
    final("Content-Encoding twice", say(whole(ZIPPED, 200, GZIP, GZIP)), DecodeError),
]

TOO_LARGE = [
    final("compression bomb", say(whole(BOMB, 200, GZIP)), ProtocolError, "max_body"),
    final("compression bomb in one value", say(whole(LONG_TEXT, 200, GZIP)), ProtocolError, "max_body"),
    final("endless body", pour(head(200, JSON), b" " * 2**16), ProtocolError, "max_body"),
    final("endless chunks", pour(head(200, JSON, CHUNKED), b"10000\r\n" + b" " * 2**16 + b"\r\n"), ProtocolError),
    final("endless body of an error", pour(head(404, JSON), b" " * 2**16), ProtocolError, "max_body"),
    final("length of a terabyte", pour(head(200, ("Content-Length", str(2**40))), b" " * 2**16), ProtocolError),
]

TOO_SLOW = [
    endless("hang before the head", say_and_hang()),
    endless("hang in the head", say_and_hang(head(200, JSON)[:-2])),
    endless("hang in the body", say_and_hang(head(200, JSON, LENGTH) + BODY[:-1])),
    endless("head dripping", drip(b"", head(200, JSON, LENGTH) + BODY)),
    endless("body dripping", SLOW),
    endless("chunks dripping", drip(head(200, JSON, CHUNKED), b"1\r\n \r\n" * 50)),
    endless("body of an error dripping", drip(head(400, JSON, LENGTH), BODY)),
    endless("100-continue without end", drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50, pause=0.005)),
]

UNDECODABLE = [
    retried("JSON that opens and does not close", say(whole(BODY[:-9])), DecodeError),
    retried("only the opening brace", say(whole(b"{")), DecodeError),
    retried("a text that opens and does not close", say(whole(b'{"statusCode": 200, "mess')), DecodeError),
    retried("cut JSON until the connection closes", say_and_close(head(200, JSON) + BODY[:-9]), DecodeError),
    retried("cut JSON under gzip", say(whole(gzip.compress(BODY[:-9]), 200, GZIP)), DecodeError),
    retried("empty 200", say(whole(b"")), DecodeError),
    retried("empty until the connection closes", say_and_close(head(200, JSON)), DecodeError),
    retried("204", say(head(204)), DecodeError),
    final("HTML with 200", say(whole(PAGE, content_type="text/html; charset=utf-8")), DecodeError, "text/html"),
    final("HTML that says it is JSON", say(whole(PAGE)), DecodeError),
    final("plain text", say(whole(b"OK")), DecodeError),
    final("invalid UTF-8", say(whole(BODY[:-2] + b', "x": "\xff\xfe"}}')), DecodeError),
    final("invalid UTF-8 in a name", say(whole(BODY.replace(b"Entry", b"\xc3\x28"))), DecodeError),
    final("UTF-16", say(whole(BODY.decode().encode("utf-16"))), DecodeError),
    final("NaN for a count", say(whole(with_count(b"NaN"))), DecodeError),
    final("Infinity for a count", say(whole(with_count(b"Infinity"))), DecodeError),
    final("-Infinity for a count", say(whole(with_count(b"-Infinity"))), DecodeError),
    final("1e400 for a count", say(whole(with_count(b"1e400"))), DecodeError),
    final("5 000 digits for a count", say(whole(with_count(b"9" * 5_000))), DecodeError),
    final("100 000 levels", say(whole(nested(100_000))), DecodeError),
    final("100 000 levels for a count", say(whole(with_count(nested(100_000)))), DecodeError),
    final("100 000 levels of objects", say(whole(b'{"data":' * 100_000 + b"1" + b"}" * 100_000)), DecodeError),
    final("bytes after the JSON", say(whole(BODY + b"]")), DecodeError),
    retried("HTML with 502", say(whole(PAGE, 502, content_type="text/html")), ServerError, "502"),
]

ELSEWHERE = f"https://else.test:8443/v9/there?userId={USER_ID}&x=1"
NAMED = ("else.test:8443", "/v9/there", "base_url")
REDIRECTS = [
    *[redirect(f"other origin, {status}", status, ELSEWHERE, says=NAMED) for status in (301, 302, 303, 307, 308)],
    redirect("same origin", 302, f"/v4/touchpoint?userId={USER_ID}", says=("/v4/touchpoint", "base_url")),
    redirect("no scheme", 302, "//else.test/there", says=("else.test/there",)),
    redirect("no Location", 302),
    redirect("empty Location", 302, ""),
    redirect("file:", 302, "file:///etc/passwd", says=("/etc/passwd",)),
    redirect("javascript:", 302, "javascript:alert(1)"),
    redirect("garbage", 302, "http://[::bad/%zz"),
    redirect("Location twice", 302, "/a", "/b"),
]

ALL = [
    *CUT,
    *MALFORMED,
    *NO_SUCH_STATUS,
    *ENCODED,
    *TOO_LARGE,
    *TOO_SLOW,
    *UNDECODABLE,
    *REDIRECTS,
]

READ = {
    "100-continue many times": b"HTTP/1.1 100 Continue\r\n\r\n" * 40 + whole(BODY),
    "103 hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" * 3 + whole(BODY),
    "LF line ends": whole(BODY).replace(b"\r\n", b"\n"),
    "JSON as text/plain": whole(BODY, content_type="text/plain"),
    "JSON without a type": whole(BODY, content_type=None),
    "garbage for a type": whole(BODY, content_type=";;;"),
    "unknown charset": whole(BODY, content_type="application/json; charset=klingon"),
    "a charset that is not the body's": whole(BODY, content_type="application/json; charset=utf-16"),
    "BOM": whole(b"\xef\xbb\xbf" + BODY),
    "white space around": whole(b" \r\n\t" + BODY + b"\n\n"),
    "gzip": whole(ZIPPED, 200, GZIP),
    "gzip in capitals": whole(ZIPPED, 200, ("Content-Encoding", "GZIP")),
    "deflate": whole(zlib.compress(BODY), 200, ("Content-Encoding", "deflate")),
    "gzip without its trailer": whole(ZIPPED[:-8], 200, GZIP),
    "gzip in small chunks": head(200, JSON, CHUNKED, GZIP)
    + chunked(*(ZIPPED[n : n + 7] for n in range(0, len(ZIPPED), 7))),
    "chunks with trailers": head(200, JSON, CHUNKED) + chunked(BODY, end=b"0\r\nX-Trailer: 1\r\n\r\n"),
    "no reason phrase": whole(BODY, reason=""),
    "status 201": whole(BODY, 201),
}
READ_UNTIL_CLOSED = {
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "no length": head(200, JSON) + BODY,
}

every_fault = pytest.mark.parametrize("fault", ALL, ids=lambda fault: fault.name)
