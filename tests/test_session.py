"""One place turns every failure of aiohttp, the operating system and TLS into a value."""

import errno
import gzip
import inspect
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from hypothesis import given
from hypothesis import strategies as st

from distinct_async.session import _decompress, _describe_failure, _remove_frames, _UnusableBody

KEY = Mock(host="example.org", port=443, ssl=True, is_ssl=True)
INFO = Mock(real_url="https://example.org/?key=sk_secret", headers={"Authorization": "sk_secret"})
BROKEN = OSError(errno.ECONNRESET, "Connection reset by peer")

# How each of aiohttp's exceptions is made, where its constructor wants more than a text.
MADE: dict[type, tuple[Any, ...]] = {
    client_exceptions.ClientConnectorError: (KEY, BROKEN),
    client_exceptions.ClientConnectorDNSError: (KEY, BROKEN),
    client_exceptions.ClientProxyConnectionError: (KEY, BROKEN),
    client_exceptions.UnixClientConnectorError: ("/path", KEY, BROKEN),
    client_exceptions.ClientSSLError: (KEY, BROKEN),
    client_exceptions.ClientConnectorSSLError: (KEY, ssl.SSLError(1, "wrong version")),
    client_exceptions.ClientConnectorCertificateError: (KEY, ssl.SSLCertVerificationError("self-signed")),
    client_exceptions.ServerFingerprintMismatch: (b"1", b"2", "example.org", 443),
    client_exceptions.ClientOSError: (errno.ECONNRESET, "Connection reset by peer"),
    client_exceptions.ClientConnectionResetError: ("sk_secret",),
    client_exceptions.ServerDisconnectedError: ("HTTP/1.1 200 sk_secret",),
}


def failures() -> Iterator[Exception]:
    for _, cls in inspect.getmembers(client_exceptions, inspect.isclass):
        if cls.__module__ != client_exceptions.__name__ or not issubclass(cls, aiohttp.ClientError):
            continue
        if issubclass(cls, aiohttp.ClientResponseError):
            yield cls(INFO, (), status=400, message="sk_secret")
        else:
            yield cls(*MADE.get(cls, ("sk_secret",)))
    for _, cls in inspect.getmembers(http_exceptions, inspect.isclass):
        if issubclass(cls, http_exceptions.BadHttpMessage):
            yield cls("sk_secret")


# What may end in the last line of the table: base classes, and connections that broke in ways without a name
UNNAMED = {
    "ClientConnectionError",
    "ClientConnectionResetError",
    "ClientError",
    "ClientOSError",
    "ServerConnectionError",
    "UploadAbortedError",
}


@pytest.mark.parametrize("failure", [*failures()], ids=lambda failure: type(failure).__name__)
def test_every_exception_of_aiohttps_is_mapped_and_none_is_quoted(failure: Exception) -> None:
    result = _describe_failure(failure, 5.0)
    assert "sk_secret" not in result.text
    assert (type(failure).__name__ in UNNAMED) is result.text.startswith("the connection broke")


def test_the_enumeration_is_not_empty() -> None:
    assert len(list(failures())) > 30


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("tls", aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("self-signed"))),
        ("tls", aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version"))),
        ("tls", aiohttp.ServerFingerprintMismatch(b"1", b"2", "h", 1)),
        ("connect", aiohttp.ClientConnectorError(KEY, BROKEN)),
        ("connect", aiohttp.ClientConnectorDNSError(KEY, BROKEN)),
        ("connect", aiohttp.ClientHttpProxyError(INFO, (), status=407)),
        ("timeout", aiohttp.ConnectionTimeoutError()),
        ("timeout", aiohttp.SocketTimeoutError()),
        ("broken", aiohttp.ServerDisconnectedError()),
        ("broken", aiohttp.ClientOSError(errno.EPIPE, "Broken pipe")),
        ("broken", aiohttp.ClientPayloadError("cut")),
        ("broken", ConnectionResetError()),
        ("protocol", aiohttp.ClientResponseError(INFO, (), status=400, message="Bad chunk size")),
        ("protocol", http_exceptions.TransferEncodingError("bad")),
        ("refused", aiohttp.InvalidURL("http://[")),
        ("refused", aiohttp.NonHttpUrlClientError("ftp://h")),
        ("refused", aiohttp.RedirectClientError("http://h")),
    ],
)
def test_kinds(kind: str, failure: Exception) -> None:
    assert kind == _describe_failure(failure, 5.0).kind


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def inflated(data: bytes, size: int = 7) -> bytes:
    return b"".join([piece async for piece in _decompress(pieces(data, size))])


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate], ids=["gzip", "zlib", "raw"])
async def test_what_was_packed_comes_out_whole(pack: Any) -> None:
    data = b'{"a": 1}' * 50_000
    assert data == await inflated(pack(data), 999)


async def test_no_step_of_unpacking_is_large() -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    assert 2**16 >= max([len(piece) async for piece in _decompress(pieces(bomb, 2**16))])


async def test_a_missing_trailer_passes_and_a_wrong_one_does_not() -> None:
    packed = gzip.compress(b"data")
    assert b"data" == await inflated(packed[:-8])
    with pytest.raises(_UnusableBody):
        await inflated(packed[:-8] + b"\0" * 8)


@given(st.binary(min_size=1, max_size=60))
async def test_any_bytes_unpack_or_are_refused(data: bytes) -> None:
    with suppress(_UnusableBody):
        assert isinstance(await inflated(data), bytes)


def test_an_error_of_a_hooks_passes_without_frames_and_with_a_note_of_its_place() -> None:
    def hook() -> None:
        raise LookupError("of the user's")

    with pytest.raises(LookupError) as raised:
        hook()
    error = _remove_frames(raised.value)
    assert (None, None, True) == (error.__traceback__, error.__context__, "hook, line" in error.__notes__[0])


def test_a_tls_failure_names_no_line_of_cpythons_source() -> None:
    wrong = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    assert "([SSL: WRONG_VERSION_NUMBER] wrong version number)" in _describe_failure(wrong, 5).text
