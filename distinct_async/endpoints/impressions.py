"""Impressions: ``GET /api/v1/impressions/{id}`` and ``GET /api/v1/impressions``.

https://docs.vantio.app/api-reference/impressions/get-impression
https://docs.vantio.app/api-reference/impressions/list-impressions
"""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Literal, cast, get_args, overload

from attrs import evolve, field, frozen

from distinct_async import structure
from distinct_async.core import Flight, LoopState, drain
from distinct_async.engine import Engine
from distinct_async.errors import DistinctError, InvalidRequestError, NotFoundError
from distinct_async.models import Impression
from distinct_async.sansio import matching
from distinct_async.sansio.messages import Reply, Request, choice, identifier, query, segment
from distinct_async.sansio.pages import OnDrift, Question
from distinct_async.shapes import ImpressionsPage
from distinct_async.walk import Source, Walk

_PATH = "/api/v1/impressions"

Missing = Literal["raise", "skip", "none"]


@frozen(eq=False)
class Impressions:
    """``client.impressions``: single scans of posters' QR codes."""

    _engine: Engine = field(repr=False)

    async def get(self, impression_id: str) -> Impression:
        """Return one impression.

        Impressions never change, so they are cached (``impression_cache``); errors are not. Concurrent calls with the
        same id share one request.

        Args:
            impression_id: The id of the impression, for example ``"imp_123abc"``. It is one segment of the path.

        Returns:
            The impression.

        Raises:
            InvalidRequestError: If the id is empty, a dot segment or contains control characters; nothing was sent.
            NotFoundError: If the impression does not exist.
            DistinctError: If anything else fails; see `distinct_async.errors`.

        Source: https://docs.vantio.app/api-reference/impressions/get-impression
        """
        impression_id, path_segment = segment(impression_id, "impression_id")
        operation = f"impressions.get(impression_id={impression_id!r})"
        core = self._engine.core
        core.settings.key("vantio")
        state, cache = core.state(), core.impressions
        if (reply := cache.pop(impression_id, None)) is None:
            # The options are part of the key, so that no call waits under another call's deadline
            request = Request(
                "vantio",
                operation,
                f"{_PATH}/{path_segment}",
                decoder=structure.IMPRESSION,
                check=partial(matching.impression, impression_id),
            )
            reply = await self._fetch_shared((impression_id, self._engine.options), request, state)
        cache[impression_id] = reply  # least recently used is evicted first
        while len(cache) > core.settings.impression_cache:
            del cache[next(iter(cache))]
        # A new `metadata` for each caller, so that no two share one
        return evolve(reply.value, metadata=copy.deepcopy(reply.value.metadata))

    async def _fetch_shared(self, key: object, request: Request[Impression], state: LoopState) -> Reply[Impression]:
        """Return the reply of a single flight: the first caller sends it; if that one is cancelled, the next does."""
        flight = state.flights.setdefault(key, Flight())
        flight.callers += 1
        try:
            async with flight.lock:
                if flight.error is not None:
                    raise copy.deepcopy(flight.error)  # each caller gets its own copy
                if flight.reply is None:
                    try:
                        flight.reply = await self._engine.fetch(request, state)
                    except DistinctError as error:
                        flight.error = error
                        raise
                return flight.reply
        finally:
            flight.callers -= 1
            has_landed = flight.reply is not None or flight.error is not None
            if state.flights.get(key) is flight and (has_landed or not flight.callers):
                del state.flights[key]

    @overload
    def get_many(
        self, ids: Iterable[str] | AsyncIterable[str], *, missing: Literal["raise", "skip"] = "raise"
    ) -> AsyncGenerator[Impression, None]: ...

    @overload
    def get_many(
        self, ids: Iterable[str] | AsyncIterable[str], *, missing: Literal["none"]
    ) -> AsyncGenerator[Impression | None, None]: ...

    def get_many(
        self, ids: Iterable[str] | AsyncIterable[str], *, missing: Missing = "raise"
    ) -> AsyncGenerator[Impression | None, None] | AsyncGenerator[Impression, None]:
        """Return an async iterator over the impressions of many ids, in the order of the ids.

        At most `max_concurrency` ids are read ahead, so `ids` may be endless. To leave it early, use
        ``contextlib.aclosing``.

        Args:
            ids: The ids, as an iterable or async iterable.
            missing: What to do if an id does not exist: ``"raise"`` its `NotFoundError`, ``"skip"`` it, or yield None
                (``"none"``).

        Returns:
            The iterator; nothing is sent yet. Iterating it raises what `get` raises, in the place of the id.

        Raises:
            InvalidRequestError: If `missing` is unknown or `ids` is one string; at once.

        Source: https://docs.vantio.app/api-reference/impressions/get-impression
        """
        choice(missing, "missing", get_args(Missing))
        if isinstance(ids, str | bytes):
            raise InvalidRequestError("ids must be a list of ids, not one string; for one id use get()")
        if not isinstance(ids, Iterable | AsyncIterable):
            raise InvalidRequestError(f"ids must be a list of ids, got {type(ids).__name__}")
        return self._generate_many(ids, missing)

    async def _generate_many(
        self, ids: Iterable[str] | AsyncIterable[str], missing: Missing
    ) -> AsyncGenerator[Impression | None, None]:
        window: deque[asyncio.Task[Impression]] = deque()
        max_ahead = self._engine.core.settings.max_concurrency
        reader: asyncio.Task[object] | None = None
        last_reader: asyncio.Task[object] | None = None  # the reader that reached the end of the ids, or failed
        async with aclosing(iterate(ids)) as source:
            try:
                while last_reader is None or window:
                    if last_reader is None and reader is None and len(window) < max_ahead:
                        # Not engine.start: close() would wait for ids that may never come
                        reader = asyncio.create_task(_next_id(source))
                    first_task = window[0] if window else None
                    await asyncio.wait(
                        [task for task in (first_task, reader) if task], return_when=asyncio.FIRST_COMPLETED
                    )
                    if reader is not None and reader.done():
                        if reader.exception() is not None or reader.result() is _END_OF_IDS:
                            last_reader = reader
                        else:
                            state = self._engine.core.state()
                            window.append(self._engine.start(state, self.get(cast("str", reader.result()))))
                        reader = None
                    if first_task is not None and first_task.done():
                        window.popleft()
                        impression = _result_or_none(first_task, missing)
                        if impression is not None or missing == "none":
                            yield impression
                last_reader.result()  # raises if reading the ids failed
            finally:
                await drain([*window, *([reader] if reader else [])])

    def list(
        self,
        *,
        program_id: str | None = None,
        poster_id: str | None = None,
        page_size: int | None = None,
        offset: int = 0,
        limit: int | None = None,
        on_drift: OnDrift = "raise",
    ) -> Walk[Impression]:
        """Return a walk over impressions: of a program, of a poster, or all.

        The vendor reports no total, so pages are requested one after the other, to the first empty one. An impression
        may have fewer details here than from `get` (docs/explanation/vendors.md, B11).

        Args:
            program_id: The id of a program, for example ``"prog_123abc"``; by default any program.
            poster_id: The id of a poster, for example ``"poster_123abc"``; by default any poster.
            page_size: Impressions per request (the vendor's ``limit``), 1 or more. The server's default is 50, its
                maximum "typically 100". If it caps a larger number, no row is lost.
            offset: Impressions to skip, 0 or more.
            limit: The maximum number of impressions, 0 or more; None for all.
            on_drift: ``"raise"`` raises `DriftError` if rows may have moved; ``"warn"`` issues `DriftWarning` instead.

        Returns:
            The walk; nothing is sent yet. Iterating it raises what a request can raise, and `PaginationError` if it
            cannot guarantee that no row is skipped or repeated.

        Raises:
            InvalidRequestError: If an id is empty or a number is out of range; at once.

        Source: https://docs.vantio.app/api-reference/impressions/list-impressions
        """
        filter_ids = {"program_id": program_id, "poster_id": poster_id}
        ids = {key: value if value is None else identifier(value, key) for key, value in filter_ids.items()}
        wire_names = {"program_id": "programId", "poster_id": "posterId"}
        filters = {wire_names[key]: value for key, value in ids.items() if value is not None}
        question = Question("impressions.list", ids)
        operation = str(question)

        def request(offset: int, page_size: int | None) -> Request[ImpressionsPage]:
            paging = {"limit": page_size, "offset": offset or None}
            params = filters | {name: str(value) for name, value in paging.items() if value is not None}
            return Request(
                "vantio", operation, _PATH, query(params), decoder=structure.IMPRESSIONS, check=matching.impressions
            )

        source = Source(question, request, structure.impressions_page, _identity)
        return Walk(self._engine, source, page_size, offset, limit, 1, on_drift)


def _identity(impression: Impression) -> str:
    return f"{impression.id}\n{impression.scanned_at.isoformat()}"


async def iterate(ids: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """Yield the ids, whichever kind of iterable they come in."""
    if isinstance(ids, AsyncIterable):
        async for impression_id in ids:
            yield impression_id
    else:
        for impression_id in ids:
            yield impression_id


_END_OF_IDS = object()


async def _next_id(source: AsyncGenerator[str, None]) -> object:
    return await anext(source, _END_OF_IDS)


def _result_or_none(task: asyncio.Task[Impression], missing: Missing) -> Impression | None:
    try:
        return task.result()
    except NotFoundError:
        if missing == "raise":
            raise
        return None
