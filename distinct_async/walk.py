"""A walk over offset pages: prefetched, delivered in order, and resumed anywhere."""

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import aclosing
from typing import Any, Generic, NoReturn, TypeVar, get_args

from attrs import Attribute, evolve, field, frozen, validators

from distinct_async.engine import Engine
from distinct_async.errors import CheckpointError, InvalidRequestError
from distinct_async.page import Page, Report, ReportCallback, Source
from distinct_async.run import Run
from distinct_async.sansio.checkpoints import Checkpoint
from distinct_async.sansio.drift import Continuity
from distinct_async.sansio.messages import choice, whole_number
from distinct_async.sansio.pages import OnDrift
from distinct_async.sansio.walk_state import WalkState

__all__ = ["Page", "Report", "ReportCallback", "Run", "Source", "Walk"]

T_co = TypeVar("T_co", covariant=True)


def _at_least(least: int) -> Callable[[object, "Attribute[int]", int], None]:
    def set_exact(walk: object, attribute: "Attribute[int]", value: int) -> None:
        object.__setattr__(walk, attribute.name, whole_number(value, attribute.name, least))

    return set_exact


@frozen(eq=False, repr=False)
class Walk(Generic[T_co]):
    """A lazy sequence over all pages of a list. Nothing is sent before it is awaited or iterated, as often as you like.

    ``async for row in walk``, ``async for page in walk.pages()``, ``first = await walk``, ``await walk.collect()``; and
    ``async with walk.run() as run`` if you need the checkpoint, the report, or nothing in flight afterwards.

    Attributes:
        page_size: Rows per request, 1 or more; None for the server's default.
        offset: Rows to skip, 0 or more.
        limit: Rows in all, 0 or more; None for all of them.
        prefetch: Pages in flight or waiting, 1 or more; at most the client's ``max_concurrency``.
        on_drift: ``"raise"`` a `DriftError`, or ``"warn"`` with a `DriftWarning` and go on.
        last: Rows at the end of the list, 1 or more, for which one more request asks for the total; None for all rows.
    """

    _engine: Engine
    _source: Source[Any]
    page_size: int | None = field(default=None, validator=validators.optional(_at_least(1)))
    offset: int = field(default=0, validator=_at_least(0))
    limit: int | None = field(default=None, validator=validators.optional(_at_least(0)))
    prefetch: int = field(default=4, validator=_at_least(1))
    on_drift: OnDrift = field(default="raise")
    last: int | None = field(default=None, validator=validators.optional(_at_least(1)))
    _resumed: Checkpoint | None = None

    @on_drift.validator
    def _check_on_drift(self, _: object, value: str) -> None:
        object.__setattr__(self, "on_drift", choice(value, "on_drift", get_args(OnDrift)))

    def __attrs_post_init__(self) -> None:
        if self.last is not None and self.offset:
            raise InvalidRequestError(f"last={self.last} and offset={self.offset} cannot be combined: pass one of them")

    def __repr__(self) -> str:
        """Return what is asked, where the walk begins, and how it reads."""
        first = self.offset if self._resumed is None else self._resumed.position
        range_text = f"from row {first}" if self.last is None else f"the last {self.last} rows"
        options = {"page_size": self.page_size, "limit": self.limit, "prefetch": self.prefetch}
        shown = "".join(f", {name}={value}" for name, value in options.items() if value is not None)
        return f"<Walk {self._source.question}, {range_text}{shown}>"

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Iterate row by row."""
        return self.run()._iterate_rows()

    def pages(self) -> AsyncIterator[Page[T_co]]:
        """Iterate page by page. The first one is always delivered, even if it is empty."""
        return self.run()._iterate_pages()

    def __await__(self) -> Generator[Any, None, Page[T_co]]:
        """Return the first page, by one request; with `last` by two."""
        return self._first().__await__()

    async def _first(self) -> Page[T_co]:
        async with aclosing(self.run()._iterate_pages()) as pages:
            return await anext(pages)

    async def collect(self) -> list[T_co]:
        """Return all rows as a list; memory grows with them."""
        rows: list[T_co] = []
        async with aclosing(self.run()._iterate_pages()) as pages:
            async for page in pages:
                rows.extend(page.items)
        return rows

    def run(self, on_progress: ReportCallback | None = None) -> "Run[T_co]":
        """Return one iteration of the walk, for ``async with``: when that is left, nothing is in flight.

        Args:
            on_progress: Called with a `Report` after each page, when the caller comes back for more.

        Returns:
            The run.
        """
        resumed = self._resumed
        state = WalkState(
            self._source.question,
            self._source.digest,
            offset=self.offset if resumed is None else resumed.position,
            page_size=self.page_size,
            limit=self.limit,
            last=self.last,
            prefetch=min(self.prefetch, self._engine.core.settings.max_concurrency),
            on_drift=self.on_drift,
            continuity=Continuity(None if resumed is None else resumed.last),
        )
        return Run(self._engine, self._source, state, resumed, on_progress)

    def resume(self, checkpoint: Checkpoint) -> "Walk[T_co]":
        """Return a walk that goes on after the checkpoint's row. `offset` and `last` of this walk do not matter.

        After a finished walk it delivers what was appended since. Its first page raises a `DriftError` if the
        checkpoint's row is not in its place any more.

        Args:
            checkpoint: A `Run.checkpoint`, `Page.checkpoint` or `DistinctError.checkpoint` of the same call.

        Returns:
            The walk.

        Raises:
            CheckpointError: If the checkpoint belongs to another call; at once.
        """
        if not isinstance(checkpoint, Checkpoint):
            raise CheckpointError(f"expected a Checkpoint, got {type(checkpoint).__name__}; use Checkpoint.from_json")
        if checkpoint.question != self._source.question:
            belongs = f"this checkpoint belongs to {checkpoint.question}"
            raise CheckpointError(f"{belongs}; this walk reads {self._source.question}")
        return evolve(self, resumed=checkpoint, last=None)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Walk cannot be pickled; pickle the checkpoint, and call resume() there")
