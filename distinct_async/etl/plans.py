"""What there is to read, before any walk: one EXPERIENCE call gives every touchpoint's totals."""

import heapq
from collections.abc import Iterable
from itertools import pairwise
from typing import get_args

from attrs import evolve, field, frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.models import TouchpointSummary, VisitsType
from distinct_async.sansio.messages import identifier, whole_number
from distinct_async.sansio.pages import Checkpoint

_CUT = 10_000  # lists are cut at multiples of it: a multiple of all usual page sizes

ListKey = tuple[str, str, VisitsType]
"""Which list: the ids of experience and touchpoint, and the type of the visits."""


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
        """What distinguishes this list from all others."""
        return self.experience_id, self.touchpoint.id, self.visits_type

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
        bins: list[list[tuple[int, int, int]]] = [[] for _ in range(whole_number(parts, "parts", 1))]
        ranges = [each for index, visit_list in enumerate(self.works) for each in _ranges(index, visit_list)]
        full = [each for each in ranges if each[2] - each[1] == _CUT]
        least = [0] * len(bins)
        for index in range(len(bins)):
            few, more = divmod(len(full), len(bins))
            first, count = index * few + min(index, more), few + (index < more)
            bins[index] += full[first : first + count]  # neighbours, which become one range again
            least[index] = count * _CUT
        heap = [(rows, index) for index, rows in enumerate(least)]
        heapq.heapify(heap)
        for each in sorted((each for each in ranges if each[2] - each[1] < _CUT), key=lambda each: each[1] - each[2]):
            rows, index = heap[0]
            bins[index].append(each)
            heapq.heapreplace(heap, (rows + each[2] - each[1], index))
        return [self._part(sorted(each)) for each in bins]

    def exact(self) -> "Plan":
        """Return the same plan as one part: exactly its rows are read, also if lists have grown meanwhile."""
        return self.split(1)[0]

    def _part(self, ranges: list[tuple[int, int, int]]) -> "Plan":
        works: list[VisitList] = []
        before: tuple[int, int | None] | None = None
        for index, start, stop in ranges:
            if before == (index, start):
                start = works.pop().start  # noqa: PLW2901  # one range with the one before it
            works.append(self.works[index].cut(start, stop))
            before = index, stop
        part = Plan(self.experience_id, tuple(works), 0)
        absent = max(0, self.declared - len(self.touchpoints))
        return evolve(part, declared=len(part.touchpoints) + absent)


def _ranges(index: int, visit_list: VisitList) -> Iterable[tuple[int, int, int]]:
    """Yield the ranges, cut at multiples of `_CUT`; of an empty list, one without rows."""
    start = visit_list.start
    stop = start + visit_list.expected
    cuts = [start, *range(start - start % _CUT + _CUT, stop, _CUT), stop]
    return ((index, *each) for each in pairwise(cuts))


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
    types, selected = visits_types(visits_type), selection(touchpoint_ids)
    experience_id = identifier(experience_id, "experience_id")
    metrics = await client.metrics.experience(experience_id)
    listed, declared = {each.id: each for each in metrics.touchpoints}, metrics.total_touchpoints  # each once
    if selected is not None:
        for unknown in selected - listed.keys():
            raise InvalidRequestError(f"experience {experience_id!r} has no touchpoint {unknown!r}")
        listed, declared = {key: each for key, each in listed.items() if key in selected}, len(selected)
    works = (VisitList(each, kind, experience_id=experience_id) for each in listed.values() for kind in types)
    return Plan(experience_id, tuple(works), declared)


def selection(touchpoint_ids: Iterable[str] | None) -> frozenset[str] | None:
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


def visits_types(visits_type: str | None) -> tuple[VisitsType, ...]:
    """Return the types that an option selects.

    Raises:
        InvalidRequestError: There is no such type.
    """
    known: tuple[VisitsType, ...] = get_args(VisitsType)
    if visits_type is not None and visits_type not in known:
        raise InvalidRequestError(f"visits_type must be 'TOTAL', 'UNIQUE' or None, got {visits_type!r}")
    return tuple(each for each in known if visits_type in {None, each})
