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

from collections.abc import Mapping

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

_BOM = b"\xef\xbb\xbf"
BODY_KEPT = 4096  # characters of a body that an APIError keeps
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
        case "tls":
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
        text = f"the answer is {kind.partition(';')[0].strip()}, not JSON: is there a login page or proxy in between?"
        return _undecodable(text, body)
    if request.quick is not None and (payload := request.quick(body)) is not None:
        return _checked(request, payload)
    try:
        if request.vendor == "vantio":
            return _checked(request, _BARE.decode(body))
        envelope = _ENVELOPE.decode(body)
    except msgspec.ValidationError as wrong:
        problem, again = f"the answer is not an object: {wrong}", False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        if not body.strip():
            return _undecodable(f"the answer is empty (HTTP {response.status})", body, again=True)
        # Cut JSON under a contented status is a cut body that HTTP did not notice; msgspec tells it by this text only.
        problem, again = f"the answer is not JSON: {_plain(wrong)}", "truncated" in str(wrong)
    else:
        stated = _status_code(envelope)
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


def _status_code(envelope: _Envelope) -> int | None:
    """The envelope's own status, where it states one legibly."""
    if (digits := bytes(envelope.status_code)) == b"200":
        return 200
    digits = digits.strip(b'"')
    return int(digits) if len(digits) == 3 and digits.isdigit() and digits[:1] in b"12345" else None


def _plain(wrong: Exception) -> str:
    # UnicodeDecodeError's own text is fine; RecursionError's speaks of Python, not of the answer.
    return "nested too deeply" if isinstance(wrong, RecursionError) else str(wrong)


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
    )


def _words(body: bytes) -> tuple[str, bool]:
    """A refusal's own words, and whether they are a stated message rather than the bare body.

    Distinct: ``message``. Vantio: ``message`` beside ``error``. Between us and them may stand anything: RFC 9457's
    ``title`` and ``detail`` are read too, and whatever is not JSON is text.
    """
    try:
        told = msgspec.json.decode(body.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
                return text, True
    elif isinstance(told, str):
        return told, True
    return excerpt(body), False


def excerpt(body: bytes, kept: int = EXCERPT_KEPT) -> str:
    """The beginning of a body as text, whatever bytes it is made of, and a little more than `kept`, to be cut."""
    return bytes(body[: (kept + _SLACK) * 4]).decode(errors="replace")[: kept + _SLACK]
