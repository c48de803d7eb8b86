"""Whether to try again and after how long, and the budget that keeps retries from becoming a storm.

* A failure that may pass is retried while attempts are left (`dialect` says which failures may).
* The wait is the server's ``Retry-After`` if it is legible and at most `RetryPolicy.max_retry_after`; a longer one ends
  the call at once. Without it: full jitter under a doubling ceiling
  (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
* A wait that would pass the deadline is not begun.
* Neither vendor documents 429, 5xx or ``Retry-After``; Vantio says that rate limits exist
  (https://docs.vantio.app/api-reference/introduction). All of this is inferred, from RFC 9110 and from practice.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from math import inf
from numbers import Real
from typing import Any

from attrs import Attribute, define, evolve, field, frozen

from distinct_async.errors import ConfigurationError
from distinct_async.sansio.messages import Reading, exact_int

_MAX_NUMBER = 1e15  # more than any clock of an event loop can add
_SECONDS = re.compile(r"\d{1,10}(?:\.\d{1,9})?", re.ASCII)
# The three date forms. The parser itself would take the first of two dates that a doubled header joins.
_HTTP_DATE = re.compile(
    r"[a-z]{3,9},? (?:\d{1,2}[ -][a-z]{3}[ -]\d{2,4}|[a-z]{3} [ \d]\d) \d\d:\d\d:\d\d"
    r"(?: \d{4})?(?: [a-z]{1,5}| [+-]\d{4})?",
    re.ASCII | re.IGNORECASE,
)


def invalid(name: str, problem: str, **fields: Any) -> ConfigurationError:  # noqa: ANN401  # those of the class
    """Return the error for an invalid setting, under the name that the caller knows."""
    return ConfigurationError(f"{name} {problem}", **{"setting": name, "problem": problem, **fields})


def number(
    least: float = 0, *, above: float | None = None, unit: str = ""
) -> Callable[[object, "Attribute[Any]", Any], None]:
    """Return an attrs validator for a finite number, or for an int if the field is one.

    The field is set to the exact int or float, should NumPy have made the value. An attrs converter cannot do that: a
    plain one does not know the field's name, and mypy (2.4) does not accept an `attrs.Converter`.

    Args:
        least: The smallest value allowed.
        above: If given, the value must be larger than this, and `least` does not matter.
        unit: What the number counts, for the message.
    """
    bound = f"at least {least:g}" if above is None else f"> {above:g}"
    bound = f"{bound} {unit}".strip()

    def check_number(instance: object, attribute: "Attribute[Any]", value: object) -> None:
        exact: float | None
        if attribute.type is int:
            exact, expected = exact_int(value), "an int"
        else:
            exact, expected = _exact_float(value), "a finite number"
        if exact is None:
            raise invalid(attribute.name, f"must be {expected}, got {value!r}")
        if exact < least if above is None else exact <= above:
            raise invalid(attribute.name, f"must be {bound}, got {exact:g}")
        object.__setattr__(instance, attribute.name, exact)

    return check_number


def _exact_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):  # which NumPy's numbers are, of whatever size
        return None
    try:
        exact = float(value)
    except OverflowError:
        return None
    return exact if -_MAX_NUMBER < exact < _MAX_NUMBER else None  # NaN is within no bounds


def instance_of(cls: type) -> Callable[[object, "Attribute[Any]", object], None]:
    """Return an attrs validator for an instance of `cls`."""

    def check_instance(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if not isinstance(value, cls):
            raise invalid(attribute.name, f"must be a {cls.__name__}, got {type(value).__name__}")

    return check_instance


def callback_problem(value: object) -> str:
    """Return why a value cannot be called back: no function, or one that would have to be awaited; else nothing."""
    if callable(value) and not iscoroutinefunction(value):
        return ""
    return f"must be a plain function, got {'a coroutine function' if callable(value) else type(value).__name__}"


@frozen
class RetryPolicy:
    """How often a call is tried, and how long it waits in between.

    Attributes:
        attempts: Requests for one call at most, 1 or more; 1 never retries.
        base: Ceiling of the first wait, in seconds, 0 or more; it doubles with each further one. Each wait is drawn
            evenly between 0 and its ceiling.
        cap: Seconds, 0 or more, that no ceiling exceeds.
        max_retry_after: Seconds, 0 or more; a longer ``Retry-After`` is not waited for, its error comes at once.
        sleep: False decides as usual but waits for nothing, for test suites.

    Raises:
        ConfigurationError: For invalid numbers.
    """

    attempts: int = field(default=4, validator=number(least=1))
    base: float = field(default=0.5, validator=number(unit="seconds"))
    cap: float = field(default=20.0, validator=number(unit="seconds"))
    max_retry_after: float = field(default=60.0, validator=number(unit="seconds"))
    sleep: bool = field(default=True, kw_only=True, validator=instance_of(bool))


@frozen
class RetryDecision:
    """What follows a failed attempt: all that the engine does next.

    Attributes:
        wait: Seconds until the next attempt; None if there is none.
        tokens: What the next attempt takes from the retry budget.
        pause: Seconds during which no request to the vendor starts; 0 for no pause.
        retry_after: Seconds that the server asked for; None if it did not, or not legibly.
        reason: Why a failure that may pass is not retried although attempts are left.
    """

    wait: float | None = None
    tokens: int = 0
    pause: float = 0.0
    retry_after: float | None = None
    reason: str = ""


def judge(
    policy: RetryPolicy,
    reading: Reading[Any],
    *,
    attempt: int,
    elapsed: float,
    now: datetime,
    jitter: float,
    deadline: float = inf,
    tokens: int | None = None,
) -> RetryDecision:
    """Decide what follows an attempt that failed.

    Args:
        policy: The client's retry policy.
        reading: The attempt's outcome.
        attempt: Which attempt it was, 1 or more.
        elapsed: Seconds since the call got its slot.
        now: The time of day, for a ``Retry-After`` that is a date and comes without a ``Date``.
        jitter: A random number, drawn evenly from [0, 1).
        deadline: Seconds that the call may take in all.
        tokens: What is left in the retry budget; None for a full one.
    """
    server_wait = retry_after(reading.retry_after, http_date(reading.date) or now)
    within_limit = server_wait is not None and server_wait <= policy.max_retry_after
    pause = server_wait if server_wait and within_limit and reading.throttled and policy.sleep else 0.0
    no_retry = RetryDecision(pause=pause, retry_after=server_wait)
    if not reading.again or attempt >= policy.attempts:
        return no_retry
    if server_wait is not None and not within_limit:
        limit_text = f"this client waits at most {policy.max_retry_after:.6g} s"
        return evolve(no_retry, reason=f"not retried: the server asks for {server_wait:.6g} s, and {limit_text}")
    # min() over the exponent keeps 2.0 ** attempt finite, whatever `attempts` says
    backoff = jitter * min(policy.cap, policy.base * 2.0 ** min(attempt - 1, 64))
    wait = backoff if server_wait is None else server_wait
    if elapsed + wait >= deadline:
        deadline_left = f"{max(0.0, deadline - elapsed):.3g} s before the deadline"
        return evolve(no_retry, reason=f"not retried: the next attempt is due in {wait:.3g} s, with {deadline_left}")
    cost = THROTTLED_COST if reading.throttled else TRANSIENT_COST
    if tokens is not None and tokens < cost:
        return evolve(no_retry, reason="not retried: so many calls have failed that the retry budget is used up")
    return evolve(no_retry, wait=wait if policy.sleep else 0.0, tokens=cost)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for, 0 if its date has passed; None if it is not legible.

    Two values, a negative one, an empty one and anything else that is neither a number nor a date are not legible.

    Args:
        header: Seconds, or a date (RFC 9110, section 10.2.3).
        now: The server's time of day.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    date = http_date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def http_date(header: str | None) -> datetime | None:
    """Return a date in any of the three forms of RFC 9110, section 5.6.7, in UTC if it has no zone; or None."""
    text = (header or "").strip()
    if not _HTTP_DATE.fullmatch(text):
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # a tenth of our import, for the rarest of headers

    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):  # a 45th of May, a year 99999
        return None


FULL_BUDGET = 500  # tokens; these numbers are botocore's and the AWS SDKs' standard retry quota
TRANSIENT_COST = 14
THROTTLED_COST = 5


@define
class Budget:
    """The retry budget of one vendor: each retry takes from it, success gives back.

    In an outage it empties and calls fail after one attempt; afterwards first-attempt successes refill it.

    Attributes:
        tokens: What is left.
    """

    tokens: int = FULL_BUDGET

    def give_back(self, taken: int) -> None:
        """Give back what a retry took that succeeded or was never sent; 1 for a success at the first attempt (0)."""
        self.tokens = min(FULL_BUDGET, self.tokens + (taken or 1))
