"""Whether to try again, and after how long; and the budget that keeps retries from becoming a storm.

* An outcome that is worth it is tried again while attempts are left (`dialect` says which are).
* The wait is the server's ``Retry-After`` where it is legible and at most `RetryPolicy.max_retry_after`; a longer one
  ends the call at once. Without it: full jitter under a doubling ceiling
  (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
* A wait that would pass the deadline is not begun.
* Neither vendor documents 429, 5xx or ``Retry-After``; Vantio says that rate limits exist
  (https://docs.vantio.app/api-reference/introduction). All of this is inferred, from RFC 9110 and from practice.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from numbers import Real
from typing import Any

from attrs import Attribute, define, field, frozen

from distinct_async.errors import ConfigurationError
from distinct_async.sansio.messages import Reading, exact_int

_ENORMOUS = 1e15  # more than any clock of an event loop can add
_SECONDS = re.compile(r"\d{1,10}(?:\.\d{1,9})?", re.ASCII)
# The three date forms. The parser itself would take the first of two dates that a doubled header joins.
_DATE = re.compile(
    r"[a-z]{3,9},? (?:\d{1,2}[ -][a-z]{3}[ -]\d{2,4}|[a-z]{3} [ \d]\d) \d\d:\d\d:\d\d"
    r"(?: \d{4})?(?: [a-z]{1,5}| [+-]\d{4})?",
    re.ASCII | re.IGNORECASE,
)


def refused(setting: str, problem: str, **fields: Any) -> ConfigurationError:  # noqa: ANN401  # those of the class
    """The error for a setting that cannot be used, named as the caller named it."""
    return ConfigurationError(f"{setting} {problem}", setting=setting, problem=problem, **fields)


def number(least: float = 0, *, above: float | None = None) -> Callable[[object, "Attribute[Any]", Any], None]:
    """An attrs validator: a finite number (an int where the field is one) of at least `least`, or above `above`.

    The field is set to the exact int or float, should NumPy have made the value. An attrs converter cannot do that: a
    plain one does not know the field's name, and mypy (2.4) does not accept an `attrs.Converter`.
    """

    def check(instance: object, attribute: "Attribute[Any]", value: object) -> None:
        exact: float | None
        if attribute.type is int:
            exact, expected = exact_int(value), "an int"
        else:
            exact, expected = _exact_float(value), "a finite number"
        if exact is None:
            raise refused(attribute.name, f"must be {expected}, got {value!r}")
        if exact < least or (above is not None and exact <= above):
            bound = f"at least {least:g}" if above is None else f"above {above:g}"
            raise refused(attribute.name, f"must be {bound}, got {exact:g}")
        object.__setattr__(instance, attribute.name, exact)

    return check


def _exact_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):  # which NumPy's numbers are, of whatever size
        return None
    try:
        exact = float(value)
    except OverflowError:
        return None
    return exact if -_ENORMOUS < exact < _ENORMOUS else None  # NaN is within no bounds


def kind(cls: type) -> Callable[[object, "Attribute[Any]", object], None]:
    """An attrs validator: a `cls`."""

    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if not isinstance(value, cls):
            raise refused(attribute.name, f"must be a {cls.__name__}, got {type(value).__name__}")

    return check


@frozen
class RetryPolicy:
    """How often a call is tried, and how long it waits in between.

    :param attempts: requests for one call at most, 1 or more; 1 never retries.
    :param base: seconds, 0 or more; the ceiling of the first wait, doubling with each further one. Each wait is drawn
        evenly between 0 and the ceiling.
    :param cap: seconds, 0 or more; no ceiling is higher.
    :param max_retry_after: seconds, 0 or more; a longer ``Retry-After`` is not waited for, its error comes at once.
    :param sleep: False decides as ever but waits for nothing: for the test suites of our users.
    :raises ConfigurationError: at once, for numbers that cannot be meant.
    """

    attempts: int = field(default=4, validator=number(1))
    base: float = field(default=0.5, validator=number())
    cap: float = field(default=20.0, validator=number())
    max_retry_after: float = field(default=60.0, validator=number())
    sleep: bool = field(default=True, kw_only=True, validator=kind(bool))


@frozen
class Accept:
    """The answer is good."""


@frozen
class Again:
    """Another attempt, after `wait` seconds."""

    wait: float


@frozen
class Reject:
    """The error is the caller's now."""


Verdict = Accept | Again | Reject


def judge(
    policy: RetryPolicy,
    outcome: Reading,
    attempt: int,
    elapsed: float,
    now: datetime,
    dice: float,
    *,
    deadline: float | None = None,
) -> Verdict:
    """Accept, try again, or reject.

    :param attempt: the attempt that just ended, 1 or more.
    :param elapsed: seconds since the call first held its slot.
    :param now: the time of day, for a ``Retry-After`` that is a date.
    :param dice: evenly drawn from [0, 1).
    :param deadline: seconds that the call may take in all.
    """
    if outcome.error is None:
        return Accept()
    if not outcome.again or attempt >= policy.attempts:
        return Reject()
    asked = retry_after(outcome.retry_after, now)
    if asked is not None and asked > policy.max_retry_after:
        return Reject()
    # min() over the exponent keeps 2.0 ** attempt finite, whatever `attempts` says
    wait = asked if asked is not None else dice * min(policy.cap, policy.base * 2.0 ** min(attempt - 1, 64))
    if deadline is not None and elapsed + wait >= deadline:
        return Reject()
    return Again(wait)


def retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a ``Retry-After`` asks for, 0 for a moment that has passed; None where it is not legible.

    Seconds, or a date in any of the three forms of RFC 9110, section 5.6.7; without a zone it is UTC. Two values, a
    negative one, an empty one and anything else are garbage, hence None.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if not _DATE.fullmatch(text):
        return None
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  # a tenth of our import, for the rarest of headers

    try:
        moment = parsedate_to_datetime(text)  # naive where no zone is given
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - now).total_seconds())
    except (ValueError, OverflowError):  # a 45th of May, a year 99999
        return None


FULL = 500  # tokens; these numbers are botocore's and the AWS SDKs' standard retry quota
TRANSIENT_COST = 14
THROTTLED_COST = 5


@define
class Budget:
    """What is left for retries, per vendor: each takes from it, success gives back.

    In an outage it empties and calls fail after one attempt; afterwards first-attempt successes refill it.
    """

    tokens: int = FULL

    def take(self, *, throttled: bool) -> int:
        """The tokens one retry costs, taken; 0 where they are not there, and nothing is taken."""
        cost = THROTTLED_COST if throttled else TRANSIENT_COST
        if self.tokens < cost:
            return 0
        self.tokens -= cost
        return cost

    def give_back(self, taken: int) -> None:
        """A success: after a retry what that retry took, else (`taken` is 0) 1."""
        self.tokens = min(FULL, self.tokens + (taken or 1))
