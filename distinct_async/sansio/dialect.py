"""What the outcome of an attempt means: each vendor's envelope and error format.

The rules, with their sources (numbers are those of docs/explanation/vendors.md):

* Distinct wraps everything: ``{"statusCode": 200, "message": ..., "data": ...}``, errors without ``data``
  (https://docs.distinct.so/docs/touchpoint-scanner-metrics-api). Inferred (A15): a ``statusCode`` that reports an error
  overrides HTTP 200. It may be missing, or a text of digits.
* Vantio's objects are bare; errors are ``{"error": ..., "message": ...}``
  (https://docs.vantio.app/api-reference/impressions/get-impression). No vendor shows all of its error bodies (A7, B4):
  they are read leniently, and none is required.
* A response is decoded only as deep as the retry decision needs: is it complete? The rest stays bytes. If a request can
  decode a valid response in one pass (`Decoder.fast`), it is not decoded twice.
"""

import json
import re
from collections.abc import Mapping
from math import isinf
from typing import Any, TypeVar

import msgspec

from distinct_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConnectError,
    DecodeError,
    DistinctError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    TLSError,
    TransportError,
)
from distinct_async.sansio.matching import Mismatch
from distinct_async.sansio.messages import NoResponse, Reading, Request, Response
from distinct_async.vendors import VENDORS

T = TypeVar("T")

_BOM = b"\xef\xbb\xbf"
BODY_KEPT = 4096  # characters of a body that an APIError keeps
_LONGEST_ERROR = 2**20  # bytes of an error's body that are decoded
_SURROGATE_HALF = re.compile("[\ud800-\udfff]")
EXCERPT_KEPT = 1024  # and a DecodeError
_EXCERPT_SLACK = 1024  # further characters of `excerpt`, so that a key at the cut is blanked before the text is cut

_RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})

# What each status means, and what to do. 403 is documented only for the IP allowlist (note 6 of the page), 401 on
# another page of Distinct and on all of Vantio (A7, B13).
_STATUS_ERRORS: Mapping[int, tuple[type[APIError], str, str]] = {
    400: (BadRequestError, "Bad Request", ""),
    401: (AuthenticationError, "Unauthorized", "check the API key: is it valid, and of the right kind?"),
    403: (PermissionDeniedError, "Forbidden", "is this machine's IP address on the key's allowlist?"),
    404: (NotFoundError, "Not Found", ""),
    422: (BadRequestError, "Unprocessable Content", ""),
    429: (RateLimitError, "Too Many Requests", "lower max_concurrency or set rate_limit"),
    500: (ServerError, "Internal Server Error", ""),
    502: (ServerError, "Bad Gateway", ""),
    503: (ServerError, "Service Unavailable", ""),
    504: (ServerError, "Gateway Timeout", ""),
}

# Responses to requests that this client never makes: with a Range, or with a condition (RFC 9110, 15.3.7 and 15.4.5)
_UNREQUESTED_STATUSES: Mapping[int, str] = {
    206: "Partial Content: only a part of the response arrived, although no part was requested",
    304: "Not Modified: the response has no body, although the request had no condition",
}

_REQUEST_ID_HEADERS = ("X-Request-Id", "Request-Id", "X-Amzn-RequestId", "X-Amz-Cf-Id", "CF-Ray")


class _Envelope(msgspec.Struct):
    """Distinct's envelope. `Raw` skips a value, which also proves that the JSON is complete."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    status_code: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="statusCode")


_ENVELOPE_DECODER = msgspec.json.Decoder(_Envelope)
_RAW_DECODER = msgspec.json.Decoder(msgspec.Raw)


def read(request: Request[T], outcome: Response | NoResponse) -> Reading[T]:
    """Return what the outcome of an attempt means: the payload, or the error and whether a retry can help."""
    if isinstance(outcome, NoResponse):
        return _read_no_response(outcome)
    if outcome.status in _UNREQUESTED_STATUSES:
        return Reading(error=ProtocolError(f"HTTP {outcome.status} {_UNREQUESTED_STATUSES[outcome.status]}"))
    if 200 <= outcome.status < 300:
        return _read_success(request, outcome)
    if 300 <= outcome.status < 400:
        return Reading(error=_redirect_error(outcome, VENDORS[request.vendor].url_argument))
    return _read_error_status(outcome.status, outcome, request)


def _read_no_response(no_response: NoResponse) -> Reading[Any]:
    error: DistinctError
    match no_response.kind:
        case "timeout":
            error = RequestTimeoutError(no_response.text, limit=no_response.limit or "attempt")
        case "connect":
            error = ConnectError(no_response.text)
        case "tls" | "handshake":
            error = TLSError(no_response.text)
        case "broken":
            error = TransportError(no_response.text)
        case "protocol" | "refused":
            error = ProtocolError(no_response.text)
        case _:  # encoding
            error = DecodeError(no_response.text, paths=("$",))
    # When the deadline ends no time is left, even if a coarse clock (uvloop's has milliseconds) still shows some
    is_final = no_response.limit == "deadline" or no_response.kind in {"tls", "refused", "encoding"}
    return Reading(error=error, again=not is_final)


def _read_success(request: Request[T], response: Response) -> Reading[T]:
    body = response.body.removeprefix(_BOM)
    if problem := _content_problem(body, response.headers.get("Content-Type", "")):
        return _decode_failure(problem, body)
    if (value := request.decoder.fast(body)) is not None:
        mismatch = request.check(value) if request.check is not None else None
        return Reading(value) if mismatch is None else _read_mismatch(mismatch) or Reading(value, foreign=True)
    try:
        if not VENDORS[request.vendor].enveloped:
            return _read_payload(request, _RAW_DECODER.decode(body))
        envelope = _ENVELOPE_DECODER.decode(body)
    except msgspec.ValidationError as error:
        return _decode_failure(f"expected a JSON object, got {str(error).rpartition('got ')[2]}", body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body.strip():
            return _decode_failure(f"the response is empty (HTTP {response.status})", body, again=True)
        return _read_malformed(request, response, body, error)
    envelope_status = _parse_status_code(bytes(envelope.status_code))
    if envelope_status is None or 200 <= envelope_status < 300:
        return _read_payload(request, envelope.data)
    return _read_error_status(envelope_status, response, request)


def _content_problem(body: bytes, content_type: str) -> str:
    """Return why a body need not be decoded at all, or an empty text."""
    if "html" in content_type.lower():
        media_type = content_type.partition(";")[0].strip()
        return f"the response is {media_type}, not JSON: is there a login page or proxy in between?"
    if len(body) >= _DENSITY_CHECK_BYTES and _is_dense(body):
        return "the response has very many tiny values, which no documented one has"
    if not body.isascii():  # msgspec does not look at the fields that it skips
        try:
            body.decode()
        except UnicodeDecodeError as error:
            return "" if error.end == len(body) else f"the response is not JSON: {error}"  # at its end it is cut
    return ""


def _read_payload(request: Request[T], payload: msgspec.Raw) -> Reading[T]:
    """What a payload means that the fast path has refused."""
    mismatch = request.check(payload) if request.check is not None else None
    if mismatch is not None and (reading := _read_mismatch(mismatch)) is not None:
        return reading
    try:
        return Reading(request.decoder.strict(payload), foreign=mismatch is not None)
    except DecodeError as error:
        return Reading(error=error.with_traceback(None), foreign=mismatch is not None)


def _read_mismatch(mismatch: Mismatch) -> Reading[Any] | None:
    """What a response to another request means; None if its decoder, or the walk, reports it better."""
    if not mismatch.text:
        return None
    error = ProtocolError(mismatch.text, remedy="check whether a cache or proxy responds instead of the API")
    return Reading(error=error, again=True, foreign=True)


def _read_malformed(request: Request[T], response: Response, body: bytes, error: Exception) -> Reading[T]:
    """Return what a body means that msgspec rejects."""
    value = decode_with_surrogates(body)
    if VENDORS[request.vendor].enveloped and isinstance(value, dict):
        envelope_status = _parse_status_code(str(value.get("statusCode")).encode(errors="replace"))
        if envelope_status is not None and not 200 <= envelope_status < 300:
            return _read_error_status(envelope_status, response, request)
        value = value.get("data")
    if value is not NOT_JSON:
        escaped = json.dumps(value).encode()  # the halves of surrogate pairs too
        return _read_payload(request, msgspec.Raw(escaped))
    if isinstance(error, RecursionError) or _is_deep(body):
        return _decode_failure("the response is not JSON: nested too deeply", body)
    # Truncated JSON is a truncated body that HTTP did not detect; msgspec reports it only in this text
    return _decode_failure(f"the response is not JSON: {error}", body, again="truncated" in str(error))


def _parse_status_code(digits: bytes) -> int | None:
    """Return the status in the envelope, if it parses."""
    if digits == b"200":
        return 200
    digits = digits.strip(b'"')
    return int(digits) if len(digits) == 3 and digits.isdigit() and digits[:1] in b"12345" else None


_MAX_DEPTH = 1000  # more levels than any response has
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
NOT_JSON = object()


def _is_deep(body: bytes) -> bool:
    """Return whether a body is invalid because of its nesting, and not because it was truncated."""
    return body.count(b"[") + body.count(b"{") - body.count(b"]") - body.count(b"}") > _MAX_DEPTH


def decode_with_surrogates(body: bytes) -> object:
    """Return the value of a body that msgspec rejects because of half a surrogate pair, or `NOT_JSON`.

    A text that was cut can contain such a half. The standard library keeps it in the text; `structure` replaces it.
    """
    if _SURROGATE_ESCAPE.search(body) is None:
        return NOT_JSON
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_parse_finite_float)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _parse_finite_float(text: str) -> float:
    if isinf(number := float(text)):
        raise ValueError(text)
    return number


def _is_dense(body: bytes) -> bool:
    """Return whether a body has so many values for its size that decoding it would take many times `max_body`."""
    decoded_bytes = sum(body.count(token) * token_bytes for token, token_bytes in _TOKEN_BYTES.items())
    return decoded_bytes > _MAX_EXPANSION * len(body)


_DENSITY_CHECK_BYTES = 2**20  # bytes; a smaller body takes at most about 30 MB
_TOKEN_BYTES = {b"{": 232, b"[": 88, b",": 24}  # approximate bytes that CPython takes for an object, an array, a value
_MAX_EXPANSION = 16  # rows of both vendors stay below 8


def _decode_failure(text: str, body: bytes, *, again: bool = False) -> Reading[Any]:
    return Reading(error=DecodeError(f"{text} - at `$`", paths=("$",), excerpt=excerpt(body)), again=again)


def _redirect_error(response: Response, setting: str) -> ProtocolError:
    """Return the error of a redirect, which is never followed: aiohttp would send the key to another origin."""
    target = response.headers.get("Location", "").partition("?")[0].partition("#")[0]
    printable_target = "".join(char for char in target.rpartition("@")[2] if char.isprintable())[:200]
    direction = f"to {printable_target!r}" if printable_target else "without a Location"
    message = f"HTTP {response.status} redirect {direction}: redirects are not followed"
    remedy = f"if that is the right place, set {setting} to it"
    return ProtocolError(message, remedy=remedy, remedy_option=setting)


def _read_error_status(status: int, response: Response, request: Request[Any]) -> Reading[Any]:
    fallback = (ServerError, "Server Error", "") if status >= 500 else (APIError, "", "")
    cls, phrase, remedy = _STATUS_ERRORS.get(status, fallback)
    message, stated = _error_message(response.body)
    headers = response.headers
    retry_after = headers.get("Retry-After")
    error = cls(
        message or phrase,
        status=status,
        phrase=phrase,
        remedy=remedy,
        remedy_option="rate_limit" if status == 429 else None,
        stated=stated,
        headers=headers,
        body=excerpt(response.body, BODY_KEPT),
        request_id=request_id(headers),
        private=request.private,
    )
    return Reading(
        error=error,
        again=status in _RETRIED_STATUSES,
        throttled=status == 429 or (status == 503 and retry_after is not None),
        retry_after=retry_after if status in _RETRIED_STATUSES else None,
        date=headers.get("Date"),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id that the server gave the request; None if it sent none."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)


def _error_message(body: bytes) -> tuple[str, bool]:
    """Return the message of an error body, and whether it is a stated message rather than the bare body.

    Distinct has ``message``, Vantio ``message`` and ``error``. Proxies in between may send anything: ``title`` and
    ``detail`` of RFC 9457 are read too, and anything that is not JSON is text.
    """
    if len(body) > _LONGEST_ERROR:
        return excerpt(body), False
    try:
        value = msgspec.json.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = decode_with_surrogates(body.removeprefix(_BOM))
        if value is NOT_JSON:
            return excerpt(body), False
    if isinstance(value, dict):
        if isinstance(nested := value.get("error"), dict):
            value = {**nested, **value}
        problem_texts = [text for text in (value.get("title"), value.get("detail")) if isinstance(text, str) and text]
        message = value.get("message")
        if isinstance(message, list):
            message = "; ".join(text for text in message if isinstance(text, str))
        for text in (message, ": ".join(problem_texts), value.get("error")):
            if isinstance(text, str) and text:
                return replace_surrogates(text), True
    elif isinstance(value, str):
        return replace_surrogates(value), True
    return excerpt(body), False


def replace_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each half of a surrogate pair."""
    return text if text.isascii() else _SURROGATE_HALF.sub("\N{REPLACEMENT CHARACTER}", text)


def excerpt(body: bytes, kept: int = EXCERPT_KEPT) -> str:
    """Return the beginning of a body as text: up to `kept` characters, and a few more, which the caller cuts."""
    return bytes(body[: (kept + _EXCERPT_SLACK) * 4]).decode(errors="replace")[: kept + _EXCERPT_SLACK]
