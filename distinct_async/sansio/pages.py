"""Which page to ask next, what a page's facts mean, whether it is honest, and whether it is the end.

The vendors page by offset, without a total in the paging block, a "has more" or a snapshot
(https://docs.distinct.so/docs/touchpoint-scanner-metrics-api, "Query Parameters";
https://docs.vantio.app/api-reference/impressions/list-impressions). Everything below is inferred from that:

1. The offset moves by the rows received, never by the size asked for: the server may cut pages silently.
2. The first page is asked alone. It tells the total (``totalVisits`` or ``uniqueVisits`` beside the list) and, by its
   length, the page size the server really uses. The echoed ``pageSize`` only tells whether a page is full.
3. With both known, later pages are asked ahead. A page of another length than planned, which is not the end, throws
   away what was asked beyond it; the next is asked alone and its length is the new plan.
4. The end is where the offset reaches the newest total; without a total, an empty page.
5. A first page that is full and as long as its total proves nothing, the "total" may be the page's own count: one more
   request. 400, 404 or no rows are the end; rows beyond the total that they state mean that totals are not to be
   believed in this walk (a total that covers them has grown: rule 8). The same goes for a full page that leads beyond
   the total.
6. An empty page before the total is tried once more; then the walk cannot go on honestly.
7. An echoed offset other than the asked one, or a page equal to its predecessor, is a loop - unless all its rows bear
   one instant and no id: a user may scan often in one second.
8. A total is compared only with what was known when its page was asked, since pages ahead may answer out of order. It
   grew: fine where the walk ascends, new rows are at its end; else rows have shifted under the walk. It shrank: rows
   have shifted.
9. A resumed walk reads the last row given once more; where it has changed, rows have shifted.

What no client can see: one row removed and another added between two pages, before the walk's position; a page size
that is cut without a word under a "total" that is only the page's own count.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Literal

import msgspec
from attrs import define, field, frozen

from distinct_async.errors import CheckpointError, DriftError, PageLoopError, PaginationError

OnDrift = Literal["raise", "warn"]

_IDENTICAL_PAGES = 1000  # equal pages in a row, without a total to end them, that are still taken for honest

_REMEDY = "resume with walk.resume(error.checkpoint), or start over"


@frozen
class Question:
    """What a walk asks for; a checkpoint is good for one question only. Page size, limit and offset do not matter."""

    endpoint: str
    ids: Mapping[str, str | None]

    def __str__(self) -> str:
        """As in errors: the endpoint and its ids."""
        return f"{self.endpoint}({', '.join(f'{name}={value!r}' for name, value in self.ids.items() if value)})"


class _CheckpointText(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    endpoint: str
    ids: dict[str, str | None]
    position: int
    last: str | None


@frozen
class Checkpoint:
    """The position after the last row given, to be stored and handed to `Walk.resume`.

    :ivar question: what was asked.
    :ivar position: rows of the whole list before this point.
    :ivar last: a digest of the last row; it tells on resuming whether rows have moved. No user id can be read from it.
    """

    question: Question
    position: int
    last: str | None = None

    def to_json(self) -> str:
        """The checkpoint as a short JSON text."""
        text = _CheckpointText(1, self.question.endpoint, dict(self.question.ids), self.position, self.last)
        return msgspec.json.encode(text).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Checkpoint":
        """The checkpoint of a text that `to_json` wrote; :exc:`CheckpointError` for anything else."""
        try:
            told = msgspec.json.decode(text, type=_CheckpointText)
        except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError) as wrong:
            problem = str(wrong)
        else:
            if told.position >= (0 if told.last is None else 1):
                return cls(Question(told.endpoint, told.ids), told.position, told.last)
            problem = f"position {told.position} cannot be"
        raise CheckpointError(f"not a checkpoint of this version: {problem}")


def digest(row: str) -> str:
    """A short digest of a row's values, as a checkpoint carries it."""
    return blake2b(row.encode(errors="surrogatepass"), digest_size=16).hexdigest()


@frozen
class PageFacts:
    """What of a page matters to the walk.

    :ivar items: the rows, as received.
    :ivar total: the whole list's length, as the page states it.
    :ivar echo_offset: the offset that the page says it has.
    :ivar echo_size: the page size that it says it has.
    :ivar first: the time of its first row; `last`: of its last.
    :ivar unmistakable: an equal page can only be the same page again: its rows have ids, or several times. Looked
        at only where a page equals the one before it.
    """

    items: Sequence[object]
    total: int | None = None
    echo_offset: int | None = None
    echo_size: int | None = None
    first: datetime | None = None
    last: datetime | None = None
    unmistakable: Callable[[], bool] = field(default=lambda: False, eq=False)


@frozen
class Ask:
    """One page to be asked for, and what was known at that moment."""

    offset: int
    total: int | None = None
    alone: bool = True  # nothing is planned: its length becomes the plan
    probe: bool = False  # asked at the end, to see whether it is the end (rule 5)


@frozen
class Fed:
    """What to do with the page just fed.

    :ivar start: rows from here ...
    :ivar stop: ... to here are given.
    :ivar give: whether a page is given at all.
    :ivar discard: throw away what was asked beyond this page.
    :ivar warning: a drift that was only to be told.
    """

    start: int = 0
    stop: int = 0
    give: bool = True
    discard: bool = False
    warning: str | None = None


@define
class WalkState:
    """One walk: `asks` names the next requests, `feed` judges each answer in order."""

    question: Question
    offset: int = 0  # of the next row to be received
    page_size: int | None = None  # as asked
    limit: int | None = None
    prefetch: int = 4
    on_drift: OnDrift = "raise"
    anchor: str | None = None  # the digest of the row before `offset`, in a resumed walk

    ended: bool = False
    complete: bool = False
    total: int | None = None  # the newest seen; None while unknown or not believed
    total_first: int | None = None
    total_last: int | None = None
    given: int = 0
    given_pages: int = 0

    _ahead: int = field(init=False)  # the next offset to ask for
    _end: int | None = field(init=False)  # no row at or beyond it is wanted
    _plan: int | None = field(default=None, init=False)  # rows a page
    _believed: bool = field(default=True, init=False)  # totals are totals
    _probe: bool = field(default=False, init=False)
    _drifted: bool = field(default=False, init=False)
    _grew_from: int | None = field(default=None, init=False)
    _retried: int | None = field(default=None, init=False)  # where an empty page was met already
    _previous: Sequence[object] = field(default=(), init=False)
    _identical: int = field(default=0, init=False)
    _first_time: datetime | None = field(default=None, init=False)
    _edge: datetime | None = field(default=None, init=False)
    _steps: int = field(default=0, init=False)
    _steps_back: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._end = None if self.limit is None else self.offset + self.limit
        self.ended = self.limit == 0
        if self.anchor is not None and not self.ended:
            self.offset -= 1
        self._ahead = self.offset

    def asks(self, outstanding: int) -> list[Ask]:
        """The requests to make now, with `outstanding` of them in flight or waiting."""
        if self.ended:
            return []
        if self._plan is None or self.total is None or self._probe:
            return [] if outstanding else [Ask(self.offset, self.total, probe=self._probe)]
        asks: list[Ask] = []
        end = self.total if self._end is None else min(self.total, self._end)
        while outstanding + len(asks) < self.prefetch and self._ahead < end:
            asks.append(Ask(self._ahead, self.total, alone=False))
            self._ahead += self._plan
        return asks

    def refused(self, ask: Ask, status: int) -> bool:
        """Whether a refusal of this page is the end (rule 5)."""
        if ask.probe and status in {400, 404}:
            self._finish(complete=True)
            return True
        return False

    def feed(self, ask: Ask, facts: PageFacts, anchor: str | None = None) -> Fed:
        """Judge the next page in order, move on, and say what of it to give.

        :param anchor: the digest of the page's first row, where the walk is resumed and this is its first page.
        :raises PageLoopError: rule 7. :raises DriftError: rules 8 and 9. :raises PaginationError: rule 6.
        """
        if facts.echo_offset is not None and facts.echo_offset != ask.offset:
            if self._retried != ask.offset:
                self._retried = ask.offset
                self._replan()
                return Fed(give=False, discard=True)
            self._fail(PageLoopError, f"asked for offset {ask.offset}, the server answered offset {facts.echo_offset}")
        skip, warning = (0, None) if self.anchor is None else self._weigh_anchor(facts, self.anchor, anchor)
        self._weigh_repetition(ask, facts)
        warning = self._weigh_total(ask, facts) or warning
        count = len(facts.items)
        if count == 0 and self.total is not None and ask.offset < self.total:
            if self._retried != ask.offset:
                # The same offset once more, alone, as the first page was
                self._retried, self._probe = ask.offset, False
                self._replan()
                return Fed(give=False, discard=True, warning=warning)
            told = f"an empty page at offset {ask.offset}, twice, with a total of {self.total}"
            warning = self._drift(told, PaginationError)
        self.offset = ask.offset + count
        first, self._previous = not self._previous, facts.items
        discard = self._probe = False
        if self._suspicious(ask, facts, first=first):
            self._probe, discard = True, True
        elif ask.probe and count and self._own_count(ask, facts):
            # Rows beyond the total: there is no total. One request at a time from here, to the first empty page.
            self._believed, self.total = False, None
        elif count == 0 or (self.total is not None and self.offset >= self.total):
            self._finish(complete=True)
        elif ask.alone:
            self._plan, self._ahead = count, self.offset
        elif count != self._plan:
            self._replan()
            discard = True
        return self._give(ask, count, skip, discard=discard, warning=warning)

    @staticmethod
    def _own_count(ask: Ask, facts: PageFacts) -> bool:
        """Whether a total cannot be the whole list's: a list that grew has at least the rows that were seen of it."""
        return facts.total is None or facts.total < ask.offset + len(facts.items)

    def _give(self, ask: Ask, count: int, skip: int, *, discard: bool, warning: str | None) -> Fed:
        stop = count
        if self._end is not None and ask.offset + count >= self._end:
            stop = max(skip, self._end - ask.offset)
            self._finish(complete=self.ended and self.complete and stop == count)
        give = stop > skip or not self.given_pages
        if give:
            self.given += stop - skip
            self.given_pages += 1
        return Fed(skip, stop, give, discard, warning)

    def _finish(self, *, complete: bool) -> None:
        self.ended, self.complete = True, complete and not self._drifted

    def _replan(self) -> None:
        self._plan, self._ahead = None, self.offset

    def _weigh_anchor(self, facts: PageFacts, expected: str, anchor: str | None) -> tuple[int, str | None]:
        """Rule 9. The rows to skip (the anchor itself), and a warning."""
        if not facts.items and self._retried is None and (facts.total or 0) > self.offset:
            return 0, None  # nothing to compare yet: rule 6 comes first
        self.anchor = None
        if facts.items and anchor == expected:
            return 1, None
        moved = "is another one now" if facts.items else "is gone"
        told = f"row {self.offset}, the last one given before the checkpoint, {moved}: rows have moved"
        return min(1, len(facts.items)), self._drift(told)

    def _weigh_repetition(self, ask: Ask, facts: PageFacts) -> None:
        """Rule 7."""
        if not facts.items or facts.items != self._previous:
            self._identical = 0
            return
        self._identical += 1
        if facts.unmistakable() or (self.total is None and self._identical >= _IDENTICAL_PAGES):
            self._fail(PageLoopError, f"the page at offset {ask.offset} is the one before it again: is offset ignored?")

    def _weigh_total(self, ask: Ask, facts: PageFacts) -> str | None:
        """Rule 8. Returns a warning."""
        for time in (facts.first, facts.last) if len(facts.items) > 1 else (facts.first,):
            if time is None:
                continue
            if self._edge is not None:
                self._steps += 1
                self._steps_back += time < self._edge
            self._first_time = self._first_time or time
            self._edge = time
        total = facts.total
        if total is None:
            return None
        self.total_first = total if self.total_first is None else self.total_first
        self.total_last = total
        if not self._believed or (ask.probe and self._own_count(ask, facts)):
            return None
        if ask.total is None or self.total is None:
            self.total = total
        elif total > ask.total:
            self._grew_from = ask.total if total > self.total else self._grew_from
            self.total = max(self.total, total)
        elif total < ask.total and total != self.total:
            self.total = total
            return self._drift(f"the total shrank from {ask.total} to {total}: rows have shifted")
        if self._grew_from is not None and not self.ascends:  # at each page from here on: one step can mislead
            told = f"the total grew from {self._grew_from} to {self.total} in a list that does not ascend in time"
            self._grew_from = None
            return self._drift(f"{told}: rows may have shifted")
        return None

    @property
    def ascends(self) -> bool | None:
        """Whether the list ascends in time, as far as it was seen; None where all of it bears one time."""
        if self._first_time is None or self._edge is None or (self._first_time == self._edge and not self._steps_back):
            return None
        return self._first_time < self._edge and self._steps_back * 2 < self._steps

    def _suspicious(self, ask: Ask, facts: PageFacts, *, first: bool) -> bool:
        """Rule 5."""
        count, total = len(facts.items), self.total
        if total is None or not count or ask.probe:
            return False
        full = count >= (facts.echo_size or self.page_size or count)
        return full and ((first and count == total) or self.offset > total)

    def _drift(self, told: str, error: type[PaginationError] = DriftError) -> str:
        if self.on_drift == "raise":
            self._fail(error, told)
        self._drifted = True
        return told

    def _fail(self, error: type[PaginationError], told: str) -> None:
        raise error(told, remedy=_REMEDY, operation=str(self.question))
