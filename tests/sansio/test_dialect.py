"""How each vendor's responses and refusals read."""

from typing import Any

import msgspec
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from distinct_async import errors
from distinct_async.sansio.dialect import read
from distinct_async.sansio.messages import Decoder, NoResponse, NoResponseKind, Reading, Request, Response
from distinct_async.vendors import Vendor

DISTINCT: Request[Any] = Request(
    "distinct", "metrics.user(experience_id='exp-1')", "/v3", "userId=user-7", private=("user-7",)
)
VANTIO: Request[Any] = Request("vantio", "impressions.get(impression_id='imp_1')", "/api/v1/impressions/imp_1")
JSON = {"Content-Type": "application/json"}


def reading(
    status: int, body: bytes, *, request: Request[Any] = DISTINCT, headers: dict[str, str] | None = None
) -> Reading[Any]:
    return read(request, Response(status, dict(headers or JSON), body))


def refusal(status: int, body: bytes = b"", **more: object) -> errors.APIError:
    error = reading(status, body, **more).error  # type: ignore[arg-type]
    assert isinstance(error, errors.APIError)
    return error


@pytest.mark.parametrize(
    ("payload", "request_", "body"),
    [
        (b'{"a": 1}', DISTINCT, b'{"statusCode": 200, "message": "ok", "data": {"a": 1}}'),
        (b'{"a": 1}', DISTINCT, b'\xef\xbb\xbf{"data": {"a": 1}}'),
        (b"[]", DISTINCT, b'{"statusCode": "200", "data": []}'),
        (b"{}", DISTINCT, b'{"statusCode": null, "data": {}}'),
        (b"{}", DISTINCT, b'{"statusCode": {"odd": true}, "data": {}}'),
        (b"{}", DISTINCT, b'{"statusCode": "404.", "data": {}}'),
        (b"{}", DISTINCT, b'{"statusCode": 4040, "data": {}}'),
        (b"{}", DISTINCT, b'{"statusCode": 999, "data": {}}'),
        (b"null", DISTINCT, b'{"statusCode": 200, "data": null}'),
        (b"null", DISTINCT, b'{"statusCode": 200, "message": "ok"}'),
        (b"2", DISTINCT, b'{"data": 1, "data": 2}'),
        (b'{"id": "imp_1"}', VANTIO, b'{"id": "imp_1"}'),
        (b"[1]", VANTIO, b"[1]"),
    ],
)
def test_payload(payload: bytes, request_: Request[Any], body: bytes) -> None:
    result = reading(200, body, request=request_)
    assert isinstance(result.value, msgspec.Raw)
    assert (payload, None) == (bytes(result.value), result.error)


@pytest.mark.parametrize(
    ("again", "words", "request_", "headers", "body"),
    [
        # opens and does not close: a cut that HTTP did not notice
        (True, "not JSON", DISTINCT, JSON, b'{"statusCode": 200, "data": {"a"'),
        (True, "not JSON", VANTIO, JSON, b'{"id": "imp_1"'),
        (True, "empty", DISTINCT, JSON, b""),
        (True, "empty", VANTIO, JSON, b" \r\n"),
        # anything else undecodable comes again as it is
        (False, "not JSON", DISTINCT, JSON, b"no json"),
        (False, "not JSON", DISTINCT, JSON, b'{"data": NaN}'),
        (False, "nested too deeply", DISTINCT, JSON, b'{"data": ' + b"[" * 100_000),
        (False, "nested too deeply", VANTIO, JSON, b"[" * 100_000),
        (False, "expected a JSON object, got `array`", DISTINCT, JSON, b"[]"),
        (False, "expected a JSON object, got `str`", DISTINCT, JSON, b'"text"'),
        (False, "text/html", DISTINCT, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Sign in</html>"),
        (False, "text/html", VANTIO, {"Content-Type": "TEXT/HTML"}, b"{}"),
    ],
)
def test_undecodable(*, again: bool, words: str, request_: Request[Any], headers: dict[str, str], body: bytes) -> None:
    result = reading(200, body, request=request_, headers=headers)
    assert isinstance(result.error, errors.DecodeError)
    assert (again, ("$",), True) == (result.again, result.error.paths, words.lower() in result.error.message.lower())


def test_json_is_read_whatever_else_the_content_type_says() -> None:
    assert reading(200, b'{"data": 1}', headers={"Content-Type": "text/plain; charset=klingon"}).error is None


@pytest.mark.parametrize(
    ("cls", "again", "status"),
    [
        (errors.BadRequestError, False, 400),
        (errors.AuthenticationError, False, 401),
        (errors.APIError, False, 402),
        (errors.PermissionDeniedError, False, 403),
        (errors.NotFoundError, False, 404),
        (errors.APIError, True, 408),
        (errors.APIError, False, 418),
        (errors.BadRequestError, False, 422),
        (errors.APIError, True, 425),
        (errors.RateLimitError, True, 429),
        (errors.ServerError, True, 500),
        (errors.ServerError, False, 501),
        (errors.ServerError, True, 502),
        (errors.ServerError, True, 503),
        (errors.ServerError, True, 504),
        (errors.ServerError, False, 599),
    ],
)
def test_refusals_by_status(cls: type[errors.APIError], status: int, *, again: bool) -> None:
    result = reading(status, b"")
    assert (cls, status, again) == (type(result.error), result.error.status if result.error else 0, result.again)  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", [b"404", b'"404"'])
def test_the_envelopes_own_status_overrules_a_contented_200(code: bytes) -> None:
    body = b'{"statusCode": ' + code + b', "message": "Experience not found"}'
    error = refusal(200, body)
    assert (errors.NotFoundError, 404, "Experience not found") == (type(error), error.status, error.message)


def test_an_envelope_that_says_500_is_tried_again() -> None:
    assert reading(200, b'{"statusCode": 500, "message": "oops"}').again


def test_vantio_has_no_envelope_to_overrule() -> None:
    assert reading(200, b'{"statusCode": 404}', request=VANTIO).error is None


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("Experience not found", b'{"statusCode": 404, "message": "Experience not found"}'),
        ("Invalid or missing API key", b'{"error": "Unauthorized", "message": "Invalid or missing API key"}'),
        ("Unauthorized", b'{"error": "Unauthorized"}'),
        ("bad id; bad page", b'{"message": ["bad id", "bad page", 7]}'),
        ("inner", b'{"error": {"message": "inner", "code": 7}}'),
        ("Out of credit: Your balance is 30.", b'{"title": "Out of credit", "detail": "Your balance is 30."}'),
        ("only a title", b'{"title": "only a title", "status": 403}'),
        ("plain", b'"plain"'),
        ("<h1>Bad Gateway</h1>", b"<h1>Bad Gateway</h1>"),
        ('{"other": 1}', b'{"other": 1}'),
        ("\ufffd", b"\xff"),
        ("Not Found", b""),
    ],
)
def test_a_refusals_words(message: str, body: bytes) -> None:
    assert message == refusal(404, body).message


def test_what_is_not_a_stated_message_stays_out_of_str() -> None:
    assert "Bad Gateway" == str(refusal(502, b"<h1>secret page</h1>")).partition(" ")[2].partition(" [")[0]


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("404 Not Found: Experience not found", "Experience not found"),
        ("404 Not Found: Missing required parameter: metricsType", "Missing required parameter: metricsType"),
        ("404 Not Found: pageSize must be between 1 and 100", "pageSize must be between 1 and 100"),
        ("404 Not Found: user <...> is not known", "user user-7 is not known"),
        ("404 Not Found: no scan from <...>", "no scan from 203.0.113.9"),
        ("404 Not Found: no scan by <...>", "no scan by Mozilla/5.0 (Phone)"),
        ("404 Not Found", "Not Found"),
    ],
)
def test_str_repeats_the_message_without_what_is_personal_and_the_message_keeps_all(shown: str, said: str) -> None:
    error = refusal(404, b'{"message": "' + said.encode() + b'"}')
    assert (shown, said) == (str(error), error.message)


def test_a_body_is_kept_with_a_little_slack_to_be_cut_when_keys_are_blanked() -> None:
    assert 4096 + 1024 == len(refusal(500, "é".encode() * 9000).body)


@pytest.mark.parametrize("name", ["X-Request-Id", "Request-Id", "X-Amzn-RequestId", "CF-Ray"])
def test_request_id(name: str) -> None:
    assert "abc" == refusal(500, headers={name: "abc"}).request_id


@pytest.mark.parametrize(
    ("throttled", "status", "headers"),
    [
        (True, 429, {}),
        (True, 429, {"Retry-After": "5"}),
        (True, 503, {"Retry-After": "5"}),
        (False, 503, {}),
        (False, 500, {"Retry-After": "5"}),
        (False, 404, {"Retry-After": "5"}),
    ],
)
def test_who_slows_everybody_down(*, throttled: bool, status: int, headers: dict[str, str]) -> None:
    result = reading(status, b"", headers=headers)
    expected = headers.get("Retry-After") if status != 404 else None
    assert (throttled, expected) == (result.throttled, result.retry_after)


@pytest.mark.parametrize(
    ("words", "location"),
    [
        ("'https://evil.example/take'", "https://evil.example/take?key=sk_secret#x"),
        ("'evil.example/x'", "https://user:password@evil.example/x"),
        ("'/elsewhere'", "/elsewhere"),
        ("'file:///etc/passwd'", "file:///etc/passwd"),
        ("without a Location", ""),
    ],
)
def test_redirects_are_refused_and_say_where_to(words: str, location: str) -> None:
    result = reading(302, b"", headers={"Location": location} if location else {})
    assert isinstance(result.error, errors.ProtocolError)
    assert (True, False, True) == (words in str(result.error), result.again, "base_url" in str(result.error))


@pytest.mark.parametrize("status", [300, 304, 399])
def test_every_3xx_is_a_redirect(status: int) -> None:
    assert isinstance(reading(status, b"{}").error, errors.ProtocolError)


@pytest.mark.parametrize(
    ("cls", "again", "kind"),
    [
        (errors.ConnectError, True, "connect"),
        (errors.TLSError, False, "tls"),
        (errors.RequestTimeoutError, True, "timeout"),
        (errors.TransportError, True, "broken"),
        (errors.ProtocolError, True, "protocol"),
        (errors.ProtocolError, False, "refused"),
        (errors.DecodeError, False, "encoding"),
    ],
)
def test_failures(cls: type[errors.DistinctError], kind: NoResponseKind, *, again: bool) -> None:
    result = read(DISTINCT, NoResponse(kind, "what happened"))
    assert (cls, again, "what happened") == (type(result.error), result.again, result.error and result.error.message)


def test_where_the_deadline_ended_an_attempt_there_is_no_other() -> None:
    limits: list[errors.TimeLimit] = ["connect", "attempt", "deadline"]
    readings = [read(DISTINCT, NoResponse("timeout", "late", limit)) for limit in limits]
    assert [True, True, False] == [reading.again for reading in readings]


def test_a_timeout_names_its_limit() -> None:
    error = read(DISTINCT, NoResponse("timeout", "late", "connect")).error
    assert isinstance(error, errors.RequestTimeoutError)
    assert "connect" == error.limit


@given(
    status=st.integers(200, 599),
    body=st.binary(max_size=80) | st.sampled_from([b'{"data":', b'{"statusCode":404}', b"[]", b"{}"]),
    vendor=st.sampled_from(["distinct", "vantio"]),
    kind=st.sampled_from(["application/json", "text/html", ""]),
)
def test_any_answer_is_a_payload_or_one_of_our_errors(status: int, body: bytes, vendor: Vendor, kind: str) -> None:
    result: Reading[Any] = read(Request(vendor, "op", "/"), Response(status, {"Content-Type": kind}, body))
    assert result.error is not None or status < 300
    assert result.error is None or isinstance(result.error, errors.DistinctError)


def test_what_a_request_reads_in_one_go_is_the_payload_and_what_it_does_not_is_read_as_ever() -> None:
    good, cut = Response(200, {}, b'\xef\xbb\xbf{"data": {}}'), Response(200, {}, b'{"data": {')
    html = Response(200, {"Content-Type": "text/html"}, b'{"data": {}}')
    asked: list[bytes] = []

    def one(body: bytes) -> str:
        asked.append(body)
        return "read"

    quick = Request("distinct", "op", "/", decoder=Decoder[Any](one, lambda raw: raw))
    assert "read" == read(quick, good).value
    assert read(quick, html).error is not None
    assert read(quick, evolve(good, status=404)).error is not None
    assert [b'{"data": {}}'] == asked  # neither of the others
    slow = Request("distinct", "op", "/", decoder=Decoder[Any](lambda _: None, lambda raw: raw))
    assert (msgspec.Raw(b"{}"), True) == (read(slow, good).value, read(slow, cut).again)


HALF = b'"half": "\\ud83d"'


@pytest.mark.parametrize(
    ("expected", "body"),
    [
        (errors.NotFoundError, b'{"statusCode": 404, "message": "gone", %b}' % HALF),
        (errors.ServerError, b'{"statusCode": "500", %b, "data": null}' % HALF),
        (errors.DecodeError, b'{"statusCode": 200, %b, "data": 1e999}' % HALF),
        (errors.DecodeError, b'{"statusCode": 200, %b, "data": NaN}' % HALF),
    ],
)
def test_a_body_with_half_a_surrogate_pair_is_read_like_any_other(expected: type[Exception], body: bytes) -> None:
    assert expected is type(reading(200, body).error)


def test_numbers_beside_half_a_surrogate_pair_are_kept() -> None:
    value = reading(200, b'{"statusCode": 200, %b, "data": 1.5}' % HALF).value
    assert value is not None
    assert b"1.5" == bytes(value)


def test_a_very_long_error_body_is_not_decoded() -> None:
    body = b'{"message": "no", "rows": "%b"}' % (b"x" * 2**20)
    error = reading(400, body).error
    assert isinstance(error, errors.BadRequestError)
    assert (False, True) == (error.stated, error.message.startswith('{"message"'))
