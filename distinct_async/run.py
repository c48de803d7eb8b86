"""One iteration of a walk: `WalkState` decides, and a `Run` executes its decisions.

In the window wait responses as msgspec read them when they arrived, which also decided whether to retry: 150 bytes a
visit, in wire Structs that the garbage collector does not track. Rows, 115 bytes more, are made of them when their page
is delivered.
"""

import asyncio
import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from types import AsyncGeneratorType, TracebackType
from typing import Any, Generic, NoReturn, Self, TypeVar, cast

from attrs import define

from distinct_async.core import LoopState, drain
from distinct_async.engine import Engine
from distinct_async.errors import APIError, ClientStateError, DistinctError, DriftWarning, PaginationError, annotate
from distinct_async.page import Page, Report, ReportCallback, Source
from distinct_async.sansio.checkpoints import Checkpoint
from distinct_async.sansio.messages import Reply
from distinct_async.sansio.pages import PageRequest
from distinct_async.sansio.walk_state import WalkState

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@define(eq=False)
class _PendingPage:
    """A page in the window. The task does not return the reply: the loop would keep it alive until its next step."""

    request: PageRequest
    task: asyncio.Task[None] | None = None
    reply: Reply[Any] | None = None


class Run(Generic[T_co]):
    """One iteration of a walk; made by `Walk.run`.

    `checkpoint` and `report` are correct at any moment, also after a break, an error or Ctrl-C.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source[Any],
        state: WalkState,
        resumed: Checkpoint | None = None,
        on_progress: ReportCallback | None = None,
    ) -> None:
        self._engine, self._source, self._state = engine, source, state
        self._on_progress = on_progress
        self._window: deque[_PendingPage] = deque()
        self._awaited: asyncio.Task[None] | None = None  # the page that the consumer waits for
        self._resumed_from = resumed
        self._page: Page[T_co] | None = None
        self._delivered = 0  # rows of that page
        self._rows = self._requests = self._retries = 0
        self._waited = self._on_wire = 0.0
        self._generator: AsyncGenerator[Any, None] | None = None
        self._ended = False

    def __repr__(self) -> str:
        """Return what is asked, and how far the run has come."""
        state, position = self._state, self._position
        position_text = f"before the last {state.last} rows" if position is None else f"at row {position.position}"
        total_text = "" if state.totals.last is None else f" of {state.totals.last}"
        return f"<Run {self._source.question}, {position_text}{total_text}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Iterate row by row, once."""
        return self._claim(self._iterate_rows())

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Iterate page by page, once."""
        return self._claim(self._iterate_pages())

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The position after the last delivered row; None if none was ever delivered."""
        page, delivered = self._page, self._delivered
        if page is None:
            return self._resumed_from
        if delivered == len(page.items):
            return page.checkpoint
        return self._source.checkpoint_after(page.items[delivered - 1], page.offset + delivered)

    @property
    def checkpoint_json(self) -> str:
        """The checkpoint as JSON, for `Checkpoint.from_json`; before the first row, the position where the run begins.

        Raises:
            ClientStateError: If the run begins at the `last` rows and has received nothing yet.
        """
        if (position := self._position) is None:
            raise ClientStateError("this run has received nothing: it is unknown where the last rows begin")
        return position.to_json()

    @property
    def _position(self) -> Checkpoint | None:
        if (checkpoint := self.checkpoint) is not None or self._state.start is None:
            return checkpoint
        return Checkpoint(self._source.question, self._state.start)

    @property
    def report(self) -> Report:
        """What was done so far."""
        state = self._state
        return Report(
            rows=self._rows + self._delivered,
            pages=state.pages,
            requests=self._requests,
            retries=self._retries,
            total_first=state.totals.first,
            total_last=state.totals.last,
            waited=self._waited,
            on_wire=self._on_wire,
            complete=state.complete and (self._page is None or self._delivered == len(self._page.items)),
            ascends=state.totals.ascends,
        )

    async def close(self) -> None:
        """End the run: cancel what is in flight, and wait until it has ended. A second call does nothing.

        From another task, it ends a consumer that waits for a page with a `ClientStateError`.
        """
        generator, self._generator = self._generator, None
        try:
            if isinstance(generator, AsyncGeneratorType) and not generator.ag_running:
                await generator.aclose()
        finally:
            await self._end_run()

    aclose = close

    def _claim(self, generator: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        if self._generator is not None or self._ended:
            raise ClientStateError("a run can be iterated only once; make another with walk.run()")
        self._generator = generator  # close() closes it, so that `break` does not leave that to the garbage collector
        return generator

    async def _iterate_rows(self) -> AsyncGenerator[T_co, None]:
        try:
            while (page := await self._next_page()) is not None:
                for delivered, row in enumerate(page.items, 1):
                    self._delivered = delivered  # before the yield: if the caller is cancelled with a row, it has it
                    yield row
        finally:
            await self._end_run()

    async def _iterate_pages(self) -> AsyncGenerator[Page[T_co], None]:
        try:
            while (page := await self._next_page()) is not None:
                self._delivered = len(page.items)
                yield page
        finally:
            await self._end_run()

    async def _end_run(self) -> None:
        self._ended = True
        await self._discard_window()

    async def _discard_window(self) -> None:
        tasks = [pending.task for pending in self._window if pending.task is not None]
        self._window.clear()
        if self._awaited is not None:
            tasks.append(self._awaited)
        if tasks:
            await drain(tasks)

    async def _next_page(self) -> Page[T_co] | None:
        """Return the next page to deliver, made the current one."""
        if self._on_progress is not None and self._page is not None:
            self._on_progress(self.report)
        page, state = None, self._state
        try:
            while page is None and state.state != "ended":
                page = await self._receive_page()
        except DistinctError as error:
            annotate(error, checkpoint=self.checkpoint)
            raise
        if page is None and not state.pages:
            state.pages = 1  # limit=0: the first page is always delivered, here unrequested
            page = self._make_page((), state.offset, None)
        if page is not None:
            self._rows += self._delivered
            self._page, self._delivered = page, min(1, len(page.items))  # nothing comes between this and its first row
        return page

    async def _receive_page(self) -> Page[T_co] | None:  # noqa: C901, PLR0912  # a page costs few calls: tests/test_cost.py
        """Wait for the next page in order. Return None if there is nothing in it to deliver."""
        if self._ended:
            raise ClientStateError("this run is over; resume from its checkpoint with walk.resume(...)")
        if not self._window:
            self._fill_window()
        pending = self._window.popleft()
        request, self._awaited = pending.request, pending.task
        try:
            if pending.task is not None:
                await pending.task
        except APIError as error:
            if self._state.is_end(request, error.status):
                return None
            raise
        except asyncio.CancelledError:
            if self._closed_while_waiting(pending):
                raise ClientStateError("the run was closed while its consumer waited for a page") from None
            raise
        finally:
            self._awaited = None
        if request.state == "ahead" and self._state.prefetch > 1:
            self._fill_window()  # before rows are made of the response, so that the network works meanwhile
        if (reply := pending.reply) is None:
            return None
        try:
            decision = self._state.receive(request, self._source.read(reply.value))
        except PaginationError as error:
            annotate(error, **reply.annotations)
            raise
        if decision.warning is not None:
            warnings.warn(decision.warning, DriftWarning, stacklevel=4)
        if decision.discard or self._state.state == "ended":
            await self._discard_window()
        return self._make_page(decision.rows, decision.offset, decision.total) if decision.deliver else None

    def _closed_while_waiting(self, pending: "_PendingPage") -> bool:
        """Whether a wait for this page was cancelled by `close`, and not by the consumer's own cancellation."""
        consumer = asyncio.current_task()
        return (
            self._ended
            and pending.task is not None
            and pending.task.done()
            and (consumer is None or not consumer.cancelling())
        )

    def _fill_window(self) -> None:
        for request in self._state.requests(len(self._window)):
            state = self._engine.core.state()
            pending = _PendingPage(request)
            pending.task = self._engine.start(state, self._fetch(pending, state))
            self._window.append(pending)

    async def _fetch(self, pending: "_PendingPage", state: LoopState) -> None:
        request = pending.request
        try:
            reply = await self._engine.fetch(self._source.request(request.offset, request.page_size), state)
        except DistinctError as error:
            self._add_cost(error)
            raise
        self._add_cost(reply)
        pending.reply = reply

    def _add_cost(self, call: Reply[Any] | DistinctError) -> None:
        self._requests += call.attempts
        self._retries += max(0, call.attempts - 1)
        self._waited += call.waited
        self._on_wire += call.on_wire

    def _make_page(self, items: Sequence[object], offset: int, total: int | None) -> Page[T_co]:
        rows, position = cast("tuple[T_co, ...]", items), offset + len(items)
        if items:
            return Page(rows, offset, total, partial(self._source.checkpoint_after, items[-1], position))
        last_digest = before.last if (before := self.checkpoint) is not None else None
        return Page(rows, offset, total, Checkpoint(self._source.question, position, last_digest))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Run cannot be pickled; pickle run.checkpoint, and call walk.resume() there")
