"""Whole walks against a list as the model: a server that lies and changes, and a window with responses in any order.

No loop and no socket: `Server` is a list, `walk` does with `WalkState` what the library's window does, and the rng say
which of the pages in flight is responded next, and when the list changes in between.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from attrs import define, evolve, field, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distinct_async.errors import DriftError, PageLoopError, PaginationError
from distinct_async.sansio.checkpoints import Question, digest
from distinct_async.sansio.drift import Continuity
from distinct_async.sansio.pages import OnDrift, PageFacts, PageRequest
from distinct_async.sansio.walk_state import WalkState

OPENING = datetime(2026, 6, 1, tzinfo=UTC)
DEFAULT_SIZE = 5
QUESTION = Question("metrics.total_visits", {"touchpoint_id": "tp-1"})

CASES = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@frozen
class Row:
    user: int
    time: datetime

    @property
    def digest(self) -> str:
        return digest(f"{self.user}\n{self.time}")


@frozen
class Refusal:
    status: int


Change = Callable[["Server"], None]


@define
class Server:
    rows: list[Row]
    cap: int | None = None
    echo: Literal["real", "asked"] | None = "real"
    totals: Literal["true", "page"] | None = "true"
    past_end: int | None = None
    ragged: bool = False  # each page as long as the rng say
    empties: int = 0  # so many empty pages at odd moments
    ignores_offset: bool = False
    ids: bool = False  # rows have ids
    rng: random.Random = field(factory=lambda: random.Random(7))
    lengths: list[int] = field(factory=list)  # of the pages so far

    def response(self, offset: int, page_size: int | None) -> PageFacts | Refusal:
        asked = page_size or DEFAULT_SIZE
        size = min(asked, self.cap or asked)
        start = 0 if self.ignores_offset else offset
        if self.past_end is not None and 0 < start >= len(self.rows):
            return Refusal(self.past_end)
        length = self.rng.randint(1, 2 * size) if self.ragged else size
        if self.empties and self.rng.random() < 0.2:
            self.empties -= 1
            length = 0
        page = tuple(self.rows[start : start + length])
        self.lengths.append(len(page))
        return PageFacts(
            page,
            total={"true": len(self.rows), "page": len(page), None: None}[self.totals],
            echo_offset={"real": start, "asked": offset, None: None}[self.echo],
            echo_size={"real": size, "asked": asked, None: None}[self.echo],
            first=page[0].time if page else None,
            last=page[-1].time if page else None,
            unmistakable=lambda: self.ids or len({row.time for row in page}) > 1,
            ids=tuple(str(row.user) for row in page) if self.ids else (),
        )


@frozen
class Plan:
    """How the client walks."""

    page_size: int | None = None
    prefetch: int = 4
    offset: int = 0
    limit: int | None = None
    last: int | None = None
    on_drift: OnDrift = "raise"


@define
class Walked:
    rows: list[Row] = field(factory=list)
    asks: int = 0
    pages: int = 0
    in_flight: int = 0  # the most at once
    held: int = 0  # responses waiting, the most at once
    warnings: list[str] = field(factory=list)
    error: PaginationError | None = None
    refused: int | None = None
    complete: bool = False
    stopped: bool = False


def walk(  # noqa: C901
    server: Server,
    plan: Plan,
    rng: random.Random,
    *,
    change: Change | None = None,
    stop: int | None = None,
    anchor: str | None = None,
) -> Walked:
    """Walk to the end, an error, or, with `stop`, until so many rows were given."""
    state = WalkState(
        QUESTION,
        lambda row: row.digest,
        offset=plan.offset,
        page_size=plan.page_size,
        limit=plan.limit,
        last=plan.last,
        prefetch=plan.prefetch,
        on_drift=plan.on_drift,
        continuity=Continuity(anchor),
    )
    walked, window, responses = Walked(), list[PageRequest](), dict[PageRequest, PageFacts | Refusal]()
    bound = 10 + 4 * (len(server.rows) + 10) * (plan.prefetch + 1)

    def refill() -> None:
        asks = state.requests(len(window))
        walked.asks += len(asks)
        assert bound > walked.asks, "the walk does not end"
        window.extend(asks)
        assert plan.prefetch >= len(window)
        walked.in_flight = max(walked.in_flight, len(window))

    while not state.ended:
        refill()
        head = window[0]
        while head not in responses:
            if change is not None and rng.random() < 0.3:
                change(server)
            waiting = [ask for ask in window if ask not in responses]
            ask = rng.choice(waiting)
            responses[ask] = server.response(ask.offset, ask.page_size)
        window.remove(head)
        facts = responses.pop(head)
        if isinstance(facts, Refusal):
            if not state.is_end(head, facts.status):
                walked.refused = facts.status
                return walked
            continue
        if plan.prefetch > 1 and head.state == "ahead":
            refill()
        try:
            fed = state.receive(head, facts)
        except PaginationError as error:
            walked.error = error
            return walked
        walked.warnings += [fed.warning] if fed.warning else []
        if fed.discard or state.ended:
            window.clear()
            responses.clear()
        if fed.deliver:
            walked.pages += 1
            given = fed.rows
            assert given or walked.pages == 1, "an empty page, not the first, was given"
            for row in given:
                assert isinstance(row, Row)
                walked.rows.append(row)
                if stop is not None and len(walked.rows) == stop:
                    walked.stopped = True
                    return walked
    walked.complete = state.complete
    return walked


def ascending(count: int, *, crowded: bool = False) -> list[Row]:
    """Rows in the order of time; crowded: many scans by one user in one second."""
    if crowded:
        return [Row(number // 9, OPENING + timedelta(seconds=number // 9)) for number in range(count)]
    return [Row(number, OPENING + timedelta(seconds=number)) for number in range(count)]


def append(server: Server) -> None:
    last = server.rows[-1].time if server.rows else OPENING
    server.rows.append(Row(1000 + len(server.rows), last + timedelta(seconds=1)))


def put_in_front(server: Server) -> None:
    first = server.rows[0].time if server.rows else OPENING
    server.rows.insert(0, Row(1000 + len(server.rows), first + timedelta(seconds=1)))


def times(count: int, change: Change) -> Change:
    """The change, so many times and no more."""
    left = count

    def changes(server: Server) -> None:
        nonlocal left
        if left:
            left -= 1
            change(server)

    return changes


SEEDS = st.integers(0, 2**32)
COUNTS = st.one_of(st.integers(0, 12), st.integers(0, 60))
SIZES = st.one_of(st.none(), st.integers(1, 12))
PREFETCHES = st.sampled_from([1, 4, 16])
PLANS = st.builds(Plan, SIZES, PREFETCHES)
# A cut that is neither echoed nor counted cannot be seen: the page's own count is all that there is.
HONEST = st.builds(
    Server,
    st.builds(ascending, COUNTS, crowded=st.booleans()),
    cap=SIZES,
    echo=st.sampled_from(["real", "asked", None]),
    totals=st.sampled_from(["true", "page", None]),
    past_end=st.sampled_from([None, 400, 404]),
    ragged=st.booleans(),
)


def blind(server: Server, plan: Plan) -> bool:
    """What no client can see, as the README says: a page cut silently, under a total that is its own count."""
    if server.totals != "page":
        return False
    asked = plan.page_size or DEFAULT_SIZE
    cut = min(asked, server.cap or asked) < asked
    seen = server.echo == "real" or (server.echo is None and plan.page_size is None)
    return server.ragged or (cut and not seen)


def stateless(server: Server) -> bool:
    """No total to be believed: where the server refuses what is past the end, that refusal is how the walk ends."""
    return server.totals != "true" and server.past_end is not None


@CASES
@given(HONEST, PLANS, st.integers(0, 70), st.one_of(st.none(), st.integers(0, 70)), SEEDS)
def test_an_correct_list_is_walked_whole_and_in_order(
    server: Server, plan: Plan, offset: int, limit: int | None, seed: int
) -> None:
    if blind(server, plan):
        server.totals = "true"
    plan = evolve(plan, offset=offset % (len(server.rows) + 1), limit=limit)
    expected = server.rows[plan.offset :][: plan.limit]

    walked = walk(server, plan, random.Random(seed))

    assert expected == walked.rows
    assert walked.error is None
    assert [] == walked.warnings
    if walked.refused is None:
        # Where the limit cuts exactly at the end, nobody has looked whether it is the end.
        assert walked.complete or limit is not None
        assert not (walked.complete and limit is not None and limit < len(server.rows) - plan.offset)
    else:
        assert stateless(server) or len(server.rows) == plan.offset > 0


@CASES
@given(HONEST, PLANS, st.integers(1, 70), st.one_of(st.none(), st.integers(0, 9)), SEEDS)
def test_the_last_rows_are_those_or_an_error(
    server: Server, plan: Plan, last: int, limit: int | None, seed: int
) -> None:
    expected = server.rows[-last:][:limit]

    walked = walk(server, evolve(plan, last=last, limit=limit), random.Random(seed))

    if walked.error is None:
        assert expected == walked.rows
    else:
        assert server.totals != "true"
        assert [] == walked.rows


@CASES
@given(COUNTS, PLANS, st.integers(1, 70), st.integers(0, 5), SEEDS)
def test_the_last_rows_are_those_of_the_moment_when_the_total_was_asked_for(
    count: int, plan: Plan, last: int, growth: int, seed: int
) -> None:
    server = Server(ascending(count))
    plan = evolve(plan, last=last, page_size=plan.page_size and max(2, plan.page_size))  # one row shows no order

    walked = walk(server, plan, random.Random(seed), change=times(growth, append))

    assert walked.error is None
    ends = [*range(count, len(server.rows) + 1)]
    assert walked.rows in [server.rows[max(0, end - last) : end] for end in ends]


@CASES
@given(HONEST, PLANS, SEEDS)
def test_pages_of_one_length_cost_hardly_more_requests_than_there_are_pages(
    server: Server, plan: Plan, seed: int
) -> None:
    server.ragged = False
    if blind(server, plan):
        server.totals = "true"
    size = min(plan.page_size or DEFAULT_SIZE, server.cap or 100)

    walked = walk(server, plan, random.Random(seed))

    assert walked.rows == server.rows
    # One more where the end has to be looked at: a full first page, or no total; and one where nothing comes there.
    assert walked.asks <= max(1, -(-len(server.rows) // size)) + 1 + (server.totals != "true")
    if server.totals == "true" and len(server.rows) > (1 + plan.prefetch) * size:
        assert plan.prefetch == walked.in_flight
    if server.totals is None:
        assert 1 == walked.in_flight


@CASES
@given(HONEST, PLANS, st.lists(st.tuples(st.integers(1, 20), SIZES, PREFETCHES), max_size=5), SEEDS)
def test_a_walk_cut_anywhere_goes_on_with_another_page_size(
    server: Server, plan: Plan, cuts: list[tuple[int, int | None, int]], seed: int
) -> None:
    server.totals = "true" if server.totals == "page" else server.totals
    rng, rows, anchor, end = random.Random(seed), list[Row](), None, False

    for rows_until_then, page_size, prefetch in [*cuts, (None, plan.page_size, plan.prefetch)]:
        position = evolve(plan, page_size=page_size, prefetch=prefetch, offset=len(rows))
        walked = walk(server, position, rng, stop=rows_until_then, anchor=anchor)
        assert walked.error is None
        rows += walked.rows
        anchor = rows[-1].digest if rows else None
        end = end or not walked.stopped

    assert rows == server.rows
    assert end


@CASES
@given(COUNTS, PLANS, SIZES, st.sampled_from(["real", "asked", None]), st.integers(0, 10), st.booleans(), SEEDS)
def test_rows_added_at_the_end_of_ascending_ones_are_walked_too(
    count: int,
    plan: Plan,
    cap: int | None,
    echo: Literal["real", "asked"] | None,
    growth: int,
    ragged: bool,  # noqa: FBT001
    seed: int,
) -> None:
    server = Server(ascending(count), cap, echo, ragged=ragged, rng=random.Random(seed))

    walked = walk(server, plan, random.Random(seed), change=times(growth, append))

    assert walked.error is None
    assert walked.complete
    assert walked.rows == server.rows[: len(walked.rows)]
    assert count <= len(walked.rows)


@CASES
@given(COUNTS, PLANS, SIZES, st.sampled_from(["real", "asked", None]), st.integers(1, 10), st.booleans(), SEEDS)
def test_rows_put_in_front_of_descending_ones_lose_and_double_nothing_unseen(
    count: int,
    plan: Plan,
    cap: int | None,
    echo: Literal["real", "asked"] | None,
    growth: int,
    ragged: bool,  # noqa: FBT001
    seed: int,
) -> None:
    server = Server(ascending(count)[::-1], cap, echo, ragged=ragged, rng=random.Random(seed))
    before = list(server.rows)
    # What fills a whole page and more looks like an ascending list; exactly a page's rows bring the page before again
    size = 1 if ragged else min(plan.page_size or DEFAULT_SIZE, cap or 100)

    walked = walk(server, plan, random.Random(seed), change=times(min(growth, 2 * size - 1), put_in_front))

    assert walked.error is None or isinstance(walked.error, DriftError | PageLoopError)
    if walked.error is None:
        assert len(walked.rows) == len(set(walked.rows))
        assert before == [row for row in walked.rows if row in before]


@CASES
@given(
    COUNTS,
    PLANS,
    SIZES,
    st.sampled_from(["real", "asked", None]),
    st.lists(st.integers(0, 60), min_size=1, max_size=5),
    st.booleans(),
    SEEDS,
)
def test_rows_taken_out_lose_and_double_nothing_unseen(
    count: int,
    plan: Plan,
    cap: int | None,
    echo: Literal["real", "asked"] | None,
    places: list[int],
    descending: bool,  # noqa: FBT001
    seed: int,
) -> None:
    server = Server(ascending(count)[:: -1 if descending else 1], cap, echo, rng=random.Random(seed))
    before = list(server.rows)

    def take(server: Server) -> None:
        if places and server.rows:
            del server.rows[places.pop() % len(server.rows)]

    walked = walk(server, plan, random.Random(seed), change=take)

    assert walked.error is None or isinstance(walked.error, DriftError)
    if walked.error is None:
        assert walked.rows == [row for row in before if row in walked.rows]
        assert [] == [row for row in server.rows if row not in walked.rows]
    else:
        assert walked.rows == before[: len(walked.rows)] or len(walked.rows) == len(set(walked.rows))


LISTED = st.builds(
    Server,
    st.builds(ascending, COUNTS),
    cap=SIZES,
    echo=st.none(),
    totals=st.none(),
    past_end=st.sampled_from([None, 400, 404]),
    ragged=st.booleans(),
    ids=st.just(value=True),
)


@CASES
@given(LISTED, PLANS, st.integers(0, 70), st.one_of(st.none(), st.integers(0, 70)), SEEDS)
def test_a_list_without_a_total_whose_rows_have_ids_is_walked_whole_and_in_order(
    server: Server, plan: Plan, offset: int, limit: int | None, seed: int
) -> None:
    plan = evolve(plan, offset=offset % (len(server.rows) + 1), limit=limit)
    expected = server.rows[plan.offset :][: plan.limit]

    walked = walk(server, plan, random.Random(seed))

    assert (None, []) == (walked.error, walked.warnings)
    if walked.refused is None:
        match server.lengths[-2:]:
            case [cut, 1] if server.ragged and 1 < cut < (plan.page_size or 50):
                assert expected[: len(walked.rows)] == walked.rows
                return  # two pages were cut, the second to the known row: that looks like the end
        assert expected == walked.rows
        assert walked.complete or limit is not None
        assert not (walked.complete and limit is not None and limit < len(server.rows) - plan.offset)
    else:  # refused where the first page is past the end, or where the last one was full and rows were due
        assert expected[: len(walked.rows)] == walked.rows


@CASES
@given(LISTED, PLANS, SEEDS)
def test_an_overlap_of_one_row_costs_one_row_a_page_and_at_most_three_requests(
    server: Server, plan: Plan, seed: int
) -> None:
    server.ragged, server.past_end = False, None
    if server.cap == 1:
        return  # two requests a row: what is known, and what is behind it
    size = max(2, min(plan.page_size or DEFAULT_SIZE, server.cap or 100))

    walked = walk(server, plan, random.Random(seed))

    assert walked.rows == server.rows
    assert walked.asks <= -(-len(server.rows) // (size - 1)) + 3


def swap(server: Server, rng: random.Random) -> None:
    if len(server.rows) > 1:
        one, other = rng.sample(range(len(server.rows)), 2)
        server.rows[one], server.rows[other] = server.rows[other], server.rows[one]


def take(server: Server, rng: random.Random) -> None:
    if server.rows:
        del server.rows[rng.randrange(len(server.rows))]


EVENTS: dict[str, Callable[[Server, random.Random], None]] = {
    "front": lambda server, _: put_in_front(server),
    "append": lambda server, _: append(server),
    "take": take,
    "swap": swap,
    "reverse": lambda server, _: server.rows.reverse(),
    "empty page": lambda server, _: setattr(server, "empties", 1),
}


@settings(CASES, max_examples=1000)
@given(
    st.integers(0, 60),
    PLANS,
    st.one_of(st.none(), st.integers(2, 12)),
    st.sampled_from(sorted(EVENTS)),
    st.integers(1, 12),
    st.booleans(),
    SEEDS,
)
def test_a_list_without_a_total_that_changes_once_loses_and_repeats_no_row_unnoticed(
    count: int,
    plan: Plan,
    cap: int | None,
    event: str,
    moment: int,
    descending: bool,  # noqa: FBT001
    seed: int,
) -> None:
    rng = random.Random(seed)
    server = Server(ascending(count)[:: -1 if descending else 1], cap, None, None, rng=rng, ids=True)
    before, turns = list(server.rows), 0

    def change(server: Server) -> None:
        nonlocal turns
        turns += 1
        if turns == moment:
            EVENTS[event](server, rng)

    walked = walk(server, plan, rng, change=change)

    assert walked.error is None or isinstance(walked.error, DriftError | PageLoopError)
    if walked.error is None:
        assert walked.complete
        assert len(walked.rows) == len(set(walked.rows))
        if event == "empty page" and count:
            assert walked.rows in (before, [])  # an empty first page is believed
        else:
            assert [] == [row for row in before if row in server.rows and row not in walked.rows]


@CASES
@given(COUNTS, PLANS, SIZES, st.integers(1, 3), SEEDS)
def test_an_empty_page_that_is_none_the_second_time_costs_no_row(
    count: int, plan: Plan, cap: int | None, empties: int, seed: int
) -> None:
    server = Server(ascending(count), cap, empties=empties, rng=random.Random(seed))

    walked = walk(server, plan, random.Random(seed))

    assert walked.rows == server.rows[: len(walked.rows)]
    if walked.error is None:
        assert walked.rows == server.rows
    else:
        # Twice in a row at the same place, that is
        assert type(walked.error) is PaginationError
        assert empties > 1


@CASES
@given(COUNTS, PLANS, SIZES, st.sampled_from(["real", "asked", None]), st.sampled_from(["true", "page", None]), SEEDS)
def test_a_server_that_ignores_the_offset_is_found_out(
    count: int,
    plan: Plan,
    cap: int | None,
    echo: Literal["real", "asked"] | None,
    totals: Literal["true", "page"] | None,
    seed: int,
) -> None:
    server = Server(ascending(count), cap, echo, totals, ignores_offset=True)
    if blind(server, plan):
        server.totals = "true"
    size = min(plan.page_size or DEFAULT_SIZE, cap or 100)
    if min(size, count) == 1 and echo != "real":
        return  # one row has one time: such pages may be correct

    walked = walk(server, plan, random.Random(seed))

    assert walked.rows == server.rows[: len(walked.rows)]
    if size < count:
        assert isinstance(walked.error, PageLoopError)
        assert walked.asks <= 3 + plan.prefetch  # the last one is to be sure
    elif walked.error is None:
        assert walked.rows == server.rows


@CASES
@given(
    COUNTS,
    PLANS,
    st.sampled_from(["raise", "warn"]),
    SIZES,
    st.sampled_from(["real", "asked", None]),
    st.sampled_from(["true", "page", None]),
    st.integers(0, 5),
    st.lists(st.sampled_from(["append", "front", "take"]), max_size=9),
    SEEDS,
)
def test_whatever_happens_every_walk_ends(
    count: int,
    plan: Plan,
    on_drift: OnDrift,
    cap: int | None,
    echo: Literal["real", "asked"] | None,
    totals: Literal["true", "page"] | None,
    empties: int,
    events: list[str],
    seed: int,
) -> None:
    rng = random.Random(seed)
    server = Server(ascending(count), cap, echo, totals, ragged=True, empties=empties, rng=rng)

    def change(server: Server) -> None:
        event = events.pop() if events else None
        if event == "append":
            append(server)
        elif event == "front":
            put_in_front(server)
        elif event == "take" and server.rows:
            del server.rows[rng.randrange(len(server.rows))]

    walked = walk(server, evolve(plan, on_drift=on_drift), rng, change=change)

    assert walked.refused is None
    assert walked.pages or walked.error
    if walked.warnings:
        assert "warn" == on_drift
        assert not walked.complete
    if on_drift == "warn":
        assert walked.error is None or isinstance(walked.error, PageLoopError)


def test_the_model_itself_can_lose_rows() -> None:
    """A list that is cut under its own count is lost, as said: the model is not blind where the library is not."""
    server = Server(ascending(20), cap=3, echo="asked", totals="page")

    walked = walk(server, Plan(page_size=10), random.Random(7))

    assert server.rows[:3] == walked.rows
    with pytest.raises(AssertionError):
        assert server.rows == walked.rows
