"""Which page to request next, what a page shows about the list, and whether it is the end.

The vendors page by offset, without a total in the paging block, a "has more" or a snapshot
(https://docs.distinct.so/docs/touchpoint-scanner-metrics-api, "Query Parameters";
https://docs.vantio.app/api-reference/impressions/list-impressions). Everything below is inferred from that:

1. The offset advances by the rows received, never by the requested size: the server may cap pages silently.
2. The first page is requested alone. It shows the total (``totalVisits`` or ``uniqueVisits`` beside the list) and, by
   its length, the page size that the server really uses. The echoed ``pageSize`` shows only whether a page is full.
3. With both known, later pages are prefetched. A page of another length than planned, which is not the end, discards
   what was requested beyond it; the next one is requested alone, and its length is the new plan.
4. The end is where the offset reaches the newest total.
5. A first page that is full and as long as its total proves nothing: the "total" may be the page's own length. One more
   request decides. 400, 404 or no rows are the end; rows beyond the total that they state mean that this walk must not
   trust totals (a total that covers them has grown: rule 8). The same goes for a full page beyond the total.
6. An empty page where rows are due is requested once more. Before the total, a second empty one is an error.
7. A page that echoes another offset is requested once more, then it is a loop. A page equal to the one before it may be
   a loop, or rows that were uploaded twice: one request, a row further on, decides, since a server that ignores the
   offset returns the same page there too. Pages whose rows all have one time and no id look the same everywhere, and
   are accepted: a user may scan often in one second.
8. Totals that change: see `Totals`.
9. Without a total, pages are requested one after the other. If rows have ids, each page begins with the last row of the
   page before (`Continuity`); so does the first page of a resumed walk. A page without further rows is the end if the
   page before was not full; if it was, one request behind the known row decides. Further rows behind a page that is not
   full show that the server caps its pages: from here on one as long as that, or with ids any, may be full.
10. The last n rows begin n before the total, for which one row is requested first. If the total is no more than the
   rows received, it may be only their number (rule 5): one more request behind them decides.

What no client can see: one row removed and another added between two pages, before the walk's position; a page size
that is capped silently under a "total" that is only the page's own length. Without a total also: rows that change
places without one of the last `REMEMBERED` ids coming again; a row removed, or an empty page that passes, where the
server caps pages at one row, which leaves nothing to overlap; what is behind the first page that is not full, if the
server cuts the next one to the known row.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from attrs import define, evolve, field

from distinct_async.errors import DriftError, PageLoopError, PaginationError
from distinct_async.sansio.checkpoints import Question
from distinct_async.sansio.drift import Continuity, Totals
from distinct_async.sansio.pages import OnDrift, PageDecision, PageFacts, PageRequest, State

_DEFAULT_PAGE_SIZE = 50  # of both vendors, as documented
_TYPICAL_CAP = 100  # "maximum is typically 100" (list-impressions)
_PAST_THE_END: frozenset[State] = frozenset({"past_total", "short", "behind"})
_UNKNOWN_START = "so it is unknown where its last rows begin"
_IDENTICAL_PAGES = 1000  # equal pages in a row, without a total to end them, that are still accepted
_REMEDY = "resume with walk.resume(error.checkpoint), or start over"
_REQUEST_AGAIN = PageDecision(deliver=False, discard=True)


@define
class WalkState:
    """One walk: `requests` names the next requests, `receive` judges each page in order.

    Attributes:
        question: What is asked; errors show it.
        digest_row: Returns a row's digest, as checkpoints have it.
        offset: The offset of the next row to receive.
        page_size: Rows per request; None for the server's default.
        limit: Rows in all; None for no limit.
        last: Rows at the end of the list; then `offset` is unknown until the total is.
        prefetch: Pages in flight or waiting, at most.
        on_drift: Whether rows that moved are an error or a warning.
        continuity: Compares the next page with the one before it; a resumed walk begins with the checkpoint's row.
        state: What the walk does next.
        complete: Whether the end was reached, and no row was lost or repeated as far as a client can see.
        pages: Pages delivered.
        start: The offset of the first row; None until the total is known, if `last` is given.
    """

    question: Question
    digest_row: Callable[[Any], str]
    offset: int = 0
    page_size: int | None = None
    limit: int | None = None
    last: int | None = None
    prefetch: int = 4
    on_drift: OnDrift = "raise"
    continuity: Continuity = field(factory=Continuity)

    state: State = field(default="alone", init=False)
    complete: bool = field(default=False, init=False)
    pages: int = field(default=0, init=False)
    start: int | None = field(default=None, init=False)
    totals: Totals = field(factory=Totals, init=False)

    _end_offset: int | None = field(init=False)  # no row at or beyond it is wanted
    _next_offset: int = field(default=0, init=False)
    _planned_rows: int = field(default=0, init=False)  # of each page requested ahead
    _drifted: bool = field(default=False, init=False)
    _retried_offset: int | None = field(default=None, init=False)
    _previous_page: PageFacts = field(default=PageFacts(()), init=False)
    _full_page_rows: int = field(init=False)  # without a total
    _identical_pages: int = field(default=0, init=False)  # in a row
    _doubted_page: tuple[PageRequest, PageFacts] | None = field(default=None, init=False)  # rule 7

    def __attrs_post_init__(self) -> None:
        self._end_offset = None if self.limit is None else self.offset + self.limit
        self._full_page_rows = min(self.page_size or _DEFAULT_PAGE_SIZE, _TYPICAL_CAP)
        if self.last is None:
            self.start = self.offset
        else:
            self.state = "resolve"
        if self.limit == 0:
            self.state = "ended"

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to request."""
        return self.state == "ended"

    def requests(self, outstanding: int) -> list[PageRequest]:
        """Return the requests to make now.

        Args:
            outstanding: Pages in flight or waiting.
        """
        if self.state == "ahead" and (total := self.totals.current) is not None:
            requests: list[PageRequest] = []
            end = total if self._end_offset is None else min(total, self._end_offset)
            while outstanding + len(requests) < self.prefetch and self._next_offset < end:
                requests.append(PageRequest(self._next_offset, self.page_size, total, "ahead"))
                self._next_offset += self._planned_rows
            return requests
        if outstanding or self.ended:
            return []
        if self.state == "resolve":
            return [PageRequest(self._next_offset, 1, None, "resolve")]
        if self.state == "shifted" and self._doubted_page is not None:
            return [evolve(self._doubted_page[0], offset=self._doubted_page[0].offset + 1, state="shifted")]
        overlap_rows, page_size = int(self.continuity.anchor is not None), self.page_size
        if self.state == "sequential" and overlap_rows and page_size is not None:
            page_size = max(page_size, 2)  # one of them is known
        return [PageRequest(self.offset - overlap_rows, page_size, self.totals.current, self.state)]

    def is_end(self, request: PageRequest, status: int) -> bool:
        """Return whether an error response to this request is the end of the list (rules 5 and 9)."""
        if request.state == "resolve" and request.offset and status in {400, 404}:
            self._begin_last_rows(request.offset)
            return True
        if request.state in _PAST_THE_END and request.offset == self.offset and status in {400, 404}:
            self._finish()
            return True
        return False

    def receive(self, request: PageRequest, facts: PageFacts) -> PageDecision:
        """Judge the next page in order, and move on.

        Args:
            request: What was requested.
            facts: What was received.

        Returns:
            What to do with the page.

        Raises:
            PageLoopError: Rule 7.
            DriftError: Rules 8 and 9.
            PaginationError: Rules 6 and 10.
        """
        if facts.echo_offset not in {None, request.offset}:
            if self._retry_once(request):
                return _REQUEST_AGAIN
            returned = f"the server returned offset {facts.echo_offset} (it seems to ignore offset)"
            self._raise_error(f"requested offset {request.offset}, but {returned}", PageLoopError)
        if request.state == "resolve":
            self._resolve_last_rows(request, facts)
            return _REQUEST_AGAIN
        doubted, self._doubted_page = self._doubted_page, None
        if doubted is not None:
            if facts.items == doubted[1].items:
                self._raise_page_loop(doubted[0].offset, "and so does the page one row further on")
            request, facts = doubted
        elif facts.items and facts.items == self._previous_page.items:
            if self._repeats_previous(request, facts):
                self.state, self._doubted_page = "shifted", (request, facts)
                return _REQUEST_AGAIN
        else:
            self._identical_pages = 0
        return self._accept_page(request, facts, planned=doubted is None and request.state == "ahead")

    def _resolve_last_rows(self, request: PageRequest, facts: PageFacts) -> None:
        """Begin at the last rows, or arrange for a look behind those received (rule 10)."""
        received = request.offset + len(facts.items)
        self.totals.compare(facts, None, own_count=False)  # the time of a first row, later whether the list ascends
        if request.offset and not facts.items:
            self._begin_last_rows(request.offset)
        elif facts.total is None:
            self._raise_error(f"the server states no total, {_UNKNOWN_START}", PaginationError)
        elif request.offset and received > facts.total:
            self._raise_error(f"the server states {facts.total} rows but has more, {_UNKNOWN_START}", PaginationError)
        elif request.offset or not received or received < facts.total:
            self._begin_last_rows(facts.total)
        else:
            self._next_offset = received

    def _begin_last_rows(self, total: int) -> None:
        """Begin at the last rows of so many."""
        last_rows = self.last or 0
        self.state, self._next_offset = "alone", 0
        self.offset = self.start = max(0, total - last_rows)
        self._end_offset = self.offset + min(last_rows, last_rows if self.limit is None else self.limit)
        self.totals.first = self.totals.last = self.totals.current = total

    def _accept_page(self, request: PageRequest, facts: PageFacts, *, planned: bool) -> PageDecision:
        if request.state == "short" and request.offset + len(facts.items) > self.offset and self._recognise_cap(facts):
            return _REQUEST_AGAIN
        own_count = request.state == "past_total" and self._counts_own_rows(request, facts)
        drifts = self.totals.compare(facts, request.total, own_count=own_count)
        empty_before = not facts.items and self._expects_rows(request)
        if empty_before and self._retry_once(request):
            return evolve(_REQUEST_AGAIN, warning=self._report_drifts(drifts))
        known_rows = 0
        if self.continuity.anchor is not None or facts.ids:
            known_rows, new_drifts = self.continuity.compare(facts, self.digest_row, self.offset)
            drifts += new_drifts
        warning = self._report_drifts(drifts) if drifts else None
        if empty_before and self.totals.current is not None:
            empty = f"an empty page at offset {request.offset} twice although it reports {self.totals.current} rows"
            warning = self._report_drifts([f"the server returned {empty}"], PaginationError)
        discard = self._advance(request, facts, known_rows, planned=planned)
        return self._decide_delivery(request, facts, known_rows, discard=discard, warning=warning)

    def _expects_rows(self, request: PageRequest) -> bool:
        """Return whether a page must have rows (rules 6 and 9)."""
        if self.totals.current is None:
            return request.state == "sequential" or self.continuity.anchor is not None
        return request.offset < self.totals.current

    def _advance(self, request: PageRequest, facts: PageFacts, known_rows: int, *, planned: bool) -> bool:
        """Move on behind this page. Return whether to discard what was requested beyond it."""
        count, total = len(facts.items), self.totals.current
        self.offset = request.offset + count
        first, self._previous_page = not self._previous_page.items, facts
        if total is not None and (first or self.offset > total) and self._is_suspicious(request, facts, total):
            self.state = "past_total"
            return True
        if request.state == "past_total" and count and self._counts_own_rows(request, facts):
            self.totals.distrust()
            self._step_without_total(facts)
        elif (
            not count
            or (total is not None and self.offset >= total)
            or (request.state == "short" and count == known_rows)
        ):
            self._finish()
        elif total is None:
            self._step_without_total(facts, known_rows)
        elif not planned:
            self.state, self._planned_rows, self._next_offset = "ahead", count, self.offset
        elif count != self._planned_rows:
            self.state = "alone"
            return True
        return False

    def _step_without_total(self, facts: PageFacts, known_rows: int = 0) -> None:
        """Go on without a total (rule 9)."""
        count = len(facts.items)
        if count == known_rows:
            self.state = "behind"
            return
        self.state = "short" if count < self._full_page_rows else "sequential"
        if facts.ids and (count > 1 or self.state == "sequential"):  # a page of one row shows no further one
            self.continuity.anchor = self.digest_row(facts.items[-1])

    def _recognise_cap(self, facts: PageFacts) -> bool:
        """Learn that the page before was full. Return whether to request the rows behind it again, with an overlap."""
        overlaps = self.continuity.anchor is not None
        self._full_page_rows = 1 if overlaps else len(self._previous_page.items)
        if facts.ids and not overlaps:
            self._step_without_total(self._previous_page)
            return True
        return False

    def _decide_delivery(
        self, request: PageRequest, facts: PageFacts, known_rows: int, *, discard: bool, warning: str | None
    ) -> PageDecision:
        stop = count = len(facts.items)
        if self._end_offset is not None and request.offset + count >= self._end_offset:
            stop = max(known_rows, self._end_offset - request.offset)
            self.complete = self.complete and stop == count
            self.state = "ended"
        deliver = stop > known_rows or not self.pages
        self.pages += deliver
        return PageDecision(
            facts.items[known_rows:stop], request.offset + known_rows, facts.total, deliver, discard, warning
        )

    def _finish(self) -> None:
        self.state, self.complete = "ended", not self._drifted

    def _retry_once(self, request: PageRequest) -> bool:
        """Arrange for this page to be requested once more. Return False if it already was."""
        if self._retried_offset == request.offset:
            return False
        self._retried_offset = request.offset
        if self.state == "ahead":
            self.state = "alone"
        return True

    def _repeats_previous(self, request: PageRequest, facts: PageFacts) -> bool:
        """Return whether the page equals the one before it, and could not do so by chance (rule 7)."""
        self._identical_pages += 1
        if self.totals.current is None and self._identical_pages >= _IDENTICAL_PAGES:
            self._raise_page_loop(request.offset, f"for the {self._identical_pages}th time")
        if not facts.ids:
            return facts.unmistakable()
        return len(facts.items) > 1  # a single row may have moved: `Continuity` decides

    def _is_suspicious(self, request: PageRequest, facts: PageFacts, total: int) -> bool:
        """Return whether the total may be only the length of the page, the first one or one beyond it (rule 5)."""
        count = len(facts.items)
        if not count or request.state == "past_total":
            return False
        full = count >= (facts.echo_size or self.page_size or count)
        return full and (count == total or self.offset > total)

    @staticmethod
    def _counts_own_rows(request: PageRequest, facts: PageFacts) -> bool:
        """Return whether a total cannot be the whole list's: it is less than the rows received."""
        return facts.total is None or facts.total < request.offset + len(facts.items)

    def _report_drifts(self, drifts: Sequence[str], error: type[PaginationError] = DriftError) -> str | None:
        """Raise the drifts, or return them as one warning."""
        if not drifts:
            return None
        text = "; ".join(drifts)
        if self.on_drift == "raise":
            self._raise_error(text, error)
        self._drifted = True
        return text

    def _raise_page_loop(self, offset: int, repetition: str) -> NoReturn:
        text = (
            f"the page at offset {offset} repeats the previous page, {repetition} (the server seems to ignore offset)"
        )
        self._raise_error(text, PageLoopError)

    def _raise_error(self, text: str, error: type[PaginationError]) -> NoReturn:
        raise error(text, remedy=_REMEDY, operation=str(self.question))
