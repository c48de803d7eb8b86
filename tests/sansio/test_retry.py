"""The retry decision: a table, and what holds for every case."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distinct_async.errors import ConfigurationError, ServerError
from distinct_async.sansio.messages import Reading
from distinct_async.sansio.retry import FULL, Accept, Again, Budget, Reject, RetryPolicy, judge, retry_after

NOW = datetime(2024, 1, 1, 12, 0, 0, tzinfo=UTC)
POLICY = RetryPolicy(attempts=4, base=0.5, cap=20.0, max_retry_after=60.0)


def failed(*, again: bool = True, retry_after: str | None = None) -> Reading:
    return Reading(error=ServerError("no"), again=again, retry_after=retry_after)


@pytest.mark.parametrize(
    ("verdict", "reading", "attempt", "elapsed", "dice", "deadline"),
    [
        (Accept(), Reading(), 1, 0.0, 0.5, 90.0),
        (Accept(), Reading(), 4, 100.0, 0.5, 90.0),
        # full jitter under a doubling ceiling: 0.5, 1, 2
        (Again(0.25), failed(), 1, 0.0, 0.5, 90.0),
        (Again(0.5), failed(), 2, 0.0, 0.5, 90.0),
        (Again(1.0), failed(), 3, 0.0, 0.5, 90.0),
        (Again(0.0), failed(), 1, 0.0, 0.0, 90.0),
        # attempts are used up; not worth it
        (Reject(), failed(), 4, 0.0, 0.5, 90.0),
        (Reject(), failed(again=False), 1, 0.0, 0.5, 90.0),
        # the server's wish, whatever the dice say
        (Again(7.0), failed(retry_after="7"), 1, 0.0, 0.9, 90.0),
        (Again(60.0), failed(retry_after="60"), 1, 0.0, 0.9, 90.0),
        (Again(30.0), failed(retry_after="Mon, 01 Jan 2024 12:00:30 GMT"), 1, 0.0, 0.9, 90.0),
        (Reject(), failed(retry_after="61"), 1, 0.0, 0.9, None),
        (Again(0.25), failed(retry_after="soon"), 1, 0.0, 0.5, 90.0),
        # a wait that would pass the deadline is not begun
        (Again(0.25), failed(), 1, 89.7, 0.5, 90.0),
        (Reject(), failed(), 1, 89.75, 0.5, 90.0),
        (Reject(), failed(retry_after="10"), 1, 85.0, 0.5, 90.0),
        (Again(10.0), failed(retry_after="10"), 1, 1e9, 0.5, None),
    ],
)
def test_verdict(
    verdict: object, reading: Reading, attempt: int, elapsed: float, dice: float, deadline: float | None
) -> None:
    assert verdict == judge(POLICY, reading, attempt, elapsed, NOW, dice, deadline=deadline)


def test_one_attempt_never_retries() -> None:
    assert Reject() == judge(RetryPolicy(attempts=1), failed(), 1, 0.0, NOW, 0.5)


def test_ceiling_stops_at_the_cap_however_many_attempts() -> None:
    policy = RetryPolicy(attempts=10_000, base=0.5, cap=20.0)
    assert Again(10.0) == judge(policy, failed(), 9_000, 0.0, NOW, 0.5)


@pytest.mark.parametrize(
    ("seconds", "header"),
    [
        (0.0, "0"),
        (120.0, "120"),
        (1.5, "1.5"),
        (7.0, " 7 "),
        # the three date forms of RFC 9110
        (90.0, "Mon, 01 Jan 2024 12:01:30 GMT"),
        (90.0, "Monday, 01-Jan-24 12:01:30 GMT"),
        (90.0, "Mon Jan  1 12:01:30 2024"),
        # without a zone it is UTC; another zone counts
        (90.0, "Mon, 01 Jan 2024 12:01:30"),
        (90.0, "Mon, 01 Jan 2024 14:01:30 +0200"),
        # past
        (0.0, "Sun, 06 Nov 1994 08:49:37 GMT"),
        # garbage
        (None, None),
        (None, ""),
        (None, "  "),
        (None, "-1"),
        (None, "+1"),
        (None, "soon"),
        (None, "1e3"),
        (None, "inf"),
        (None, "nan"),
        (None, "0x10"),
        (None, "1_000"),
        (None, "12345678901"),
        (None, "\u0665"),
        (None, "5, 7"),
        (None, "Mon, 01 Jan 2024 12:01:30 GMT, Mon, 01 Jan 2024 12:01:31 GMT"),
        (None, "5, Mon, 01 Jan 2024 12:01:30 GMT"),
        (None, "Mon, 45 Jan 2024 12:01:30 GMT"),
        (None, "Mon, 01 Jan 2024 99:99:99 GMT"),
        (None, "2024-01-01T12:01:30Z"),
    ],
)
def test_retry_after(seconds: float | None, header: str | None) -> None:
    assert seconds == retry_after(header, NOW)


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z]{3,9},? [0-9A-Za-z -]{6,12} [0-9:]{8}( [0-9]{4})?( GMT)?"))
def test_any_text_is_seconds_or_nothing(header: str) -> None:
    seconds = retry_after(header, NOW)
    assert seconds is None or 0.0 <= seconds < 1e12


@given(
    policy=st.builds(
        RetryPolicy,
        attempts=st.integers(1, 50),
        base=st.floats(0, 100),
        cap=st.floats(0, 100),
        max_retry_after=st.floats(0, 100),
    ),
    again=st.booleans(),
    header=st.none() | st.integers(-5, 200).map(str) | st.just("soon"),
    attempt=st.integers(1, 60),
    elapsed=st.floats(0, 200),
    dice=st.floats(0, 1, exclude_max=True),
    deadline=st.none() | st.floats(0.001, 200),
)
def test_never_past_the_deadline_never_what_must_not_be_and_within_bounds(
    policy: RetryPolicy,
    *,
    again: bool,
    header: str | None,
    attempt: int,
    elapsed: float,
    dice: float,
    deadline: float | None,
) -> None:
    verdict = judge(policy, failed(again=again, retry_after=header), attempt, elapsed, NOW, dice, deadline=deadline)
    if isinstance(verdict, Again):
        assert again
        assert attempt < policy.attempts
        assert deadline is None or elapsed + verdict.wait < deadline
        asked = retry_after(header, NOW)
        assert 0 <= verdict.wait <= (policy.cap if asked is None else policy.max_retry_after)
    else:
        assert verdict == Reject()


def test_budget_pays_transient_retries_until_it_is_empty() -> None:
    budget = Budget()
    taken = [budget.take(throttled=False) for _ in range(40)]
    assert ([14] * 35 + [0] * 5, 10) == (taken, budget.tokens)


def test_throttled_retries_cost_less() -> None:
    budget = Budget()
    assert 100 == sum(1 for _ in range(400) if budget.take(throttled=True))


def test_success_gives_back_one_and_a_retried_one_what_it_took() -> None:
    budget = Budget(tokens=100)
    budget.give_back(0)
    budget.give_back(budget.take(throttled=False))
    assert 101 == budget.tokens


@given(st.lists(st.sampled_from(["transient", "throttled", "fine"]), max_size=400))
def test_budget_stays_between_empty_and_full_and_recovers(story: list[str]) -> None:
    budget, taken = Budget(), 0
    for event in story:
        if event == "fine":
            budget.give_back(taken)
            taken = 0
        else:
            taken = budget.take(throttled=event == "throttled")
        assert 0 <= budget.tokens <= FULL
    for _ in range(FULL):
        budget.give_back(0)
    assert FULL == budget.tokens


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"base": -1},
        {"base": float("nan")},
        {"cap": float("inf")},
        {"cap": "1"},
        {"max_retry_after": -0.1},
        {"sleep": 1},
    ],
)
def test_policies_that_cannot_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


def test_a_date_is_measured_from_now() -> None:
    assert 30.0 == retry_after("Mon, 01 Jan 2024 12:01:30 GMT", NOW + timedelta(seconds=60))
