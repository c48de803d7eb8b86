"""How each vendor wraps an answer and words a refusal: from what came back to what it means.

The rules, with their sources:

* Distinct wraps everything: ``{"statusCode": 200, "message": ..., "data": ...}``, errors without ``data``
  (https://docs.distinct.so/docs/touchpoint-scanner-metrics-api). Whether ``statusCode`` equals the HTTP status is not
  said; inferred: one that says no overrules a contented HTTP 200. It may be missing, or a text of digits.
* Vantio's answers are bare; refusals are ``{"error": ..., "message": ...}``
  (https://docs.vantio.app/api-reference/impressions/get-impression). Of both, 404 and 401 bodies were never seen whole:
  error bodies are read leniently, and none is needed.
* An answer is looked at only as deep as the retry decision needs: is it there, is it whole. The rest stays bytes. Where
  a request can read a good answer in one go (`Request.quick`), it is not gone over twice.
"""

import json
import re
from collections.abc import Mapping
from math import isinf

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
from distinct_async.sansio.messages import Failure, Reading, Request, Response
from distinct_async.vendors import VENDORS

_BOM = b"\xef\xbb\xbf"
BODY_KEPT = 4096  # characters of a body that an APIError keeps
_LONGEST_REFUSAL = 2**20  # bytes of an error's body that are decoded
_HALF = re.compile("[\ud800-\udfff]")
EXCERPT_KEPT = 1024  # and a DecodeError
_SLACK = 1024  # characters more that `excerpt` gives, so that a key across the cut is blanked whole before it is made

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

# What each status means, and what the caller can do. 403 is documented for the IP allowlist only (note 6 of the page);
# 401 stands on a sibling page of Distinct's and on all of Vantio's.
_REFUSALS: Mapping[int, tuple[type[APIError], str, str]] = {
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
_NOT_WHOLE: Mapping[int, str] = {
    206: "Partial Content: only a part of the response arrived, although no part was requested",
    304: "Not Modified: the response has no body, although the request had no condition",
}

_REQUEST_IDS = ("X-Request-Id", "Request-Id", "X-Amzn-RequestId", "X-Amz-Cf-Id", "CF-Ray")


class _Envelope(msgspec.Struct):
    """Distinct's wrapping, as deep as we need it: `Raw` is skipped over, which also proves that the JSON is whole."""

    data: msgspec.Raw = msgspec.Raw(b"null")
    status_code: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="statusCode")


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_BARE = msgspec.json.Decoder(msgspec.Raw)


def read(request: Request, outcome: Response | Failure) -> Reading:
    """What one attempt's outcome means: the answer's payload, or our error and whether to try again."""
    if isinstance(outcome, Failure):
        return _failed(outcome)
    if outcome.status in _NOT_WHOLE:
        return Reading(error=ProtocolError(f"HTTP {outcome.status} {_NOT_WHOLE[outcome.status]}"))
    if 200 <= outcome.status < 300:
        return _contented(request, outcome)
    if 300 <= outcome.status < 400:
        return Reading(error=_redirected(outcome))
    return _refused(outcome.status, outcome, request)


def _failed(failure: Failure) -> Reading:
    error: DistinctError
    match failure.kind:
        case "timeout":
            error = RequestTimeoutError(failure.text, limit=failure.limit or "attempt")
        case "connect":
            error = ConnectError(failure.text)
        case "tls" | "handshake":
            error = TLSError(failure.text)
        case "broken":
            error = TransportError(failure.text)
        case "protocol" | "refused":
            error = ProtocolError(failure.text)
        case _:  # encoding
            error = DecodeError(failure.text, paths=("$",))
    # With the deadline's end no time is left, whatever a coarse clock (uvloop's has milliseconds) still sees of it
    over = failure.limit == "deadline" or failure.kind in {"tls", "refused", "encoding"}
    return Reading(error=error, again=not over)


def _contented(request: Request, response: Response) -> Reading:
    body = response.body.removeprefix(_BOM)
    kind = response.headers.get("Content-Type", "")
    if "html" in kind.lower():
        text = f"the response is {kind.partition(';')[0].strip()}, not JSON: is there a login page or proxy in between?"
        return _undecodable(text, body)
    if _is_dense(body):
        return _undecodable("the response has very many tiny values, which no documented one has", body)
    if request.quick is not None and (payload := request.quick(body)) is not None:
        return _checked(request, payload)
    try:
        if not VENDORS[request.vendor].enveloped:
            return _checked(request, _BARE.decode(body))
        envelope = _ENVELOPE.decode(body)
    except msgspec.ValidationError as wrong:
        problem, again = f"the response is not an object: {wrong}", False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        if not body.strip():
            return _undecodable(f"the response is empty (HTTP {response.status})", body, again=True)
        return _malformed(request, response, body, wrong)
    else:
        stated = _status_code(bytes(envelope.status_code))
        if stated is None or 200 <= stated < 300:
            return _checked(request, envelope.data)
        return _refused(stated, response, request)
    return _undecodable(problem, body, again=again)


def _checked(request: Request, payload: object) -> Reading:
    mismatch = request.check(payload) if request.check is not None else None
    if mismatch is None:
        return Reading(payload)
    if not mismatch.text:
        return Reading(payload, foreign=True)
    error = ProtocolError(mismatch.text, remedy="check whether a cache or proxy responds instead of the API")
    return Reading(error=error, again=True, foreign=True)


def _malformed(request: Request, response: Response, body: bytes, wrong: Exception) -> Reading:
    """What a body means that msgspec refuses."""
    value = decode_with_surrogates(body)
    if VENDORS[request.vendor].enveloped and isinstance(value, dict):
        stated = _status_code(str(value.get("statusCode")).encode(errors="replace"))
        if stated is not None and not 200 <= stated < 300:
            return _refused(stated, response, request)
        value = value.get("data")
    if value is not NOT_JSON:
        return _checked(request, msgspec.Raw(json.dumps(value).encode()))  # halves of pairs are escapes again
    if isinstance(wrong, RecursionError) or _is_deep(body):
        return _undecodable("the response is not JSON: nested too deeply", body)
    # Cut JSON under a good status is a cut body that HTTP did not notice; msgspec has only this text for it
    return _undecodable(f"the response is not JSON: {wrong}", body, again="truncated" in str(wrong))


def _status_code(digits: bytes) -> int | None:
    """The envelope's own status, if it is legible."""
    if digits == b"200":
        return 200
    digits = digits.strip(b'"')
    return int(digits) if len(digits) == 3 and digits.isdigit() and digits[:1] in b"12345" else None


_DEEP = 1000  # levels that no response has
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
NOT_JSON = object()


def _is_deep(body: bytes) -> bool:
    """Whether so many brackets are open at the end of a body that its nesting, not a cut, is what is wrong with it."""
    return sum(body.count(sign) for sign in (b"[", b"{")) - sum(body.count(sign) for sign in (b"]", b"}")) > _DEEP


def decode_with_surrogates(body: bytes) -> object:
    """The value of a body that msgspec refuses for half a surrogate pair, as a text that was cut has; or `NOT_JSON`.

    The standard library keeps such a half in the text; `structure` decides what becomes of it.
    """
    if _SURROGATE.search(body) is None:
        return NOT_JSON
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return NOT_JSON


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _finite(text: str) -> float:
    if isinf(number := float(text)):
        raise ValueError(text)
    return number


def _is_dense(body: bytes) -> bool:
    """Whether a body has so many values for its size that decoding it would cost many times `max_body`."""
    if len(body) < _LARGE:
        return False
    return sum(body.count(sign) * size for sign, size in _SIZES.items()) > _FACTOR * len(body)


_LARGE = 2**20  # bytes; what is smaller costs no more than some 30 MB
_SIZES = {b"{": 232, b"[": 88, b",": 24}  # bytes that CPython takes for an object, an array, a value, about
_FACTOR = 16  # the rows of both vendors stay below 8


def _undecodable(text: str, body: bytes, *, again: bool = False) -> Reading:
    return Reading(error=DecodeError(f"{text} - at `$`", paths=("$",), excerpt=excerpt(body)), again=again)


def _redirected(response: Response) -> ProtocolError:
    """Never followed: aiohttp would carry ``x-distinct-api-key`` along to another origin."""
    target = response.headers.get("Location", "").partition("?")[0].partition("#")[0]
    shown = "".join(sign for sign in target.rpartition("@")[2] if sign.isprintable())[:200]
    where = f"to {shown!r}" if shown else "without a Location"
    hint = "redirects are not followed; if that is the right place, set base_url or vantio_base_url to it"
    return ProtocolError(f"HTTP {response.status} redirect {where}: {hint}")


def _refused(status: int, response: Response, request: Request) -> Reading:
    fallback = (ServerError, "Server Error", "") if status >= 500 else (APIError, "", "")
    cls, phrase, remedy = _REFUSALS.get(status, fallback)
    message, stated = _words(response.body)
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
        request_id=next((headers[name] for name in _REQUEST_IDS if name in headers), None),
        private=request.private,
    )
    return Reading(
        error=error,
        again=status in _AGAIN,
        throttled=status == 429 or (status == 503 and retry_after is not None),
        retry_after=retry_after if status in _AGAIN else None,
        date=headers.get("Date"),
    )


def _words(body: bytes) -> tuple[str, bool]:
    """A refusal's own words, and whether they are a stated message rather than the bare body.

    Distinct: ``message``. Vantio: ``message`` beside ``error``. Between us and them may stand anything: RFC 9457's
    ``title`` and ``detail`` are read too, and whatever is not JSON is text.
    """
    if len(body) > _LONGEST_REFUSAL:
        return excerpt(body), False
    try:
        told = msgspec.json.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = decode_with_surrogates(body.removeprefix(_BOM))
        if told is NOT_JSON:
            return excerpt(body), False
    if isinstance(told, dict):
        if isinstance(inner := told.get("error"), dict):
            told = {**inner, **told}
        problem = [text for text in (told.get("title"), told.get("detail")) if isinstance(text, str) and text]
        message = told.get("message")
        if isinstance(message, list):
            message = "; ".join(text for text in message if isinstance(text, str))
        for text in (message, ": ".join(problem), told.get("error")):
            if isinstance(text, str) and text:
                return replace_surrogates(text), True
    elif isinstance(told, str):
        return replace_surrogates(told), True
    return excerpt(body), False


def replace_surrogates(text: str) -> str:
    """Return `text` with U+FFFD for each half of a surrogate pair."""
    return text if text.isascii() else _HALF.sub("\N{REPLACEMENT CHARACTER}", text)


def excerpt(body: bytes, kept: int = EXCERPT_KEPT) -> str:
    """The beginning of a body as text, whatever bytes it is made of, and a little more than `kept`, to be cut."""
    return bytes(body[: (kept + _SLACK) * 4]).decode(errors="replace")[: kept + _SLACK]
