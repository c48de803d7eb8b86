"""What reaches a URL, a parameter or a setting is an exact str, int or float, whatever subclass was given."""

import enum
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from distinct_async import Checkpoint, DistinctClient, RetryPolicy, Timeouts
from distinct_async.errors import ConfigurationError, DistinctError, InvalidRequestError
from distinct_async.testing import FakeServer


class Member(str, enum.Enum):  # noqa: UP042  # this is the kind that f-strings show as Member.ID
    EXP = "exp-1"
    TP = "tp-1"
    USER = "user-1"
    IMP = "imp_000001"
    PROGRAM = "prog-1"
    TOTAL = "TOTAL"
    WARN = "warn"


Modern = enum.StrEnum("Modern", {each.name: each.value for each in Member})  # type: ignore[misc]  # made at run time


class Loud(str):
    """A str that shows itself otherwise."""

    __slots__ = ()

    def __str__(self) -> str:
        return "loud"

    def __repr__(self) -> str:
        return "Loud()"

    def __format__(self, _: str) -> str:
        return "loud"


KINDS: dict[str, Callable[[str], Any]] = {
    "str, Enum": Member,
    "StrEnum": Modern,
    "subclass": Loud,
    "numpy": np.str_,
}
CALLS: dict[str, Callable[[DistinctClient, Callable[[str], Any]], Any]] = {
    "experience": lambda client, of: client.metrics.experience(of("exp-1")),
    "user": lambda client, of: client.metrics.user(of("user-1"), experience_id=of("exp-1")),
    "touchpoint": lambda client, of: client.metrics.touchpoint(
        of("tp-1"), visits_type=of("TOTAL"), experience_id=of("exp-1")
    ),
    "total_visits": lambda client, of: client.metrics.total_visits(
        of("tp-1"), experience_id=of("exp-1"), on_drift=of("warn")
    ).collect(),
    "unique_visits": lambda client, of: client.metrics.unique_visits(of("tp-1")).collect(),
    "get": lambda client, of: client.impressions.get(of("imp_000001")),
    "list": lambda client, of: client.impressions.list(program_id=of("prog-1"), poster_id=of("prog-1")).collect(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
async def test_an_id_goes_out_as_its_text(client: DistinctClient, fake: FakeServer, call: str, kind: str) -> None:
    outcomes = []
    for of in (str, KINDS[kind]):
        try:
            outcomes.append(await CALLS[call](client, of))
        except DistinctError as error:
            outcomes.append(str(error).partition("attempt")[0])
        client._engine.core.impressions.clear()
    plain, given = outcomes
    assert plain == given
    half = len(fake.requests) // 2
    plainly, requests = fake.requests[:half], fake.requests[half:]
    assert [(each.path, each.query) for each in plainly] == [(each.path, each.query) for each in requests]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_checkpoint_and_an_operation_show_the_text_of_an_id(client: DistinctClient, kind: str) -> None:
    walk = client.metrics.total_visits(KINDS[kind]("tp-1"), experience_id=KINDS[kind]("exp-1"))
    page = await walk
    assert Checkpoint.from_json(page.checkpoint.to_json()) == page.checkpoint
    assert "total_visits(touchpoint_id='tp-1', experience_id='exp-1')" in repr(walk)
    assert {str} == {type(value) for value in page.checkpoint.question.ids.values()}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_and_a_url_are_exact_texts_too(fake: FakeServer, kind: str) -> None:
    key, url = KINDS[kind], str(fake.url)
    given: Any = (
        {"api_key": Loud(fake.api_key), "base_url": Loud(url)} if kind == "subclass" else {"api_key": key("exp-1")}
    )
    async with DistinctClient(**fake.settings | given) as client:
        assert str is type(client._engine.core.settings.key("distinct").value)
        assert {str} == set(map(type, client.base_urls.values()))
        if kind == "subclass":
            await client.metrics.experience("exp-1")


@pytest.mark.parametrize("wrong", [b"exp-1", 5, None, ["exp-1"], Ellipsis], ids=repr)
async def test_what_is_no_str_is_no_id(client: DistinctClient, fake: FakeServer, wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="experience_id must be a str"):
        await client.metrics.experience(wrong)
    assert [] == fake.requests


class Index:
    """An integer by `__index__` alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


class Five(enum.IntEnum):
    FIVE = 5


FIVES: list[Any] = [np.int8(5), np.int32(5), np.uint16(5), np.int64(5), np.array(5), Index(5), Five.FIVE]
NO_INTS: list[Any] = [True, np.True_, 5.0, np.float64(5), "5", b"5", Fraction(5), np.array([5, 6])]
NAMES = ["page_size", "offset", "limit", "prefetch"]


@pytest.mark.parametrize("five", FIVES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("name", NAMES)
async def test_an_argument_takes_what_is_an_integer(
    client: DistinctClient, fake: FakeServer, name: str, five: Any
) -> None:
    walk = client.metrics.total_visits("tp-1", **{name: five})
    assert (int, 5) == (type(getattr(walk, name)), getattr(walk, name))
    rows = await walk.collect()
    expected = await client.metrics.total_visits("tp-1", **{name: 5}).collect()  # type: ignore[arg-type]
    assert expected == rows
    half = len(fake.requests) // 2
    assert [each.query for each in fake.requests[half:]] == [each.query for each in fake.requests[:half]]
    if name in {"page_size", "offset"}:
        options: Any = {name: five}
        await client.metrics.touchpoint("tp-1", **options)
        await client.metrics.experience("exp-1", **options)
        assert ["5", "5"] == [
            each.query.get("pageSize" if name == "page_size" else "offset") for each in fake.requests[-2:]
        ]


@pytest.mark.parametrize("wrong", NO_INTS, ids=repr)
@pytest.mark.parametrize("name", NAMES)
async def test_what_is_no_integer_is_refused(client: DistinctClient, name: str, wrong: Any) -> None:
    options: Any = {name: wrong}
    with pytest.raises(InvalidRequestError, match=f"{name} must be an int"):
        client.metrics.total_visits("tp-1", **options)
    if name in {"page_size", "offset"}:
        for call in (client.metrics.touchpoint, client.metrics.experience):
            with pytest.raises(InvalidRequestError, match=f"{name} must be an int"):
                await call("x", **options)


SIZES = ["max_concurrency", "impression_cache", "max_body"]


@pytest.mark.parametrize("name", [*SIZES, "attempts"])
def test_a_setting_takes_what_is_an_integer(name: str) -> None:
    for five in FIVES:
        options: Any = {name: five}
        if name == "attempts":
            kept = RetryPolicy(**options).attempts
        else:
            kept = getattr(DistinctClient(**options)._engine.core.settings, name)
        assert (int, 5) == (type(kept), kept)
    for wrong in NO_INTS:
        options = {name: wrong}
        with pytest.raises(ConfigurationError, match=f"{name} must be an int"):
            RetryPolicy(**options) if name == "attempts" else DistinctClient(**options)


HALVES: list[Any] = [np.float16(0.5), np.float32(0.5), np.float64(0.5), Fraction(1, 2), 0.5]
NO_FLOATS: list[Any] = [True, np.True_, "0.5", None, 0.5j, np.nan, np.inf, np.float32("nan"), np.array([0.5, 0.5])]


@pytest.mark.parametrize("half", HALVES, ids=lambda value: type(value).__name__)
def test_a_setting_takes_what_is_a_real_number(half: Any) -> None:
    client = DistinctClient(timeout=half, deadline=half, rate_limit=half, retry=RetryPolicy(base=half, cap=half))
    limits = client._engine.options
    kept = [limits.timeouts.attempt, limits.deadline, client._engine.core.settings.rate_limit]
    kept += [limits.retry.base, limits.retry.cap, Timeouts(connect=half).connect]
    assert [(float, 0.5)] * 6 == [(type(each), each) for each in kept]


@pytest.mark.parametrize("wrong", NO_FLOATS, ids=repr)
def test_what_is_no_finite_number_is_refused(wrong: Any) -> None:
    for make in (Timeouts, RetryPolicy):
        name = "connect" if make is Timeouts else "base"
        with pytest.raises(ConfigurationError, match=f"{name} must be a finite number"):
            make(**{name: wrong})
