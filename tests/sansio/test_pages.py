"""What a walk requests next, and what it decides about a page: examples for each rule of `sansio.walk_state`."""

import json
import pickle
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import frozen

from distinct_async.errors import CheckpointError, DriftError, PageLoopError, PaginationError
from distinct_async.sansio.checkpoints import Checkpoint, Question, digest
from distinct_async.sansio.drift import REMEMBERED, Continuity
from distinct_async.sansio.pages import PageFacts, PageRequest, State
from distinct_async.sansio.walk_state import WalkState

QUESTION = Question("metrics.total_visits", {"touchpoint_id": "tp-1", "experience_id": None})
OPENING = datetime(2026, 6, 1, tzinfo=UTC)
SIZE = 10


def page(
    start: int,
    count: int,
    total: int | None = None,
    *,
    echo: tuple[int | None, int | None] = (None, None),
    seconds: Callable[[int], int] = lambda number: number,
    rows: Sequence[object] | None = None,
) -> PageFacts:
    """The rows `start` to `start + count`, each at the second that `seconds` says, in a list that says `total`."""
    times = [OPENING + timedelta(seconds=seconds(number)) for number in range(start, start + count)]
    return PageFacts(
        tuple(range(start, start + count)) if rows is None else rows,
        total,
        echo_offset=echo[0],
        echo_size=echo[1],
        first=times[0] if times else None,
        last=times[-1] if times else None,
        unmistakable=lambda: len(set(times)) > 1,
    )


@frozen
class Fed:
    """What became of a page: its rows from `start` to `stop` are delivered, or not."""

    start: int = 0
    stop: int = 0
    give: bool = True
    discard: bool = False
    warning: str | None = None


def feed(state: WalkState, request: PageRequest, facts: PageFacts) -> Fed:
    decision = state.receive(request, facts)
    start = decision.offset - request.offset if decision.deliver else 0
    return Fed(start, start + len(decision.rows), decision.deliver, decision.discard, decision.warning)


def Ask(offset: int, total: int | None = None, state: State = "alone", size: int | None = SIZE) -> PageRequest:  # noqa: N802
    return PageRequest(offset, size, total, state)


def requests(state: WalkState, outstanding: int) -> list[PageRequest]:
    return state.requests(outstanding)


def walk(*, anchor: str | None = None, **settings: Any) -> WalkState:
    continuity = Continuity(anchor)
    return WalkState(
        QUESTION, lambda row: digest(str(row)), **{"page_size": SIZE, "continuity": continuity, **settings}
    )


def begun(total: int | None = 100, **settings: Any) -> WalkState:
    """A walk that has its first page of ten."""
    state = walk(**settings)
    (ask,) = requests(state, 0)
    feed(state, ask, page(ask.offset, SIZE, total))
    return state


def offsets(asks: list[PageRequest]) -> list[int]:
    return [ask.offset for ask in asks]


def feed_all(state: WalkState, asks: list[PageRequest], total: int | None = 100) -> list[Fed]:
    return [feed(state, ask, page(ask.offset, SIZE, total)) for ask in asks]


# --- rules 1 to 4: the offset, the first page, pages ahead, the end ---------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 4, 16])
def test_the_first_page_is_asked_alone(prefetch: int) -> None:
    state = walk(prefetch=prefetch, offset=7)

    assert [Ask(7)] == requests(state, 0)
    assert [] == requests(state, 1)


@pytest.mark.parametrize(
    ("expected", "prefetch", "outstanding"),
    [
        ([10], 1, 0),
        ([], 1, 1),
        ([10, 20, 30, 40], 4, 0),
        ([10], 4, 3),
        ([], 4, 4),
        ([10, 20, 30, 40, 50, 60, 70, 80, 90], 16, 0),
    ],
)
def test_later_pages_are_asked_ahead_as_far_as_prefetch_and_total_allow(
    expected: list[int], prefetch: int, outstanding: int
) -> None:
    asks = requests(begun(100, prefetch=prefetch), outstanding)

    assert expected == offsets(asks)
    assert all(ask.state == "ahead" and ask.total == 100 for ask in asks)


def test_no_page_is_asked_for_twice() -> None:
    state = begun(100, prefetch=2)
    first = requests(state, 0)
    feed(state, first[0], page(10, SIZE, 100))

    assert [30] == offsets(requests(state, 1))
    assert [] == requests(state, 2)


@pytest.mark.parametrize("received", [1, 7, 11, 25])
def test_the_plan_is_the_length_of_the_first_page_not_the_size_asked_for(received: int) -> None:
    state = walk(prefetch=3)
    (ask,) = requests(state, 0)

    assert Fed(0, received) == feed(state, ask, page(0, received, 100))
    assert [received, 2 * received, 3 * received] == offsets(requests(state, 0))


@pytest.mark.parametrize("received", [1, 9, 11, 20])
def test_a_page_of_another_length_discards_the_rest_and_the_next_is_asked_alone(received: int) -> None:
    state = begun(100, prefetch=4)
    ask = requests(state, 0)[0]

    assert Fed(0, received, discard=True) == feed(state, ask, page(10, received, 100))
    (alone,) = requests(state, 0)
    assert Ask(10 + received, 100) == alone
    assert [] == requests(state, 1)
    feed(state, alone, page(alone.offset, 5, 100))
    assert [10 + received + 5 * step for step in range(1, 5)] == offsets(requests(state, 0))


def test_a_short_page_at_the_end_is_no_reason_to_ask_again() -> None:
    state = begun(13)
    asks = requests(state, 0)

    assert [10] == offsets(asks)
    assert Fed(0, 3) == feed(state, asks[0], page(10, 3, 13))
    assert state.ended
    assert state.complete
    assert [] == requests(state, 0)


def test_without_a_total_pages_are_asked_one_after_the_other_to_the_first_empty_one() -> None:
    state = walk(prefetch=16)
    for offset, received, expected in [(0, 10, "alone"), (10, 10, "sequential"), (20, 3, "sequential")]:
        (ask,) = requests(state, 0)
        assert (offset, expected) == (ask.offset, ask.state)
        assert [] == requests(state, 1)
        assert Fed(0, received) == feed(state, ask, page(offset, received))
        assert not state.ended

    assert Fed(give=False) == feed(state, requests(state, 0)[0], page(23, 0))
    assert state.ended
    assert state.complete


def test_a_total_that_comes_late_counts_from_then_on() -> None:
    state = begun(None, prefetch=3)
    (ask,) = requests(state, 0)
    feed(state, ask, page(10, SIZE, 40))

    assert [20, 30] == offsets(requests(state, 0))
    assert 40 == state.totals.first == state.totals.last


def test_a_total_that_one_page_does_not_tell_is_kept() -> None:
    state = begun(40, prefetch=3)
    asks = requests(state, 0)
    feed(state, asks[0], page(10, SIZE, None))

    assert 40 == state.totals.current
    feed_all(state, asks[1:], 40)
    assert state.complete


@pytest.mark.parametrize("total", [None, 0])
def test_an_empty_list_is_one_empty_page(total: int | None) -> None:
    state = walk()

    assert Fed() == feed(state, requests(state, 0)[0], page(0, 0, total))
    assert state.ended
    assert state.complete
    assert 1 == state.pages


@pytest.mark.parametrize(("count", "ends"), [(3, True), (9, True), (10, False), (11, False)])
def test_a_first_page_with_the_whole_list_is_the_end_where_it_is_not_full(count: int, ends: bool) -> None:  # noqa: FBT001
    state = walk()
    feed(state, requests(state, 0)[0], page(0, count, count))

    assert ends is state.ended is state.complete


# --- rule 5: a total that proves nothing ------------------------------------------------------------------------------

PROBED = [
    pytest.param(True, 10, 10, None, id="as long as asked"),
    pytest.param(True, 4, 10, 4, id="as long as echoed"),
    pytest.param(True, 4, None, None, id="nobody says how long"),
    pytest.param(True, 4, None, 4, id="nothing asked, as long as echoed"),
    pytest.param(False, 4, 10, None, id="shorter than asked"),
    pytest.param(False, 4, 10, 10, id="shorter than echoed"),
    pytest.param(False, 4, None, 10, id="nothing asked, shorter than echoed"),
    pytest.param(True, 12, 10, None, id="longer than asked"),
]


@pytest.mark.parametrize(("probed", "count", "page_size", "echo_size"), PROBED)
def test_a_full_first_page_as_long_as_its_total_is_looked_behind(
    probed: bool,  # noqa: FBT001
    count: int,
    page_size: int | None,
    echo_size: int | None,
) -> None:
    state = walk(page_size=page_size, prefetch=16)
    fed = feed(state, requests(state, 0)[0], page(0, count, count, echo=(0, echo_size)))

    assert (0, count, probed) == (fed.start, fed.stop, fed.discard)
    assert state.ended is not probed
    assert ([Ask(count, count, "past_total", page_size)] if probed else []) == requests(state, 0)
    assert [] == requests(state, 1)


@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_behind_the_first_page_is_the_end(status: int) -> None:
    state = begun(10)
    (ask,) = requests(state, 0)

    assert state.is_end(ask, status)
    assert state.ended
    assert state.complete


@pytest.mark.parametrize("status", [401, 403, 422, 429, 500])
def test_another_refusal_there_is_an_error(status: int) -> None:
    state = begun(10)

    assert not state.is_end(requests(state, 0)[0], status)
    assert not state.ended


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("total", [None, 100])
def test_a_refusal_of_any_other_page_is_an_error(total: int | None, status: int) -> None:
    state = begun(total)

    assert not state.is_end(requests(state, 0)[0], status)
    assert not walk().is_end(Ask(0), status)


def test_no_rows_behind_the_first_page_are_the_end() -> None:
    state = begun(10)

    assert Fed(give=False) == feed(state, requests(state, 0)[0], page(10, 0, 0))
    assert state.complete


def test_rows_behind_the_first_page_mean_that_totals_are_not_believed() -> None:
    state = begun(10, prefetch=16)
    for offset, count in [(10, 10), (20, 10), (30, 4)]:
        (ask,) = requests(state, 0)
        assert offset == ask.offset
        assert [] == requests(state, 1)
        assert Fed(0, count) == feed(state, ask, page(offset, count, count))

    (ask,) = requests(state, 0)
    assert Fed(give=False) == feed(state, ask, page(34, 0, 0))
    assert state.complete


def test_a_full_page_beyond_the_total_is_looked_behind_too() -> None:
    state = begun(25, prefetch=2)
    asks = requests(state, 0)
    assert [10, 20] == offsets(asks)
    feed(state, asks[0], page(10, SIZE, 25))

    assert Fed(0, SIZE, discard=True) == feed(state, asks[1], page(20, SIZE, 25))
    assert [Ask(30, 25, "past_total")] == requests(state, 0)
    feed(state, Ask(30, 25, "past_total"), page(30, 5, 25))
    assert [Ask(35, None, "short")] == requests(state, 0)


def test_a_page_that_ends_at_the_total_is_not_looked_behind() -> None:
    state = begun(20)
    feed(state, requests(state, 0)[0], page(10, SIZE, 20))

    assert state.complete


def test_a_list_that_grew_behind_its_full_first_page_has_a_total_all_the_same() -> None:
    """The total is more than the page's own count, so it is one: here of an ascending list, ..."""
    state = begun(10, prefetch=4)
    (ask,) = requests(state, 0)

    assert Fed(0, 10) == feed(state, ask, page(10, 10, 45))
    assert [20, 30, 40] == offsets(requests(state, 0))


def test_a_list_that_grew_in_front_of_its_full_first_page_has_drifted() -> None:
    """... and here of a descending one: the row at offset 10 was at 9 before, and has been given."""
    state = walk()
    feed(state, requests(state, 0)[0], page(0, SIZE, 10, seconds=lambda number: 100 - number))
    (ask,) = requests(state, 0)

    with pytest.raises(DriftError, match="grew from 10 to 11"):
        feed(state, ask, page(10, 1, 11, seconds=lambda _: 91, rows=(9,)))


# --- rule 6: an empty page before the total ---------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 4, 16])
def test_an_empty_page_before_the_total_is_tried_once_more_and_alone(prefetch: int) -> None:
    state = begun(100, prefetch=prefetch)
    ask = requests(state, 0)[0]

    assert Fed(give=False, discard=True) == feed(state, ask, page(10, 0, 100))
    assert [Ask(10, 100)] == requests(state, 0)
    assert Fed(0, SIZE) == feed(state, Ask(10, 100), page(10, SIZE, 100))
    assert 20 == requests(state, 0)[0].offset


def test_empty_twice_the_walk_cannot_go_on() -> None:
    state = begun(100)
    feed(state, requests(state, 0)[0], page(10, 0, 100))

    with pytest.raises(
        PaginationError, match="an empty page at offset 10 twice although it reports 100 rows"
    ) as caught:
        feed(state, requests(state, 0)[0], page(10, 0, 100))
    assert PaginationError is type(caught.value)
    assert str(QUESTION) == caught.value.operation


def test_each_place_has_its_own_second_try() -> None:
    state = begun(30, prefetch=1)
    for offset in (10, 20):
        (empty,) = requests(state, 0)
        assert not feed(state, empty, page(offset, 0, 30)).give
        (again,) = requests(state, 0)
        assert feed(state, again, page(offset, SIZE, 30)).give

    assert state.complete


def test_empty_twice_is_the_end_with_a_warning_where_drift_is_only_to_be_told() -> None:
    state = begun(100, on_drift="warn")
    feed(state, requests(state, 0)[0], page(10, 0, 100))
    fed = feed(state, requests(state, 0)[0], page(10, 0, 100))

    assert not fed.give
    assert fed.warning is not None
    assert "an empty page at offset 10" in fed.warning
    assert state.ended
    assert not state.complete


def test_a_first_page_that_is_empty_is_tried_again_and_given_once() -> None:
    state = walk()

    assert not feed(state, requests(state, 0)[0], page(0, 0, 3)).give
    assert Fed(0, 3) == feed(state, requests(state, 0)[0], page(0, 3, 3))
    assert 1 == state.pages


# --- rule 7: loops ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("echoed", [1, 50])
def test_an_echo_of_another_offset_is_asked_again_and_then_a_loop(offset: int, echoed: int) -> None:
    state = walk(offset=offset)

    assert Fed(give=False, discard=True) == feed(state, requests(state, 0)[0], page(0, SIZE, 100, echo=(echoed, SIZE)))
    with pytest.raises(PageLoopError, match=f"requested offset {offset}, but the server returned offset {echoed}"):
        feed(state, requests(state, 0)[0], page(0, SIZE, 100, echo=(echoed, SIZE)))


def test_an_echo_of_zero_is_an_echo() -> None:
    state = begun(100)

    assert not feed(state, requests(state, 0)[0], page(10, SIZE, 100, echo=(0, SIZE))).give
    with pytest.raises(PageLoopError):
        feed(state, requests(state, 0)[0], page(10, SIZE, 100, echo=(0, SIZE)))


@pytest.mark.parametrize("total", [100, None])
def test_the_page_before_again_is_a_loop_where_it_spans_more_than_one_instant(total: int | None) -> None:
    state = begun(total)

    assert Fed(give=False, discard=True) == feed(state, requests(state, 0)[0], page(0, SIZE, total))
    (further,) = requests(state, 0)
    assert (11, "shifted") == (further.offset, further.state)
    with pytest.raises(
        PageLoopError, match="offset 10 repeats the previous page, and so does the page one row further"
    ):
        feed(state, further, page(0, SIZE, total))


def test_equal_pages_of_one_instant_are_correct_up_to_the_total() -> None:
    state = walk(page_size=1, prefetch=4)
    given = 0
    while not state.ended:
        for ask in requests(state, 0):
            given += feed(state, ask, page(0, 1, 2500)).stop

    assert 2500 == given
    assert state.complete


def test_without_a_total_equal_pages_are_correct_a_thousand_times() -> None:
    state = walk(page_size=1)
    for _ in range(1000):
        feed(state, requests(state, 0)[0], page(0, 1))

    with pytest.raises(PageLoopError):
        feed(state, requests(state, 0)[0], page(0, 1))


def test_another_page_in_between_begins_the_thousand_anew() -> None:
    state = walk(page_size=1)
    for row in [0] * 900 + [1] + [0] * 900:
        feed(state, requests(state, 0)[0], page(row, 1))

    assert 1801 == state.offset


def test_pages_are_compared_with_the_one_before_only() -> None:
    state = walk(prefetch=1)
    for start in (0, 10, 0, 10):
        feed(state, requests(state, 0)[0], page(start, SIZE, 100))

    assert 40 == state.offset


# --- rule 8: totals that change ---------------------------------------------------------------------------------------

ORDERS: dict[str, tuple[bool, Callable[[int], int]]] = {
    "ascending": (True, lambda number: number),
    "in steps": (True, lambda number: number // 15),
    "with some jitter": (True, lambda number: number + (8 if number == 19 else 0)),
    "descending": (False, lambda number: 1000 - number),
    "of one time": (False, lambda _: 5),
    "up and down": (False, lambda number: (number // 10) * 3 - (number % 10)),
    "down after a late start": (False, lambda number: 1000 - number if number else 0),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("prefetch", [1, 4, 16])
def test_growth_is_fine_where_the_walk_ascends_and_only_there(prefetch: int, order: str) -> None:
    fine, seconds = ORDERS[order]
    state = walk(prefetch=prefetch)
    for total in (100, 100, 100):
        ask = requests(state, 0)[0]
        state._next_offset = ask.offset + SIZE  # the others of this window are not of interest here
        feed(state, ask, page(ask.offset, SIZE, total, seconds=seconds))
    ask = requests(state, 0)[0]
    grown = page(ask.offset, SIZE, 105, seconds=seconds)

    if fine:
        assert Fed(0, SIZE) == feed(state, ask, grown)
        assert 105 == state.totals.current
    else:
        with pytest.raises(DriftError, match="grew from 100 to 105"):
            feed(state, ask, grown)


@pytest.mark.parametrize(
    ("fine", "times"),
    [
        (True, [0, 1, 2, 3, 4]),
        (True, [0, 5, 4, 6, 7]),
        (False, [0, 5, 4, 6, 5]),
        (False, [5, 9, 8, 7, 6]),
        (False, [0, 4, 3, 2, 1]),
        (False, [4, 3, 2, 1, 0]),
    ],
)
def test_pages_of_one_row_have_one_edge(fine: bool, times: list[int]) -> None:  # noqa: FBT001
    state = walk(page_size=1, prefetch=1)
    for number in range(4):
        feed(state, requests(state, 0)[0], page(number, 1, 10, seconds=times.__getitem__))
    (ask,) = requests(state, 0)
    grown = page(4, 1, 11, seconds=times.__getitem__)

    if fine:
        assert Fed(0, 1) == feed(state, ask, grown)
    else:
        with pytest.raises(DriftError):
            feed(state, ask, grown)


def test_rows_without_times_cannot_be_reported_to_ascend() -> None:
    state = walk()
    feed(state, requests(state, 0)[0], PageFacts(tuple(range(10)), 100))

    with pytest.raises(DriftError):
        feed(state, requests(state, 0)[0], PageFacts(tuple(range(10, 20)), 101))


def test_after_growth_the_walk_goes_on_to_the_new_end() -> None:
    state = begun(20)
    (ask,) = requests(state, 0)
    feed(state, ask, page(10, SIZE, 23))
    assert [Ask(20, 23, "ahead")] == requests(state, 0)
    feed(state, Ask(20, 23, "ahead"), page(20, 3, 23))

    assert state.complete
    assert (20, 23) == (state.totals.first, state.totals.last)


def test_a_total_that_shrinks_is_drift() -> None:
    state = begun(100)

    with pytest.raises(DriftError, match="shrank from 100 to 99"):
        feed(state, requests(state, 0)[0], page(10, SIZE, 99))


def test_a_page_that_answered_before_the_growth_is_no_drift() -> None:
    state = begun(100, prefetch=4)
    asks = requests(state, 0)
    # The first was retried, and responded last
    fed = [
        feed(state, ask, page(ask.offset, SIZE, total)) for ask, total in zip(asks, [107, 100, 103, 100], strict=True)
    ]

    assert [Fed(0, SIZE)] * 4 == fed
    assert 107 == state.totals.current
    assert [107] * 4 == [ask.total for ask in requests(state, 0)]


def test_less_than_was_known_when_the_page_was_asked_is_drift_however_it_grew_before() -> None:
    state = begun(100, prefetch=2)
    asks = requests(state, 0)
    feed(state, asks[0], page(10, SIZE, 107))
    later = requests(state, 1)
    assert [30] == offsets(later)
    feed(state, asks[1], page(20, SIZE, 100))

    with pytest.raises(DriftError, match="shrank from 107 to 106"):
        feed(state, later[0], page(30, SIZE, 106))


def test_growth_in_a_descending_list_is_drift_though_a_later_page_did_not_see_it() -> None:
    state = walk(prefetch=4)
    seconds = ORDERS["descending"][1]
    feed(state, requests(state, 0)[0], page(0, SIZE, 100, seconds=seconds))
    asks = requests(state, 0)
    feed(state, asks[0], page(10, SIZE, 100, seconds=seconds))

    with pytest.raises(DriftError):
        feed(state, asks[1], page(20, SIZE, 101, seconds=seconds))


def test_where_drift_is_only_to_be_reported_the_walk_goes_on_with_the_new_total() -> None:
    state = begun(100, prefetch=1, on_drift="warn")
    shrunk = feed(state, requests(state, 0)[0], page(10, SIZE, 30))

    assert shrunk.warning is not None
    assert "shrank from 100 to 30" in shrunk.warning
    assert (0, SIZE) == (shrunk.start, shrunk.stop)
    (last,) = requests(state, 0)
    assert Ask(20, 30, "ahead") == last
    assert Fed(0, SIZE) == feed(state, last, page(20, SIZE, 30))
    assert state.ended
    assert not state.complete


def test_a_shrinking_is_reported_once_however_many_pages_of_the_window_show_it() -> None:
    state = begun(100, prefetch=4, on_drift="warn")
    warnings = [feed(state, ask, page(ask.offset, SIZE, 90)).warning for ask in requests(state, 0)]

    assert [True, False, False, False] == [warning is not None for warning in warnings]
    assert 90 == state.totals.current


def test_a_growth_is_reported_where_drift_is_only_to_be_told() -> None:
    state = walk(on_drift="warn", prefetch=1)
    seconds = ORDERS["descending"][1]
    feed(state, requests(state, 0)[0], page(0, SIZE, 20, seconds=seconds))
    fed = feed(state, requests(state, 0)[0], page(10, SIZE, 21, seconds=seconds))

    assert fed.warning is not None
    assert "grew from 20 to 21" in fed.warning
    assert [20] == offsets(requests(state, 0))


def test_a_loop_is_an_error_even_where_drift_is_only_to_be_told() -> None:
    state = begun(100, on_drift="warn")

    assert not feed(state, requests(state, 0)[0], page(0, SIZE, 100)).give
    with pytest.raises(PageLoopError):
        feed(state, requests(state, 0)[0], page(0, SIZE, 100))


# --- rule 9: resumed walks --------------------------------------------------------------------------------------------

LAST = digest("6")  # of the row at offset 6


def test_a_resumed_walk_reads_the_last_row_again_and_gives_it_not_again() -> None:
    state = walk(offset=7, anchor=LAST)
    (ask,) = requests(state, 0)

    assert Ask(6) == ask
    assert Fed(1, SIZE) == feed(state, ask, page(6, SIZE, 100))
    assert [16, 26, 36, 46] == offsets(requests(state, 0))


def test_without_an_anchor_nothing_is_read_again() -> None:
    assert [Ask(7)] == requests(walk(offset=7), 0)


def test_after_a_finished_walk_one_request_shows_that_nothing_is_new() -> None:
    state = walk(offset=23, anchor=digest("22"))

    assert Fed(1, 1) == feed(state, requests(state, 0)[0], page(22, 1, 23))
    assert state.complete
    assert 1 == state.pages


def test_after_a_finished_walk_without_a_total_an_empty_page_shows_it() -> None:
    state = walk(offset=23, anchor=digest("22"))
    assert Fed(1, 1) == feed(state, requests(state, 0)[0], page(22, 1))
    assert [Ask(23, None, "behind")] == requests(state, 0)

    assert Fed(give=False) == feed(state, requests(state, 0)[0], page(23, 0))
    assert state.complete


@pytest.mark.parametrize(
    "facts", [page(6, SIZE, 100), page(6, 1, 7), page(6, 1), page(6, 0, 6), page(6, 0, 0), page(6, 0)]
)
def test_another_row_in_its_place_or_none_is_drift(facts: PageFacts) -> None:
    state = walk(offset=7, anchor=digest("another row"))
    if facts.total is None and not facts.items:
        assert not feed(state, requests(state, 0)[0], facts).give  # asked again, to be sure

    with pytest.raises(DriftError, match=r"row 6 (has changed|is gone)"):
        feed(state, requests(state, 0)[0], facts)


def test_where_drift_is_only_to_be_reported_a_moved_row_is_skipped_with_a_warning() -> None:
    state = walk(offset=7, anchor=digest("another row"), on_drift="warn")
    fed = feed(state, requests(state, 0)[0], page(6, SIZE, 16))

    assert (1, SIZE) == (fed.start, fed.stop)
    assert fed.warning is not None
    assert "has changed" in fed.warning
    assert state.ended
    assert not state.complete


def test_the_anchor_is_looked_for_once_more_where_the_first_page_is_empty_before_the_total() -> None:
    state = walk(offset=7, anchor=LAST)
    assert Fed(give=False, discard=True) == feed(state, requests(state, 0)[0], page(6, 0, 100))

    assert [Ask(6, 100)] == requests(state, 0)
    assert Fed(1, SIZE) == feed(state, Ask(6, 100), page(6, SIZE, 100))


def test_the_anchor_is_looked_at_in_the_first_page_only() -> None:
    state = walk(offset=7, anchor=LAST, prefetch=1)
    feed(state, requests(state, 0)[0], page(6, SIZE, 100))

    assert Fed(0, SIZE) == feed(state, requests(state, 0)[0], page(16, SIZE, 100))


# --- rule 9: lists without a total, whose rows have ids ---------------------------------------------------------------


def listed(*ids: int) -> PageFacts:
    """A page without a total; each row is its id."""
    return PageFacts(ids or (), unmistakable=lambda: True, ids=tuple(map(str, ids)))


def walk_listed(*pages: Sequence[int], **settings: Any) -> tuple[WalkState, list[tuple[int, int | None]], list[int]]:
    """Feed these pages. Return the walk, the offset and size of each request, and the rows delivered."""
    state, requested, rows = walk(**{"page_size": 3, **settings}), [], list[int]()
    for ids in pages:
        (request,) = requests(state, 0)
        requested.append((request.offset, request.page_size))
        rows += state.receive(request, listed(*ids)).rows
    return state, requested, rows


def test_each_page_is_followed_by_one_that_begins_with_its_last_row() -> None:
    state, requested, rows = walk_listed([0, 1, 2], [2, 3, 4], [4, 5], [5])

    assert [(0, 3), (2, 3), (4, 3), (5, 3)] == requested
    assert [0, 1, 2, 3, 4, 5] == rows
    assert state.complete


def test_where_the_last_page_was_full_the_known_row_alone_and_nothing_behind_it_are_the_end() -> None:
    state, requested, rows = walk_listed([0, 1, 2], [2], [])

    assert [0, 2, 3] == [offset for offset, _ in requested]
    assert [0, 1, 2] == rows
    assert state.complete


def test_a_page_size_of_1_requests_2_from_the_second_page_on() -> None:
    state, requested, rows = walk_listed([0], [0, 1], [1, 2], [2], [], page_size=1)

    assert [(0, 1), (0, 2), (1, 2), (2, 2), (3, 1)] == requested
    assert [0, 1, 2] == rows
    assert state.complete


def test_a_server_that_caps_pages_at_1_is_walked_too() -> None:
    state, _, rows = walk_listed([0], [1], [0], [1], [1], [2], [2], [])

    assert [0, 1, 2] == rows
    assert state.complete


def test_rows_behind_a_page_that_is_not_full_show_that_pages_are_capped() -> None:
    state, requested, rows = walk_listed([0, 1], [1, 2], [2, 3], [3], [], page_size=9)

    assert [0, 1, 2, 3, 4] == [offset for offset, _ in requested]
    assert [0, 1, 2, 3] == rows
    assert state.complete


def test_rows_behind_a_page_of_one_row_are_requested_again_with_an_overlap() -> None:
    state, requested, rows = walk_listed([0], [1, 2], [0, 1], [1, 2], [2], [], page_size=9)

    assert [0, 1, 0, 1, 2, 3] == [offset for offset, _ in requested]
    assert [0, 1, 2] == rows
    assert state.complete


@pytest.mark.parametrize(("requests", "count"), [(2, 0), (2, 1), (2, 2), (2, 49), (3, 50)])
def test_the_end_of_a_list_without_a_total_costs_one_request_or_two_behind_a_full_page(
    requests: int, count: int
) -> None:
    server, state, requested = [*range(count)], walk(page_size=None), 0
    while not state.ended:
        (request,) = state.requests(0)
        requested += 1
        state.receive(request, listed(*server[request.offset : request.offset + 50]))

    assert min(requests, 1 + count) == requested
    assert state.complete


@pytest.mark.parametrize("size", [None, 100, 101, 5000])
def test_a_page_of_the_documented_sizes_is_full_whatever_was_requested(size: int | None) -> None:
    count = 100 if size else 50
    state, _, _ = walk_listed(range(count), page_size=size)

    assert [count - 1] == offsets(requests(state, 0))


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        pytest.param([[0, 1, 2], [1, 2, 3]], "row 2 has changed", id="one added in front"),
        pytest.param([[0, 1, 2], [3, 4, 5]], "row 2 has changed", id="one removed in front"),
        pytest.param([[0, 1, 2], [2, 3, 0]], "1 row came twice, the first with id '0'", id="moved to the back"),
        pytest.param([[0, 1, 2], [2, 3, 4], [4, 0, 1]], "2 rows came twice", id="moved far to the back"),
        pytest.param([[0, 1, 1]], "1 row came twice", id="within a page"),
        pytest.param([[0, 1, 2], [], []], "row 2 is gone", id="all removed"),
        pytest.param([[0, 1], [2, 3]], "row 1 has changed", id="one removed behind a page that is not full"),
        pytest.param([[0, 1], [2]], "row 1 has changed", id="one removed, and the rest is one row"),
        pytest.param([[0, 1], [], []], "row 1 is gone", id="one removed at the end"),
        pytest.param([[0], [2], [1, 2]], "row 0 has changed", id="one removed behind a page of one row"),
        pytest.param([[0, 1, 2], [2], [2]], "1 row came twice", id="one added in front, seen at the end"),
    ],
)
@pytest.mark.parametrize("on_drift", ["raise", "warn"])
def test_rows_that_moved_in_a_list_without_a_total_are_drift(pages: list[list[int]], says: str, on_drift: Any) -> None:
    state, *_ = walk_listed(*pages[:-1], page_size=3, on_drift=on_drift)
    (request,) = requests(state, 0)

    if on_drift == "raise":
        with pytest.raises(DriftError, match=says):
            state.receive(request, listed(*pages[-1]))
    else:
        decision = state.receive(request, listed(*pages[-1]))
        assert says in str(decision.warning)
        while not state.ended:
            (request,) = requests(state, 0)
            state.receive(request, listed())
        assert not state.complete


def test_a_row_that_was_never_delivered_is_not_skipped_where_drift_is_only_reported() -> None:
    _, _, rows = walk_listed([0, 1, 2], [3, 4, 5], on_drift="warn")
    assert [0, 1, 2, 3, 4, 5] == rows

    _, _, rows = walk_listed([0, 1, 2], [1, 2, 3], on_drift="warn")
    assert [0, 1, 2, 2, 3] == rows


def test_an_empty_page_behind_a_full_one_is_requested_once_more() -> None:
    state, requested, rows = walk_listed([0, 1, 2], [], [2, 3], [3])

    assert [0, 2, 2, 3] == [offset for offset, _ in requested]
    assert [0, 1, 2, 3] == rows
    assert state.complete


def test_an_empty_page_where_the_known_row_is_due_is_requested_once_more() -> None:
    state, requested, rows = walk_listed([0, 1], [], [1, 2], [2], [])

    assert [0, 1, 1, 2, 3] == [offset for offset, _ in requested]
    assert [0, 1, 2] == rows
    assert state.complete


def test_without_ids_an_empty_page_behind_a_full_one_is_requested_once_more_too() -> None:
    state = begun(None)
    assert Fed(give=False, discard=True) == feed(state, requests(state, 0)[0], page(10, 0))
    assert Fed(0, SIZE) == feed(state, requests(state, 0)[0], page(10, SIZE))
    assert not feed(state, requests(state, 0)[0], page(20, 0)).give
    assert Fed(give=False) == feed(state, requests(state, 0)[0], page(20, 0))
    assert state.complete


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("pages", [[[0, 1, 2], [2]], [[0]]])
def test_a_refusal_behind_a_list_without_a_total_is_its_end(pages: list[list[int]], status: int) -> None:
    state, *_ = walk_listed(*pages)

    assert state.is_end(requests(state, 0)[0], status)
    assert state.complete


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("pages", [[[0, 1, 2]], [[0, 1]]])
def test_a_refusal_of_the_known_row_is_an_error(pages: list[list[int]], status: int) -> None:
    state, *_ = walk_listed(*pages)

    assert not state.is_end(requests(state, 0)[0], status)
    assert not state.ended


def test_an_overlapping_page_that_equals_the_one_before_is_a_loop_or_drift() -> None:
    """Two rows in front of the list bring the page before again; a row further on it is another one."""
    with pytest.raises(PageLoopError, match="and so does the page one row further on"):
        walk_listed([0, 1, 2], [0, 1, 2], [0, 1, 2])
    with pytest.raises(PageLoopError, match="and so does the page one row further on"):
        walk_listed([0, 1], [0, 1], [0, 1])
    with pytest.raises(DriftError, match="row 2 has changed"):
        walk_listed([0, 1, 2], [0, 1, 2], [1, 2, 3])


def test_so_many_ids_are_remembered_and_no_more() -> None:
    state = walk(page_size=None)
    for start in (*range(0, 3 * REMEMBERED, 99), None):
        (request,) = requests(state, 0)
        ids = range(start, start + 100) if start is not None else (request.offset, 5)
        state.receive(request, listed(*ids))

    assert REMEMBERED == len(state.continuity._ids)


# --- rule 7: rows that were uploaded twice ----------------------------------------------------------------------------


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("copies", [2, 3, 5])
@pytest.mark.parametrize("total", [True, False])
def test_a_queue_uploaded_twice_is_reported_apart_from_an_ignored_offset(
    total: bool,  # noqa: FBT001
    copies: int,
    prefetch: int,
) -> None:
    rows = [*range(SIZE)] * copies + [99]
    state, delivered, requested = walk(prefetch=prefetch), list[int](), 0
    window: list[PageRequest] = []
    while not state.ended:
        window += requests(state, len(window))
        request, requested = window.pop(0), requested + 1
        part = rows[request.offset : request.offset + SIZE]
        facts = page(0, len(part), len(rows) if total else None, rows=part, seconds=lambda number: number // 2)
        decision = state.receive(request, facts)
        delivered += decision.rows
        window = [] if decision.discard else window

    assert rows == delivered
    assert state.complete
    assert requested <= copies + 1 + (copies - 1) + (not total)


# --- the limit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 13])
@pytest.mark.parametrize(
    ("expected", "limit"), [([], 0), ([1], 1), ([9], 9), ([10], 10), ([10, 1], 11), ([10, 10, 5], 25)]
)
def test_the_limit_cuts_the_last_page_and_asks_nothing_beyond(expected: list[int], limit: int, offset: int) -> None:
    state, given, asked = walk(limit=limit, offset=offset, prefetch=16), [], 0
    while not state.ended:
        for ask in requests(state, 0):
            asked += 1
            fed = feed(state, ask, page(ask.offset, SIZE, 1000))
            given.append(fed.stop - fed.start)

    assert expected == given
    assert len(expected) == asked
    assert limit == sum(given)
    assert not state.complete


def test_a_limit_of_nothing_asks_nothing() -> None:
    state = walk(limit=0)

    assert state.ended
    assert [] == requests(state, 0)


def test_the_limit_counts_from_the_resume() -> None:
    state = walk(limit=3, offset=7, anchor=LAST)

    assert Fed(1, 4) == feed(state, requests(state, 0)[0], page(6, SIZE, 100))
    assert state.ended


@pytest.mark.parametrize(("complete", "limit"), [(False, 12), (True, 13), (True, 14), (True, 1000)])
def test_a_walk_is_complete_where_the_limit_left_nothing_out(complete: bool, limit: int) -> None:  # noqa: FBT001
    state = begun(13, limit=limit)
    feed(state, requests(state, 0)[0], page(10, 3, 13))

    assert state.ended
    assert complete is state.complete


# --- checkpoints ------------------------------------------------------------------------------------------------------

CHECKPOINTS = [
    Checkpoint(QUESTION, 0),
    Checkpoint(QUESTION, 7),
    Checkpoint(QUESTION, 7, LAST),
    Checkpoint(Question("impressions.list", {"program_id": 'prög\n"1"', "poster_id": None}), 2**40, LAST),
]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=str)
def test_a_checkpoint_comes_back_from_json_and_pickle(checkpoint: Checkpoint) -> None:
    text = checkpoint.to_json()

    assert checkpoint == Checkpoint.from_json(text) == Checkpoint.from_json(text.encode())
    assert checkpoint == pickle.loads(pickle.dumps(checkpoint))
    assert "\n" not in text


def test_the_json_of_a_checkpoint_is_documented() -> None:
    text = json.loads(Checkpoint(QUESTION, 7, LAST).to_json())

    assert {
        "version": 1,
        "endpoint": "metrics.total_visits",
        "ids": {"touchpoint_id": "tp-1", "experience_id": None},
        "position": 7,
        "last": LAST,
    } == text


WHOLE: dict[str, Any] = {"version": 1, "endpoint": "e", "ids": {}, "position": 7, "last": LAST}


WRONG: list[dict[str, Any]] = [
    {"version": 2},
    {"version": "1"},
    {"version": None},
    {"endpoint": None},
    {"ids": None},
    {"ids": []},
    {"ids": {"touchpoint_id": 7}},
    {"position": -1},
    {"position": 0},
    {"position": -1, "last": None},
    {"position": "7"},
    {"position": None},
    {"position": True},
    {"position": 7.5},
    {"last": 7},
    {"extra": 1},
]
JUNK: dict[str, Any] = {
    "nothing": "",
    "cut": "{",
    "bytes": b"\xff\xfe",
    "a lone surrogate": '"\ud800"',
    "a deep nest": "[" * 100_000,
    "None": None,
    "an int": 7,
    **{text: text for text in ("null", "7", "[]", "{}", "true")},
    **{f"no {name}": json.dumps({key: WHOLE[key] for key in WHOLE if key != name}) for name in WHOLE},
    **{f"with {wrong}": json.dumps(WHOLE | wrong) for wrong in WRONG},
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_junk_is_no_checkpoint(junk: Any) -> None:
    with pytest.raises(CheckpointError, match="not a valid checkpoint"):
        Checkpoint.from_json(junk)


def test_no_value_of_a_row_can_be_read_from_its_digest() -> None:
    text = digest("user-17\n2026-06-01T00:00:00+00:00")

    assert 32 == len(text)
    assert "user-17" not in text
    assert text != digest("user-18\n2026-06-01T00:00:00+00:00")
    assert digest("\ud800")  # a lone surrogate is a row like any other


def test_a_question_reads_like_a_call() -> None:
    assert "metrics.total_visits(touchpoint_id='tp-1')" == str(QUESTION)


# --- rule 10: the last rows -------------------------------------------------------------------------------------------


def test_a_list_that_grows_behind_its_last_row_is_known_to_ascend_by_its_first_one() -> None:
    state = walk(page_size=1, last=1)
    (ask,) = requests(state, 0)
    assert Ask(0, size=1, state="resolve") == ask
    assert not feed(state, ask, page(0, 1, 10)).give

    (ask,) = requests(state, 0)
    assert Ask(9, 10, size=1) == ask
    assert Fed(0, 1) == feed(state, ask, page(9, 1, 11))
    assert state.ended
