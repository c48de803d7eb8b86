"""A walk over offset pages: asked ahead, handed out in order, and resumed anywhere.

`WalkState` decides; here its decisions become requests and pages. In the window wait answers, not rows of ours.
"""

import warnings
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar, cast, get_args

from attrs import Attribute, evolve, field, frozen, validators

from distinct_async.core import drain
from distinct_async.engine import Engine
from distinct_async.errors import (
    APIError,
    CheckpointError,
    ClientStateError,
    DistinctError,
    DriftWarning,
    PaginationError,
    annotate,
)
from distinct_async.sansio.messages import Reply, Request, choice, whole_number
from distinct_async.sansio.pages import Ask, Checkpoint, OnDrift, PageFacts, Question, WalkState, digest

if TYPE_CHECKING:
    import asyncio

    from distinct_async.core import LoopState

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


@frozen
class Page(Generic[T_co]):
    """Some rows of a walk, in order; `len()` and `iter()` are those of `items`.

    :ivar items: the rows.
    :ivar offset: how many rows of the whole list come before the first of them.
    :ivar total: the whole list's length, as this page states it; None where it does not.
    """

    items: tuple[T_co, ...] = field(repr=lambda items: f"<{len(items)} rows>")
    offset: int
    total: int | None
    _checkpoint: Checkpoint | Callable[[], Checkpoint] = field(repr=False, eq=False)  # most are never looked at

    @property
    def checkpoint(self) -> Checkpoint:
        """The position after the last of them, for `Walk.resume`."""
        checkpoint = self._checkpoint
        return checkpoint if isinstance(checkpoint, Checkpoint) else checkpoint()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T_co]:
        return iter(self.items)


@frozen
class Report:
    """What a walk has done so far.

    :ivar rows: rows given. :ivar pages: pages given.
    :ivar requests: requests answered, retries and pages thrown away included. :ivar retries: how many were retries.
    :ivar total_first: the first total that the server stated. :ivar total_last: its latest.
    :ivar waited: seconds in our queue, in pauses and between attempts, summed over all pages.
    :ivar on_wire: seconds of the requests themselves, summed likewise.
    :ivar complete: whether the walk came to its end and saw nothing that could have lost or doubled a row.
    :ivar ascends: whether the rows received so far ascend in time: only then a row keeps its offset while the list
        grows. None where they all bear one time.
    """

    rows: int
    pages: int
    requests: int
    retries: int
    total_first: int | None
    total_last: int | None
    waited: float
    on_wire: float
    complete: bool
    ascends: bool | None = None


Progress = Callable[[Report], object]


@frozen(eq=False)
class Source(Generic[T]):
    """Where a walk's pages come from: how to ask for one, and how to read it."""

    question: Question
    request: Callable[[int, int | None], Request]  # offset, page size
    read: Callable[[Reply], PageFacts]
    identity: Callable[[T], str]  # a row's values as text, to be digested

    def after(self, row: T, position: int) -> Callable[[], Checkpoint]:
        """What makes the checkpoint after this row."""
        return partial(_after, self.question, self.identity, row, position)


def _after(question: Question, identity: Callable[[T], str], row: T, position: int) -> Checkpoint:
    return Checkpoint(question, position, digest(identity(row)))


def _whole(least: int) -> Callable[[object, "Attribute[int]", int], None]:
    def check(walk: object, attribute: "Attribute[int]", value: int) -> None:
        object.__setattr__(walk, attribute.name, whole_number(value, attribute.name, least))

    return check


@frozen(eq=False)
class Walk(Generic[T_co]):
    """Rows to be walked: a value. Nothing is sent before it is awaited or iterated, as often as you like.

    ``async for row in walk``, ``async for page in walk.pages()``, ``first = await walk``, ``await walk.collect()``; and
    ``async with walk.run() as run`` where you need the checkpoint, the report, or nothing in flight afterwards.
    """

    _engine: Engine = field(repr=False)
    _source: Source[Any] = field(repr=lambda source: str(source.question))
    page_size: int | None = field(default=None, validator=validators.optional(_whole(1)))
    offset: int = field(default=0, validator=_whole(0))
    limit: int | None = field(default=None, validator=validators.optional(_whole(0)))
    prefetch: int = field(default=4, validator=_whole(1))
    on_drift: OnDrift = field(default="raise")
    _resumed: Checkpoint | None = None

    @on_drift.validator
    def _is_on_drift(self, _: object, value: str) -> None:
        object.__setattr__(self, "on_drift", choice(value, "on_drift", get_args(OnDrift)))

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Row by row."""
        return self.run()._items()

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Page by page. The first one is always given, even if it is empty."""
        return self.run()._pages()

    def __await__(self) -> Generator[Any, None, Page[T_co]]:
        """The first page, in one request."""
        return self._first().__await__()

    async def _first(self) -> Page[T_co]:
        async with aclosing(self.run()._pages()) as pages:
            return await anext(pages)

    async def collect(self) -> list[T_co]:
        """All rows as a list; memory grows with them."""
        rows: list[T_co] = []
        async with aclosing(self.run()._pages()) as pages:
            async for page in pages:
                rows.extend(page.items)
        return rows

    def run(self, on_progress: Progress | None = None) -> "Run[T_co]":
        """The exact form, for ``async with``: when it is left, nothing is in flight any more.

        :param on_progress: called with a `Report` after each page, when the caller comes back for more.
        """
        return Run(self, on_progress)

    def resume(self, checkpoint: Checkpoint) -> "Walk[T_co]":
        """A new walk that goes on after the checkpoint's row; this walk's own `offset` does not matter.

        After a finished walk it gives what was appended since. :exc:`CheckpointError` at once where the checkpoint
        belongs to another question; :exc:`DriftError` at the first page where its row is not in its place any more.
        """
        if not isinstance(checkpoint, Checkpoint):
            raise CheckpointError(f"a {type(checkpoint).__name__} is no Checkpoint: use Checkpoint.from_json(text)")
        if checkpoint.question != self._source.question:
            raise CheckpointError(f"the checkpoint is of {checkpoint.question}, this walk is {self._source.question}")
        return evolve(self, resumed=checkpoint)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Walk holds its client and is not pickled: pickle the checkpoint, and call resume() there")


class Run(Generic[T_co]):
    """One walk under way; `checkpoint` and `report` are true at any moment, also after break, error and Ctrl-C."""

    def __init__(self, walk: Walk[T_co], on_progress: Progress | None = None) -> None:
        resumed = walk._resumed
        self._engine, self._source, self._page_size = walk._engine, walk._source, walk.page_size
        self._on_progress = on_progress
        self._state = WalkState(
            walk._source.question,
            offset=walk.offset if resumed is None else resumed.position,
            page_size=walk.page_size,
            limit=walk.limit,
            prefetch=min(walk.prefetch, walk._engine.core.settings.max_concurrency),
            on_drift=walk.on_drift,
            anchor=None if resumed is None else resumed.last,
        )
        self._window: deque[tuple[Ask, asyncio.Task[Reply] | None]] = deque()  # None: to be fetched in place
        self._resumed = resumed
        self._page: Page[T_co] | None = None
        self._given = 0  # rows of that page
        self._rows = self._requests = self._retries = 0
        self._waited = self._on_wire = 0.0
        self._generator: AsyncGenerator[Any, None] | None = None
        self._over = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Row by row, once."""
        return self._claim(self._items())

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Page by page, once."""
        return self._claim(self._pages())

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The position after the last row given; None where nothing was ever given."""
        page, given = self._page, self._given
        if page is None:
            return self._resumed
        if given == len(page.items):
            return page.checkpoint
        return self._source.after(page.items[given - 1], page.offset + given)()

    @property
    def report(self) -> Report:
        """What was done so far."""
        state = self._state
        return Report(
            rows=self._rows + self._given,
            pages=state.given_pages,
            requests=self._requests,
            retries=self._retries,
            total_first=state.total_first,
            total_last=state.total_last,
            waited=self._waited,
            on_wire=self._on_wire,
            complete=state.complete and (self._page is None or self._given == len(self._page.items)),
            ascends=state.ascends,
        )

    async def aclose(self) -> None:
        """End the walk here: what is in flight is cancelled and awaited. Twice is fine."""
        generator, self._generator = self._generator, None
        try:
            if generator is not None:
                await generator.aclose()
        finally:
            await self._end()

    def _claim(self, generator: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        if self._generator is not None or self._over:
            raise ClientStateError("a run is iterated once, as rows or as pages: make another with walk.run()")
        # Kept, so that `break` does not leave its end to the garbage collector: aclose() sees to it
        self._generator = generator
        return generator

    async def _items(self) -> AsyncGenerator[T_co, None]:
        try:
            while (page := await self._next()) is not None:
                for given, row in enumerate(page.items, 1):
                    self._given = given  # before it is handed out: a caller who dies with a row has it behind
                    yield row
        finally:
            await self._end()

    async def _pages(self) -> AsyncGenerator[Page[T_co], None]:
        try:
            while (page := await self._next()) is not None:
                self._given = len(page.items)
                yield page
        finally:
            await self._end()

    async def _end(self) -> None:
        self._over = True
        await self._discard()

    async def _discard(self) -> None:
        tasks = [task for _, task in self._window if task is not None]
        self._window.clear()
        if tasks:
            await drain(tasks)

    async def _next(self) -> Page[T_co] | None:
        """The next page to be given, made the current one."""
        if self._on_progress is not None and self._page is not None:
            self._on_progress(self.report)
        try:
            if self._over:
                raise ClientStateError("this run is over: resume from its checkpoint with walk.resume(...)")
            page = await self._fetch_page()
        except DistinctError as error:
            annotate(error, checkpoint=self.checkpoint)
            raise
        if page is not None:
            self._rows += self._given
            self._page, self._given = page, min(1, len(page.items))  # nothing comes between this and its first row
        return page

    async def _fetch_page(self) -> Page[T_co] | None:
        state = self._state
        while not state.ended:
            ask, task = self._pop()
            try:
                reply = await (self._fetch(ask) if task is None else task)
            except APIError as error:
                if state.refused(ask, error.status):
                    break
                raise
            if task is not None:
                self._refill()  # before decoding, so that the network works meanwhile
            facts = self._engine.reading(reply, self._source.read)
            anchor = digest(self._source.identity(facts.items[0])) if state.anchor and facts.items else None
            try:
                fed = state.feed(ask, facts, anchor)
            except PaginationError as error:
                annotate(error, **reply.annotations)
                raise
            if fed.warning is not None:
                warnings.warn(fed.warning, DriftWarning, stacklevel=4)
            if fed.discard or state.ended:
                await self._discard()
            if fed.give:
                return self._made(facts.items[fed.start : fed.stop], ask.offset + fed.start, facts.total)
        if state.given_pages:
            return None
        state.given_pages = 1
        return self._made((), state.offset, None)  # limit=0: the first page is always given, here without a request

    def _pop(self) -> "tuple[Ask, asyncio.Task[Reply] | None]":
        if not self._window:
            self._refill()
        return self._window.popleft()

    def _refill(self) -> None:
        for ask in self._state.asks(len(self._window)):
            task = None
            if not ask.alone and self._state.prefetch > 1:
                state = self._engine.core.state()
                task = self._engine.start(state, self._fetch(ask, state))
            self._window.append((ask, task))

    async def _fetch(self, ask: Ask, state: "LoopState | None" = None) -> Reply:
        try:
            reply = await self._engine.fetch(self._source.request(ask.offset, self._page_size), state)
        except DistinctError as error:
            self._count(error)
            raise
        self._count(reply)
        return reply

    def _count(self, ended: Reply | DistinctError) -> None:
        self._requests += ended.attempts
        self._retries += max(0, ended.attempts - 1)
        self._waited += ended.waited
        self._on_wire += ended.on_wire

    def _made(self, items: Sequence[object], offset: int, total: int | None) -> Page[T_co]:
        rows, position = cast("tuple[T_co, ...]", items), offset + len(items)
        if items:
            return Page(rows, offset, total, self._source.after(items[-1], position))
        last = before.last if (before := self.checkpoint) is not None else None
        return Page(rows, offset, total, Checkpoint(self._source.question, position, last))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a run is not pickled: pickle run.checkpoint, and call walk.resume() there")
