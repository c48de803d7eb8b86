"""What there is to read, before any walk: one EXPERIENCE call gives every touchpoint's totals."""

import heapq
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple, get_args

from attrs import evolve, field, frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.models import TouchpointSummary, VisitsType
from distinct_async.sansio.messages import identifier, whole_number
from distinct_async.sansio.pages import Checkpoint

_RANGE_ROWS = 10_000  # lists are cut at its multiples; it is one of all usual page sizes


class ListKey(NamedTuple):
    """Which list: the ids of experience and touchpoint, and the type of the visits."""

    experience_id: str
    touchpoint_id: str
    visits_type: VisitsType


@frozen
class VisitList:
    """One touchpoint's visits of one type; in a plan made by `Plan.split`, a range of them.

    Attributes:
        touchpoint: The touchpoint, with the totals that the experience declares.
        visits_type: ``"TOTAL"``: every scan; ``"UNIQUE"``: the first scan of each user.
        start: The position of the first row to read, from 0.
        stop: The position after the last row to read; None to read to the end, wherever that is then.
        experience_id: The id of the experience.
        before: The checkpoint at `start`: reading raises a `DriftError` if its row, the one before the range, is not in
            its place. None to read without that check.
        after: The checkpoint at `stop`, for the last row of the range; None for no check.
    """

    touchpoint: TouchpointSummary
    visits_type: VisitsType
    start: int = 0
    stop: int | None = None
    experience_id: str = ""
    before: Checkpoint | None = field(default=None, eq=False, repr=False)  # which has no hash
    after: Checkpoint | None = field(default=None, eq=False, repr=False)

    @property
    def declared(self) -> int:
        """How many rows the experience declares for the whole list."""
        return self.touchpoint.total_visits if self.visits_type == "TOTAL" else self.touchpoint.unique_visits

    @property
    def expected(self) -> int:
        """How many rows to read, as the experience declares them."""
        return (self.declared if self.stop is None else self.stop) - self.start

    def cut(self, start: int, stop: int) -> "VisitList":
        """Return a range of this list or range.

        Args:
            start: The position of the first row to read.
            stop: The position after the last row to read.
        """
        before = self.before if start == self.start else None
        return evolve(self, start=start, stop=stop, before=before, after=self.after if stop == self.stop else None)

    @property
    def key(self) -> ListKey:
        """What distinguishes this list from all others: `experience_id`, `touchpoint_id` and `visits_type`."""
        return ListKey(self.experience_id, self.touchpoint.id, self.visits_type)

    def __str__(self) -> str:
        rows = "" if self.stop is None else f", rows {self.start} to {self.stop}"
        return f"touchpoint {self.touchpoint.id!r}, {self.visits_type} visits{rows}"


@frozen
class Plan:
    """The lists of an experience, in the server's order of its touchpoints.

    Attributes:
        experience_id: The experience's id.
        works: The lists.
        declared: How many touchpoints the server says there are.
    """

    experience_id: str
    works: tuple[VisitList, ...]
    declared: int

    @property
    def touchpoints(self) -> tuple[TouchpointSummary, ...]:
        """The touchpoints, each once."""
        return tuple({each.touchpoint.id: each.touchpoint for each in self.works}.values())

    @property
    def expected(self) -> int:
        """Rows in all lists, as the experience declares them."""
        return sum(each.expected for each in self.works)

    @property
    def complete(self) -> bool:
        """Whether as many touchpoints were listed as declared; the vendor's page contradicts itself on paging."""
        return len(self.touchpoints) >= self.declared

    def split(self, parts: int) -> "list[Plan]":
        """Return plans that together read each declared row exactly once, for tasks that run anywhere.

        Their rows differ by at most 10,000. Long lists are cut at multiples of 10,000 rows, so that pages stay whole.
        A part proves itself: reading it yields exactly its rows, or raises a `DriftError` if the list has become
        shorter, or has grown and a row of the part is not in the order of times. So a task may be repeated while lists
        grow at their ends. No client can see that as many rows were removed as added, or added where their times fit.
        Parts can be pickled, and hold no key.

        Args:
            parts: How many, 1 or more. Some are empty if there are fewer ranges.

        Returns:
            The parts.

        Raises:
            InvalidRequestError: `parts` is not a positive whole number.
        """
        bins: list[list[_Range]] = [[] for _ in range(whole_number(parts, "parts", 1))]
        ranges = [each for index, visit_list in enumerate(self.works) for each in _cut_ranges(index, visit_list)]
        full = [each for each in ranges if each.rows == _RANGE_ROWS]
        bin_rows = [0] * len(bins)
        for index in range(len(bins)):
            quotient, remainder = divmod(len(full), len(bins))
            first, count = index * quotient + min(index, remainder), quotient + (index < remainder)
            bins[index] += full[first : first + count]  # neighbours, which become one range again
            bin_rows[index] = count * _RANGE_ROWS
        heap = [(rows, index) for index, rows in enumerate(bin_rows)]
        heapq.heapify(heap)
        for each in sorted((each for each in ranges if each.rows < _RANGE_ROWS), key=lambda each: -each.rows):
            rows, index = heap[0]  # the smallest bin
            bins[index].append(each)
            heapq.heapreplace(heap, (rows + each.rows, index))
        return [self._make_part(sorted(each)) for each in bins]

    def exact(self) -> "Plan":
        """Return the same plan as one part: exactly its rows are read, also if lists have grown meanwhile."""
        return self.split(1)[0]

    def _make_part(self, ranges: "list[_Range]") -> "Plan":
        works: list[VisitList] = []
        previous: _Range | None = None
        for each in ranges:
            start = each.start
            if previous is not None and (previous.list_index, previous.stop) == (each.list_index, start):
                start = works.pop().start  # one range with the one before it
            works.append(self.works[each.list_index].cut(start, each.stop))
            previous = each
        part = Plan(self.experience_id, tuple(works), 0)
        missing_touchpoints = max(0, self.declared - len(self.touchpoints))
        return evolve(part, declared=len(part.touchpoints) + missing_touchpoints)


class _Range(NamedTuple):
    """A range of rows of one list of a plan."""

    list_index: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


def _cut_ranges(list_index: int, visit_list: VisitList) -> Iterable[_Range]:
    """Yield the ranges, cut at multiples of `_RANGE_ROWS`; of an empty list, one without rows."""
    start = visit_list.start
    stop = start + visit_list.expected
    cuts = [start, *range(start - start % _RANGE_ROWS + _RANGE_ROWS, stop, _RANGE_ROWS), stop]
    return (_Range(list_index, *each) for each in pairwise(cuts))


async def plan(
    client: DistinctClient,
    experience_id: str,
    *,
    visits_type: VisitsType | None = None,
    touchpoint_ids: Iterable[str] | None = None,
) -> Plan:
    """Return the lists of visits of an experience, with the rows to expect, in one call (``metricsType=EXPERIENCE``).

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.
        touchpoint_ids: Only these touchpoints; None for all.

    Raises:
        InvalidRequestError: An id is empty or the visits type unknown (nothing was sent), or the experience does not
            have one of the touchpoints.
        NotFoundError: The experience does not exist.
        DistinctError: Any other failure of the request; see `distinct_async.errors`.

    Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
    """
    selected_types, selected = select_visits_types(visits_type), parse_touchpoint_ids(touchpoint_ids)
    experience_id = identifier(experience_id, "experience_id")
    metrics = await client.metrics.experience(experience_id)
    touchpoints, declared = {each.id: each for each in metrics.touchpoints}, metrics.total_touchpoints  # each once
    if selected is not None:
        for unknown_id in selected - touchpoints.keys():
            raise InvalidRequestError(f"experience {experience_id!r} has no touchpoint {unknown_id!r}")
        touchpoints, declared = {key: each for key, each in touchpoints.items() if key in selected}, len(selected)
    works = (
        VisitList(each, each_type, experience_id=experience_id)
        for each in touchpoints.values()
        for each_type in selected_types
    )
    return Plan(experience_id, tuple(works), declared)


def parse_touchpoint_ids(touchpoint_ids: Iterable[str] | None) -> frozenset[str] | None:
    """Return the ids as a set; None for all touchpoints.

    Raises:
        InvalidRequestError: They are one string, there is none, or one of them is not an id.
    """
    if touchpoint_ids is None:
        return None
    if isinstance(touchpoint_ids, str | bytes) or not isinstance(touchpoint_ids, Iterable):
        raise InvalidRequestError("touchpoint_ids must be a list of ids, not one value; for one touchpoint pass [id]")
    selected = frozenset(identifier(each, "touchpoint_ids") for each in touchpoint_ids)
    if not selected:
        raise InvalidRequestError("touchpoint_ids is empty; pass None for all touchpoints")
    return selected


def select_visits_types(visits_type: str | None) -> tuple[VisitsType, ...]:
    """Return the types that an option selects.

    Raises:
        InvalidRequestError: There is no such type.
    """
    all_types: tuple[VisitsType, ...] = get_args(VisitsType)
    if visits_type is not None and visits_type not in all_types:
        raise InvalidRequestError(f"visits_type must be 'TOTAL', 'UNIQUE' or None, got {visits_type!r}")
    return tuple(each for each in all_types if visits_type in {None, each})
