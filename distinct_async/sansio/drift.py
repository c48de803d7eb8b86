"""What shows that rows moved while a list was read: the totals, the times, and the rows themselves."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import define, field

from distinct_async.sansio.pages import PageFacts

REMEMBERED = 10_000  # ids, about 1 MB


@define
class Totals:
    """The totals of one walk, and the times of the first and last row of each page.

    A total is compared only with the one that was known when its page was requested, since prefetched pages may arrive
    out of order. If it grew, that is fine in a list that ascends in time: new rows are at its end. Otherwise rows have
    moved. If it shrank, rows have moved.

    Attributes:
        current: The newest total; None if none was stated, or if totals cannot be trusted.
        first: The first total that was stated.
        last: The total that was stated last.
        trusted: False if a "total" turned out to be the length of its page.
    """

    current: int | None = None
    first: int | None = None
    last: int | None = None
    trusted: bool = True
    _grew_from: int | None = None
    _first_time: datetime | None = None
    _latest_time: datetime | None = None
    _steps: int = 0
    _steps_back: int = 0

    @property
    def ascends(self) -> bool | None:
        """Whether most steps between the times go forward; None if all rows have the same time."""
        first, latest = self._first_time, self._latest_time
        if first is None or latest is None or (first == latest and not self._steps_back):
            return None
        return first < latest and self._steps_back * 2 < self._steps

    def distrust(self) -> None:
        """Ignore totals from here on."""
        self.current, self.trusted = None, False

    def compare(self, facts: PageFacts, known_total: int | None, *, own_count: bool) -> list[str]:
        """Compare a page's total and times with those before.

        Args:
            facts: The page.
            known_total: The total that was known when the page was requested.
            own_count: Whether the total is only the number of rows received.

        Returns:
            How rows have moved; empty if they have not.
        """
        for time in (facts.first, facts.last) if len(facts.items) > 1 else (facts.first,):
            if time is not None:
                if self._latest_time is not None:
                    self._steps += 1
                    self._steps_back += time < self._latest_time
                self._first_time = self._first_time or time
                self._latest_time = time
        total = facts.total
        if total is None:
            return []
        self.first = total if self.first is None else self.first
        self.last = total
        return [] if own_count or not self.trusted else self._compare_totals(total, known_total)

    def _compare_totals(self, total: int, known_total: int | None) -> list[str]:
        if known_total is None or self.current is None:
            self.current = total
        elif total > known_total:
            if known_total and total > self.current:  # no row was there that could have moved from nothing
                self._grew_from = known_total
            self.current = max(self.current, total)
        elif total < known_total and total != self.current:
            self.current = total
            return [f"rows were removed during the walk: the total shrank from {known_total} to {total}"]
        if self._grew_from is not None and not self.ascends:  # at each page from here on: one step can mislead
            growth, self._grew_from = f"the list grew from {self._grew_from} to {self.current} during the walk", None
            return [f"{growth} and is not sorted oldest-first; rows may be skipped or repeated"]
        return []


@define
class Continuity:
    """Whether a page continues the one before it: it begins with the same row, and no id comes twice.

    Attributes:
        anchor: The digest of the last row received, with which the next page must begin; None if it need not.
    """

    anchor: str | None = None
    _ids: OrderedDict[str, None] = field(factory=OrderedDict, init=False)  # the last `REMEMBERED`

    def compare(self, facts: PageFacts, digest_row: Callable[[Any], str], offset: int) -> tuple[int, list[str]]:
        """Compare a page with the rows received before.

        Args:
            facts: The page.
            digest_row: Returns a row's digest.
            offset: The offset of the first row that was not received yet.

        Returns:
            How many of its rows are known, and how rows have moved.
        """
        anchor, self.anchor, known_rows, drifts = self.anchor, None, 0, list[str]()
        if anchor is not None:
            known_rows = min(1, len(facts.items))
            if not facts.items or digest_row(facts.items[0]) != anchor:
                change = "has changed since it was read" if facts.items else "is gone"
                drifts.append(f"row {offset - 1} {change}: rows were inserted or removed")
                if self._ids and facts.ids and facts.ids[0] not in self._ids:
                    known_rows = 0  # never delivered
        repeated_ids = []
        for each in facts.ids[known_rows:]:
            if each in self._ids:
                repeated_ids.append(each)
            self._ids[each] = None
        while len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)
        if repeated_ids and not drifts:
            rows = f"{len(repeated_ids)} row{'s' * (len(repeated_ids) > 1)}"
            drifts.append(f"{rows} came twice, the first with id {repeated_ids[0]!r}: rows were moved")
        return known_rows, drifts
