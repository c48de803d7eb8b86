"""An experience's visits as Arrow record batches: asynchronously, and as a stream that other libraries read."""

import asyncio
import concurrent.futures
import os
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, MutableMapping
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from distinct_async.client import DistinctClient
from distinct_async.core import drain
from distinct_async.errors import ClientStateError, DistinctError, InvalidRequestError
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.jobs import Job
from distinct_async.etl.options import JobOptions, OnJobDrift
from distinct_async.etl.plans import Plan, VisitList
from distinct_async.etl.results import Progress, Result
from distinct_async.etl.runner import raise_failure, with_job_retries
from distinct_async.etl.state import read_states, state_name, state_text
from distinct_async.models import VisitsType

if TYPE_CHECKING:
    import pyarrow as pa


def batches(
    client: DistinctClient,
    experience_id: str | Iterable[str] | Plan,
    *,
    visits_type: VisitsType | None = "TOTAL",
    touchpoint_ids: Iterable[str] | None = None,
    state: MutableMapping[str, str] | None = None,
    on_drift: OnJobDrift = "raise",
    on_rebuild: Callable[[VisitList], object] | None = None,
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
    on_progress: Callable[[Progress], object] | None = None,
) -> "AsyncGenerator[pa.RecordBatch, None]":
    """Yield visits as ``pyarrow.RecordBatch`` values (extra ``arrow``): all, those of a plan, or only what is new.

    Columns: `experience_id`, `touchpoint_id`, `touchpoint_name`, `visits_type`, `position` (the row's place in its
    list, from 0), `user_id`, `timestamp_utc`. Several touchpoints are read at once: each batch is of one list, the
    batches of a list are in order, those of different lists arrive in any order. Memory is bounded. If you may leave it
    early, use ``contextlib.aclosing``.

    Args:
        client: A client with a Distinct key.
        experience_id: An experience's id, as in your Distinct account, or several, read one after the other; or a
            `Plan`, or a part of one (`Plan.split`): then exactly its rows are yielded, or an error is raised.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both. Ignored with a plan.
        touchpoint_ids: Only these touchpoints; None for all. Only with one id: a plan has its own.
        state: What you have, one text for each list, empty at first. Only what is new is yielded; a list whose total is
            unchanged costs no request. It is updated before each batch is yielded: store both in one transaction.
            Only with one id or a whole plan.
        on_drift: What to do if rows of a list have moved: ``"raise"`` a `DriftError`, or ``"rebuild"``: yield the list
            from its start (position 0) again, in place of all its rows that you have.
        on_rebuild: Called with the list before the first rows of a list that is rebuilt.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a batch at most, about; 1 or more.
        on_progress: Called with a `Progress` after each page.

    Yields:
        Batches of one list each.

    Raises:
        InvalidRequestError: An option is invalid; at once.
        CheckpointError: The state is of another experience or a later version, or unreadable; at once.
        ConfigurationError: The extra is missing; at once.
        DistinctError: A list failed; raised after the others of its experience are finished, with what was done
            there in its `result`. Further experiences are not read.
    """
    options = JobOptions(
        ids_or_plan=experience_id,
        visits_type=visits_type,
        touchpoint_ids=touchpoint_ids,
        state=state,
        on_drift=on_drift,
        on_rebuild=on_rebuild,
        page_size=page_size,
        prefetch=prefetch,
        on_progress=on_progress,
        batch_rows=batch_rows,
    )
    return generate_batches(client, options)


async def _generate_all(client: DistinctClient, options: JobOptions) -> "AsyncGenerator[pa.RecordBatch, None]":
    for each in options.split():
        async with aclosing(_generate_of_experience(client, each)) as batches:
            async for batch in batches:
                yield batch


async def _generate_of_experience(
    client: DistinctClient, options: JobOptions
) -> "AsyncGenerator[pa.RecordBatch, None]":
    from distinct_async.etl.arrow import record_batch

    states = {} if options.state is None else read_states(options.state, *options.experience_ids)
    job = Job(client, await options.make_plan(client), options, states)
    states, rebuilt_lists, rows = dict(states), set[VisitList](), 0
    try:
        async with aclosing(job.chunks()) as chunk_lists:
            async for chunks in chunk_lists:
                for chunk in chunks:
                    key = chunk.visit_list.key
                    if chunk.rebuild and chunk.visit_list not in rebuilt_lists:
                        rebuilt_lists.add(chunk.visit_list)
                        if options.on_rebuild is not None:
                            options.on_rebuild(chunk.visit_list)
                    if options.state is not None:
                        states[key] = chunk.state(states.get(key))
                        options.state[state_name(key)] = state_text(states[key])
                    if chunk.visits:
                        rows += len(chunk.visits)
                        yield record_batch([chunk])
    except DistinctError as error:
        job.stopped = error
    raise_failure(Result(rows=rows, **job.result_fields()))


def generate_batches(client: DistinctClient, options: JobOptions) -> "AsyncGenerator[pa.RecordBatch, None]":
    """Yield batches, as `batches` does, with validated options."""
    with requires_extra("arrow"):
        import distinct_async.etl.arrow  # noqa: F401  # now, not with the first batch
    return _generate_all(with_job_retries(client), options)


def read(
    experience_id: str | Iterable[str] | Plan,
    *,
    client: Callable[[], DistinctClient] = DistinctClient,
    visits_type: VisitsType | None = "TOTAL",
    touchpoint_ids: Iterable[str] | None = None,
    state: MutableMapping[str, str] | None = None,
    on_drift: OnJobDrift = "raise",
    on_rebuild: Callable[[VisitList], object] | None = None,
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
) -> "Iterator[pa.RecordBatch]":
    """Return an iterator of the batches that `batches` yields, for code without an event loop (extra ``arrow``).

    ::

        for part in plan.split(8):  # in as many processes, for example
            for batch in etl.read(part, client=DistinctClient):
                ...

    A thread with an event loop of its own makes the requests, from the first ``next()`` on. While you handle a batch,
    at most one other is collected. At the end, or if the iterator is closed, dropped or left by an error, the requests
    are cancelled and the thread is joined.

    Args:
        experience_id: An experience's id, or several, or a `Plan`, or a part of one.
        client: Makes the client, in that thread; for example ``functools.partial(DistinctClient, rate_limit=5)``, which
            can be pickled and holds no key.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both. Ignored with a plan.
        touchpoint_ids: Only these touchpoints; None for all. Only with one id: a plan has its own.
        state: As in `batches`; it is never ahead of the batch that you hold.
        on_drift: ``"raise"`` or ``"rebuild"``, as in `batches`.
        on_rebuild: As in `batches`; called in the thread.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a batch at most, about; 1 or more.

    Returns:
        The batches.

    Raises:
        InvalidRequestError: An option is invalid; at once.
        CheckpointError: The state is of another experience or a later version, or unreadable; at once.
        ConfigurationError: The extra or a setting is missing.
        DistinctError: A list failed; raised after the others of its experience are finished, with what was done
            there in its `result`. Further experiences are not read.
    """
    options = JobOptions(
        ids_or_plan=experience_id,
        visits_type=visits_type,
        touchpoint_ids=touchpoint_ids,
        state=state,
        on_drift=on_drift,
        on_rebuild=on_rebuild,
        page_size=page_size,
        prefetch=prefetch,
        batch_rows=batch_rows,
    )
    if not callable(client):
        raise InvalidRequestError(
            "client must be a function that makes a client, for example DistinctClient, not a client"
        )
    return _read_in_thread(client, options)


def _read_in_thread(make_client: Callable[[], DistinctClient], options: JobOptions) -> "Iterator[pa.RecordBatch]":
    stream_future: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, Stream]]
    stream_future = concurrent.futures.Future()

    async def serve_stream() -> None:
        ended = asyncio.Event()
        client = make_client()
        if not isinstance(client, DistinctClient):
            raise InvalidRequestError(f"client must make a DistinctClient, but returned {type(client).__name__}")
        async with client, Stream(partial(generate_batches, client, options)) as stream:
            stream_future.set_result((asyncio.get_running_loop(), ended, stream))
            await ended.wait()

    async def run_thread() -> None:
        task = asyncio.create_task(serve_stream())
        await asyncio.wait({task})
        if (error := task.exception()) is not None and not stream_future.done():  # no client could be made
            stream_future.set_exception(error)

    # A daemon: an iterator that a traceback keeps alive must not keep the interpreter from ending
    thread = threading.Thread(target=lambda: asyncio.run(run_thread()), name="distinct-async-read", daemon=True)
    thread.start()
    try:
        yield from stream_future.result()[2]._iterate()  # noqa: SLF001
    finally:
        if stream_future.exception() is None:
            loop, ended, _ = stream_future.result()
            loop.call_soon_threadsafe(ended.set)
        if not sys.is_finalizing():
            thread.join()


class Stream:
    """Visits for any library that reads ``__arrow_c_stream__`` (DuckDB, Polars, pyarrow); each reading starts over.

    Read it in another thread (``await asyncio.to_thread(...)``), because the requests need this thread's event loop.
    """

    def __init__(self, walk: "Callable[[], AsyncGenerator[pa.RecordBatch, None]]") -> None:
        self._make_generator = walk
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._generators: list[AsyncGenerator[pa.RecordBatch, None]] = []
        self._pull_tasks: set[asyncio.Task[object]] = set()
        self._error: DistinctError | None = None

    async def __aenter__(self) -> Self:
        self._loop, self._process = asyncio.get_running_loop(), os.getpid()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the walks; if one of them failed, raise its error instead of what the reader made of it."""
        self._loop = None
        await drain(self._pull_tasks)
        for generator in self._generators:
            await generator.aclose()
        if self._error is not None and (error is None or isinstance(error, Exception)):
            raise self._error from None

    def __arrow_c_schema__(self) -> object:
        """The columns as a PyCapsule."""
        with requires_extra("arrow"):
            from distinct_async.etl.arrow import SCHEMA
        return SCHEMA.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The batches as a PyCapsule, by Arrow's C stream interface. Nothing is requested before the first is read."""
        with requires_extra("arrow"):
            import pyarrow as pa

            from distinct_async.etl.arrow import SCHEMA
        reader = pa.RecordBatchReader.from_batches(SCHEMA, self._iterate())
        return reader.__arrow_c_stream__(requested_schema)

    def _iterate(self) -> "Iterator[pa.RecordBatch]":
        generator: AsyncGenerator[pa.RecordBatch, None] | None = None
        try:
            while (loop := self._loop) is not None:
                if os.getpid() != self._process:
                    raise ClientStateError("the batches belong to another process; begin to read after the fork")
                if asyncio._get_running_loop() is loop:  # noqa: SLF001  # here it would wait for itself
                    raise ClientStateError("read the stream in another thread; use await asyncio.to_thread(...)")
                if generator is None:
                    self._generators.append(generator := self._make_generator())
                batch = asyncio.run_coroutine_threadsafe(self._pull(generator), loop).result()
                if batch is not None:
                    yield batch
                elif self._loop is not None:  # else it was closed, which must not look like the end
                    return
        except concurrent.futures.CancelledError:
            pass
        except DistinctError as error:
            self._error = error
            raise
        raise ClientStateError("the stream was closed before its end; read it inside its `async with`")

    async def _pull(self, generator: "AsyncGenerator[pa.RecordBatch, None]") -> "pa.RecordBatch | None":
        task: asyncio.Task[object] | None = asyncio.current_task()
        if task is not None:
            self._pull_tasks.add(task)
            task.add_done_callback(self._pull_tasks.discard)
        return await anext(generator, None) if self._loop is not None else None


def stream(
    client: DistinctClient,
    experience_id: str | Iterable[str],
    *,
    visits_type: VisitsType | None = "TOTAL",
    touchpoint_ids: Iterable[str] | None = None,
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
    on_progress: Callable[[Progress], object] | None = None,
) -> Stream:
    """Return all visits of an experience, for ``async with``, as something that DuckDB, Polars and pyarrow read.

    ::

        async with etl.stream(client, "exp-1") as visits:
            frame = await asyncio.to_thread(polars.DataFrame, visits)

    Columns and errors are those of `batches`; errors are raised when the ``async with`` is left.

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account; or several, read one after the other.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.
        touchpoint_ids: Only these touchpoints, of one experience; None for all.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a batch at most, about; 1 or more.
        on_progress: Called with a `Progress` after each page.

    Raises:
        InvalidRequestError: An option is invalid; at once.
    """
    options = JobOptions(
        ids_or_plan=experience_id,
        visits_type=visits_type,
        touchpoint_ids=touchpoint_ids,
        page_size=page_size,
        prefetch=prefetch,
        on_progress=on_progress,
        batch_rows=batch_rows,
    )
    return Stream(partial(generate_batches, client, options))
