"""Impressions: ``GET /api/v1/impressions/{id}`` and ``GET /api/v1/impressions``.

https://docs.vantio.app/api-reference/impressions/get-impression
https://docs.vantio.app/api-reference/impressions/list-impressions
"""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from typing import Literal, cast, get_args, overload

from attrs import field, frozen

from distinct_async import structure
from distinct_async.core import Flight, LoopState, drain
from distinct_async.engine import Engine
from distinct_async.errors import DistinctError, InvalidRequestError, NotFoundError
from distinct_async.models import Impression
from distinct_async.sansio import matching
from distinct_async.sansio.messages import Reply, Request, choice, identifier, query, segment
from distinct_async.sansio.pages import OnDrift, Question
from distinct_async.walk import Source, Walk

_PATH = "/api/v1/impressions"

Missing = Literal["raise", "skip", "none"]


@frozen(eq=False)
class Impressions:
    """``client.impressions``: single scans of posters' QR codes."""

    _engine: Engine = field(repr=False)

    async def get(self, impression_id: str) -> Impression:
        """One impression by its id; asked once, since it never changes after its creation.

        Concurrent callers of one id share one request; an answer is kept (``impression_cache``), a 404 is not.

        :raises InvalidRequestError: for an empty id, dot segments, control characters; nothing was sent.
        :raises NotFoundError: where there is no such impression.
        :raises DistinctError: for whatever else can go wrong; see `distinct_async.errors`.

        Source: https://docs.vantio.app/api-reference/impressions/get-impression
        """
        impression_id = identifier(impression_id, "impression_id")
        path = f"{_PATH}/{segment(impression_id, 'impression_id')}"
        operation = f"impressions.get(impression_id={impression_id!r})"
        core = self._engine.core
        core.settings.key("vantio")
        state, kept = core.state(), core.impressions
        if (reply := kept.pop(impression_id, None)) is None:
            # Keyed by the limits too: nobody waits under another caller's deadline
            request = Request("vantio", operation, path, check=matching.impression(impression_id))
            reply = await self._shared((impression_id, self._engine.options), request, state)
        impression = self._engine.reading(reply, structure.impression)
        kept[impression_id] = reply  # the latest use is the last to go
        while len(kept) > core.settings.impression_cache:
            del kept[next(iter(kept))]
        return impression

    async def _shared(self, key: object, request: Request, state: LoopState) -> Reply:
        """The answer, asked for by the first of its callers; where that one is cancelled, the next takes over."""
        flight = state.flights.setdefault(key, Flight())
        flight.callers += 1
        try:
            async with flight.lock:
                if flight.error is not None:
                    raise copy.deepcopy(flight.error)  # with headers of its own
                if flight.reply is None:
                    try:
                        flight.reply = await self._engine.fetch(request, state)
                    except DistinctError as error:
                        flight.error = error
                        raise
                return flight.reply
        finally:
            flight.callers -= 1
            landed = flight.reply is not None or flight.error is not None
            if state.flights.get(key) is flight and (landed or not flight.callers):
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
        """The impressions of many ids, in the order of the ids, one for each.

        At most `max_concurrency` ids are read ahead, so `ids` may be endless.

        :param missing: for an id that does not exist: ``"raise"`` its `NotFoundError` in its place, ``"skip"`` it, or
            give ``"none"``, that is None, in its place.
        :raises InvalidRequestError: for another `missing`, or a str for `ids`; at once. For a bad id, in its place.

        Iterating raises what `get` raises. Leave it early inside ``contextlib.aclosing``.

        Source: https://docs.vantio.app/api-reference/impressions/get-impression
        """
        choice(missing, "missing", get_args(Missing))
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable | AsyncIterable):
            raise InvalidRequestError(f"ids must be an iterable of str, got {type(ids).__name__}")
        return self._many(ids, missing)

    async def _many(
        self, ids: Iterable[str] | AsyncIterable[str], missing: Missing
    ) -> AsyncGenerator[Impression | None, None]:
        window: deque[asyncio.Task[Impression]] = deque()
        ahead = self._engine.core.settings.max_concurrency
        reader: asyncio.Task[object] | None = None
        last: asyncio.Task[object] | None = None  # the reader that came to the end of the ids, or failed
        async with aclosing(_each(ids)) as source:
            try:
                while last is None or window:
                    if last is None and reader is None and len(window) < ahead:
                        # Not engine.start: close() would wait for ids that may never come
                        reader = asyncio.create_task(_next(source))
                    head = window[0] if window else None
                    await asyncio.wait([task for task in (head, reader) if task], return_when=asyncio.FIRST_COMPLETED)
                    if reader is not None and reader.done():
                        if reader.exception() is not None or reader.result() is _END:
                            last = reader
                        else:
                            state = self._engine.core.state()
                            window.append(self._engine.start(state, self.get(cast("str", reader.result()))))
                        reader = None
                    if head is not None and head.done():
                        window.popleft()
                        impression = _found(head, missing)
                        if impression is not None or missing == "none":
                            yield impression
                last.result()  # where reading the ids failed: in its place, after what was read before
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
        """Impressions, of one program or poster or all, page by page: a walk over ``impressions``.

        The vendor states no total here, so pages are asked one after the other, to the first empty one. What stands in
        the list may be less than what `get` gives.

        :param program_id: only this program's.
        :param poster_id: only this poster's.
        :param page_size: impressions per request (the vendor's ``limit``), 1 or more; the server's default is 50, its
            maximum "typically 100".
        :param offset: impressions to skip, 0 or more.
        :param limit: impressions in all, 0 or more; None for all of them.
        :param on_drift: ``"warn"`` turns a `DriftError` into a `DriftWarning`, and goes on.
        :raises InvalidRequestError: for an empty id or numbers out of range; at once.

        Source: https://docs.vantio.app/api-reference/impressions/list-impressions
        """
        given = {"program_id": program_id, "poster_id": poster_id}
        ids = {key: value if value is None else identifier(value, key) for key, value in given.items()}
        wire = {"program_id": "programId", "poster_id": "posterId"}
        filters = {wire[key]: value for key, value in ids.items() if value is not None}
        question = Question("impressions.list", ids)
        operation = str(question)

        def request(offset: int, page_size: int | None) -> Request:
            paging = {"limit": page_size, "offset": offset or None}
            params = filters | {name: str(value) for name, value in paging.items() if value is not None}
            return Request("vantio", operation, _PATH, query(params), check=matching.impressions)

        source = Source(question, request, structure.impressions, _identity)
        return Walk(self._engine, source, page_size, offset, limit, 1, on_drift)


def _identity(impression: Impression) -> str:
    return f"{impression.id}\n{impression.scanned_at.isoformat()}"


async def _each(ids: Iterable[str] | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    if isinstance(ids, AsyncIterable):
        async for impression_id in ids:
            yield impression_id
    else:
        for impression_id in ids:
            yield impression_id


_END = object()


async def _next(source: AsyncGenerator[str, None]) -> object:
    return await anext(source, _END)


def _found(task: asyncio.Task[Impression], missing: Missing) -> Impression | None:
    try:
        return task.result()
    except NotFoundError:
        if missing == "raise":
            raise
        return None
