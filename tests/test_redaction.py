"""A vendor's message is shown; what of it could name a person, a device or a key is not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distinct_async.redaction import redact


@pytest.mark.parametrize(
    "message",
    [
        "Experience not found",
        "Missing required parameter: metricsType",
        "pageSize must be between 1 and 100",
        'Unknown value "SUM" for metricsType (expected: EXPERIENCE, USER, TOUCHPOINT)',
        "offset 50000 exceeds total of 1200; use offset <= 1199",
        "Rate limit of 100 requests/min exceeded. Retry in 30s.",
        "GET /v3/touchpoint/metrics?metricsType=USER: 400",
        "Invalid date 2024-01-15, expected 2024-01-15T10:30:00.123Z or 2024-01-15 10:30",
        "allowed: 10, 25, 50, 100, 250, 500, 1000",
        "at 12:30:45, in std::vector<int>, 50% of 3.14159",
        "touchpoint 3f2b8c1d-1a34-5678-9012-12345678901a is of experience 47Gop5",
        "impression imp_000001 of poster-17/b [E1042]",
        "1,000,000 rows are too many!",
        "version 1.2.3 of HTTP/1.1 is needed",
        "kein Zugriff für Schlüssel № 7, später erneut versuchen",
        "20240115T103000Z",
        "a::b",
    ],
)
def test_a_message_about_the_request_is_shown_whole(message: str) -> None:
    assert message == redact(message)


@pytest.mark.parametrize(
    "personal",
    [
        # e-mail addresses
        *("jane.doe@example.com", "jane+qr@mail.example.co.uk", "jane@localhost", "jane%40example.com", "j@[10.0.0.1]"),
        *('"jane doe"@example.com', "jané@exämple.com", "jane\uff20example.com", "JANE_DOE-1@EXAMPLE.COM"),
        # addresses
        *("203.0.113.9", "10.0.0.1", "255.255.255.255", "2001:db8::8a2e:370:7334", "fe80::1%eth0", "::1", "2001:DB8::"),
        *("::ffff:192.0.2.1", "2001:0db8:0000:0000:0000:8a2e:0370:7334", "1::"),
        # phone numbers
        *("+49 170 1234567", "+491701234567", "+1 (555) 123-4567", "(555) 123-4567", "555-123-4567", "555.123.4567"),
        *("0170/1234567", "01 23 45 67 89", "5551234567", "00491701234567", "555-1234", "+49 30 123456"),
        # devices and keys
        *(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
            "okhttp/4.9",
        ),
        *("sk_live_4242", "Bearer abc.def-ghi"),
    ],
)
@pytest.mark.parametrize(
    "frame",
    ["{}", "no scan by {} yet", "({})", '"{}"', "id={}, page 1", "of: {}.", "<{}>", "for {}; retry", "ip:{}", "[{}]"],
)
def test_what_could_name_a_person_is_not(personal: str, frame: str) -> None:
    shown = redact(frame.format(personal))
    assert "<...>" in shown
    for piece in personal.replace("(", " ").replace("@", " ").split():
        if len(piece) > 3 and not (frame == "id={}, page 1" and piece == "page"):
            assert piece.strip('."') not in shown


USERS = ["user-8c1d-of-a-visitor", "7", "a", "Jane Doe", "jane/doe", "x&y", "4242-4242", "(x", "ünï", "a.b*c", "<b>"]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("frame", ["user {} is not known", "{}", "userId={}", "no scans: '{}'.", "({})"])
def test_the_requests_own_user_is_not(user: str, frame: str) -> None:
    assert frame.format("<...>") == redact(frame.format(user), (user,))
    assert frame.format("<...>") == redact(frame.format(user.upper()), (user,))


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("jane/doe", "/users/jane%2Fdoe"),
        ("jane/doe", "/users/jane%2fdoe"),
        ("x&y Ltd", "of x&amp;y Ltd"),
        ("jane doe", "userId=jane%20doe"),
        ("user-77", "xuser-77x"),
    ],
)
def test_nor_in_another_encoding(user: str, said: str) -> None:
    shown = redact(said, (user,))
    assert "<...>" in shown
    assert not any(word in shown.lower() for word in ("jane", "doe", "ltd", "77"))


def test_a_short_id_does_not_hide_what_only_contains_it() -> None:
    assert "user <...> asked for 100 of 12" == redact("user 1 asked for 100 of 12", ("1",))
    assert "a user" == redact("a user", ("", "use"))


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (r"red\x1b[31m alert\x07", "red\x1b[31m alert\x07"),
        (r"two\nlines\r\n\tand a tab", "two\nlines\r\n\tand a tab"),
        (r"\x00\x7f\x9b", "\x00\x7f\x9b"),
        (r"\u202etxt\u200b\u2028", "\u202etxt\u200b\u2028"),
        (r"cut \ud83d", "cut \ud83d"),
    ],
)
def test_control_characters_are_escaped(shown: str, message: str) -> None:
    assert shown == redact(message)


@pytest.mark.parametrize("length", [300, 301, 1999, 2000, 2001, 10**6])
def test_a_long_message_is_cut_between_words(length: int) -> None:
    message = ("word " * length)[:length]
    shown = redact(message)
    assert (length <= 300) == (shown == message)
    assert length <= 300 or (shown.endswith(" word ...") and 290 < len(shown) <= 304)


def test_no_half_of_an_id_is_left_at_the_cut() -> None:
    for start in range(270, 330):
        shown = redact("x" * (start - 1) + " jane.doe@example.com is not known, nor is anybody else" + " word" * 400)
        assert "jan" not in shown
        assert "user" not in redact("x " * 995 + "user-8c1d-of-a-visitor"[: start - 260] + " word" * 99, ("user-8c1d",))


@given(st.text(max_size=400), st.lists(st.text(max_size=9), max_size=3))
def test_any_text_becomes_one_line_that_can_be_printed_and_is_not_long(message: str, private: list[str]) -> None:
    shown = redact(message, private)
    assert shown.isprintable()
    assert len(shown) <= 304 * 10  # each sign may be an escape


@pytest.mark.parametrize("sign", ["a", "1", ":", "@", "(", "a/1 ", "1.", "+", '"', "%40", "\x00", "é", "1 ", "a@"])
def test_no_message_takes_long_to_look_through(sign: str) -> None:
    began = time.process_time()
    redact(sign * 10**6, ("user-1", "7"))
    assert time.process_time() - began < 0.5
