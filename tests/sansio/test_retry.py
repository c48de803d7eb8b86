"""The retry decision: a table, and what holds for every case."""

from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distinct_async.errors import ConfigurationError, ServerError
from distinct_async.sansio.messages import Reading
from distinct_async.sansio.retry import FULL_BUDGET, Budget, RetryDecision, RetryPolicy, judge, retry_after

NOW = datetime(2024, 1, 1, 12, 0, 0, tzinfo=UTC)
POLICY = RetryPolicy(attempts=4, base=0.5, cap=20.0, max_retry_after=60.0)


def failed(
    *, again: bool = True, retry_after: str | None = None, date: str | None = None, throttled: bool = False
) -> Reading[Any]:
    return Reading(error=ServerError("no"), again=again, retry_after=retry_after, date=date, throttled=throttled)


def decide(reading: Reading[Any], policy: RetryPolicy = POLICY, **facts: Any) -> RetryDecision:
    return judge(policy, reading, **{"attempt": 1, "elapsed": 0.0, "now": NOW, "jitter": 0.5, **facts})


@pytest.mark.parametrize(
    ("wait", "reading", "attempt", "elapsed", "jitter", "deadline"),
    [
        # full jitter under a doubling ceiling: 0.5, 1, 2
        (0.25, failed(), 1, 0.0, 0.5, 90.0),
        (0.5, failed(), 2, 0.0, 0.5, 90.0),
        (1.0, failed(), 3, 0.0, 0.5, 90.0),
        (0.0, failed(), 1, 0.0, 0.0, 90.0),
        # attempts are used up; not worth it
        (None, failed(), 4, 0.0, 0.5, 90.0),
        (None, failed(again=False), 1, 0.0, 0.5, 90.0),
        # what the server asks for, whatever the jitter
        (7.0, failed(retry_after="7"), 1, 0.0, 0.9, 90.0),
        (60.0, failed(retry_after="60"), 1, 0.0, 0.9, 90.0),
        (30.0, failed(retry_after="Mon, 01 Jan 2024 12:00:30 GMT"), 1, 0.0, 0.9, 90.0),
        (None, failed(retry_after="61"), 1, 0.0, 0.9, inf),
        (0.25, failed(retry_after="soon"), 1, 0.0, 0.5, 90.0),
        # a wait that would pass the deadline is not begun
        (0.25, failed(), 1, 89.7, 0.5, 90.0),
        (None, failed(), 1, 89.75, 0.5, 90.0),
        (None, failed(retry_after="10"), 1, 85.0, 0.5, 90.0),
        (10.0, failed(retry_after="10"), 1, 1e9, 0.5, inf),
    ],
)
def test_the_wait_until_the_next_attempt(
    wait: float | None, reading: Reading[Any], attempt: int, elapsed: float, jitter: float, deadline: float
) -> None:
    decision = decide(reading, attempt=attempt, elapsed=elapsed, jitter=jitter, deadline=deadline)
    assert (wait, 0 if wait is None else 14) == (decision.wait, decision.tokens)


@pytest.mark.parametrize(
    ("reason", "reading", "facts"),
    [
        ("", failed(), {}),
        ("", failed(again=False, retry_after="61"), {}),
        ("", failed(retry_after="61"), {"attempt": 4}),
        ("the server asks for 3600 s, and this client waits at most 60 s", failed(retry_after="3600"), {}),
        ("the next attempt is due in 10 s, with 5 s before the", failed(retry_after="10"), {"deadline": 5.0}),
        ("the next attempt is due in 0.25 s, with 0 s before the", failed(), {"elapsed": 9.0, "deadline": 5.0}),
        ("so many calls have failed", failed(), {"tokens": 13}),
        ("so many calls have failed", failed(throttled=True), {"tokens": 4}),
        ("", failed(throttled=True), {"tokens": 5}),
        ("", failed(), {"tokens": 14}),
    ],
)
def test_why_a_failure_is_not_retried(reason: str, reading: Reading[Any], facts: dict[str, Any]) -> None:
    decision = decide(reading, **facts)
    assert decision.reason.startswith(f"not retried: {reason}" if reason else "")
    assert bool(reason) == bool(decision.reason)
    assert not reason or decision.wait is None


@pytest.mark.parametrize(
    ("pause", "asked", "reading"),
    [
        (7.0, 7.0, failed(throttled=True, retry_after="7")),
        (60.0, 60.0, failed(throttled=True, retry_after="60")),
        (0.0, 61.0, failed(throttled=True, retry_after="61")),
        (0.0, 7.0, failed(retry_after="7")),
        (0.0, 0.0, failed(throttled=True, retry_after="0")),
        (0.0, None, failed(throttled=True)),
        (0.0, None, failed(throttled=True, retry_after="soon")),
    ],
)
@pytest.mark.parametrize("facts", [{}, {"attempt": 4}, {"deadline": 1.0}, {"tokens": 0}], ids=str)
def test_the_pause_for_everybody_does_not_depend_on_this_call(
    pause: float, asked: float | None, reading: Reading[Any], facts: dict[str, Any]
) -> None:
    decision = decide(reading, **facts)
    assert (pause, asked) == (decision.pause, decision.retry_after)
    assert 0.0 == decide(reading, RetryPolicy(sleep=False), **facts).pause


def test_one_attempt_never_retries() -> None:
    assert RetryDecision() == decide(failed(), RetryPolicy(attempts=1))


def test_ceiling_stops_at_the_cap_however_many_attempts() -> None:
    policy = RetryPolicy(attempts=10_000, base=0.5, cap=20.0)
    assert 10.0 == decide(failed(), policy, attempt=9_000).wait


def test_without_sleep_it_decides_the_same_and_waits_for_nothing() -> None:
    policy = RetryPolicy(sleep=False)
    assert 0.0 == decide(failed(retry_after="7"), policy).wait
    assert None is decide(failed(retry_after="7"), policy, deadline=5.0).wait


# The client's clock is wrong by these seconds
@pytest.mark.parametrize("skew", [0, 1, -1, 3600, -3600, 86_400 * 365, -86_400 * 365])
@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S"]
)
def test_a_date_is_measured_from_the_responses_own_date(skew: int, form: str) -> None:
    later = (NOW + timedelta(seconds=30)).strftime(form)
    here = NOW + timedelta(seconds=skew)
    assert 30.0 == decide(failed(retry_after=later, date=NOW.strftime(form)), now=here).retry_after
    for no_date in (None, "", "now", NOW.isoformat(), "1704110400", f"{NOW.strftime(form)}, {NOW.strftime(form)}"):
        assert max(0.0, 30.0 - skew) == decide(failed(retry_after=later, date=no_date), now=here).retry_after
    assert 7.0 == decide(failed(retry_after="7", date=NOW.strftime(form)), now=here).retry_after
    assert 0.0 == decide(failed(retry_after=NOW.strftime(form), date=later), now=here).retry_after


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
    jitter=st.floats(0, 1, exclude_max=True),
    deadline=st.just(inf) | st.floats(0.001, 200),
    tokens=st.integers(0, 500),
)
def test_never_past_the_deadline_never_what_must_not_be_and_within_bounds(
    policy: RetryPolicy,
    *,
    again: bool,
    header: str | None,
    attempt: int,
    elapsed: float,
    jitter: float,
    deadline: float,
    tokens: int,
) -> None:
    decision = decide(
        failed(again=again, retry_after=header),
        policy,
        attempt=attempt,
        elapsed=elapsed,
        jitter=jitter,
        deadline=deadline,
        tokens=tokens,
    )
    if decision.wait is not None:
        assert again
        assert attempt < policy.attempts
        assert elapsed + decision.wait < deadline
        assert "" == decision.reason
        assert 0 < decision.tokens <= tokens
        asked = retry_after(header, NOW)
        assert 0 <= decision.wait <= (policy.cap if asked is None else policy.max_retry_after)
    else:
        assert 0 == decision.tokens
        assert not again or attempt >= policy.attempts or decision.reason


def test_success_gives_back_one_and_a_retried_one_what_it_took() -> None:
    budget = Budget(tokens=100)
    budget.give_back(0)
    budget.tokens -= 14
    budget.give_back(14)
    assert 101 == budget.tokens


@given(st.lists(st.sampled_from(["transient", "throttled", "fine"]), max_size=400))
def test_budget_stays_between_empty_and_full_and_recovers(story: list[str]) -> None:
    budget, taken = Budget(), 0
    for event in story:
        if event == "fine":
            budget.give_back(taken)
            taken = 0
        else:
            taken = decide(failed(throttled=event == "throttled"), tokens=budget.tokens).tokens
            budget.tokens -= taken
        assert 0 <= budget.tokens <= FULL_BUDGET
    for _ in range(FULL_BUDGET):
        budget.give_back(0)
    assert FULL_BUDGET == budget.tokens


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
