"""An experience's visits as Arrow record batches: asynchronously, and as a stream that other libraries read."""

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from distinct_async.client import DistinctClient
from distinct_async.core import drain
from distinct_async.errors import ClientStateError, DistinctError
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.jobs import Job
from distinct_async.etl.options import JobOptions
from distinct_async.etl.plans import plan
from distinct_async.etl.results import Progress, Result
from distinct_async.etl.runner import raise_failure, with_job_retries
from distinct_async.models import VisitsType

if TYPE_CHECKING:
    import pyarrow as pa


def batches(
    client: DistinctClient,
    experience_id: str,
    *,
    visits_type: VisitsType | None = "TOTAL",
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
    on_progress: Callable[[Progress], object] | None = None,
) -> "AsyncGenerator[pa.RecordBatch, None]":
    """Yield all visits of an experience as ``pyarrow.RecordBatch`` values (extra ``arrow``).

    Columns: `touchpoint_id`, `visits_type`, `position` (the row's place in its list, from 0), `user_id`,
    `timestamp_utc`. Several touchpoints are read at once: each batch is of one list, the batches of a list are in
    order, those of different lists arrive in any order. Memory is bounded. If you may leave it early, use
    ``contextlib.aclosing``.

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a batch at most, about; 1 or more.
        on_progress: Called with a `Progress` after each page.

    Yields:
        Batches of one list each.

    Raises:
        InvalidRequestError: An option is invalid; at once.
        ConfigurationError: The extra is missing; at once.
        DistinctError: A list failed; raised after the others are finished, with what was done in its `result`.
    """
    options = JobOptions(
        experience_id=experience_id,
        visits_type=visits_type,
        page_size=page_size,
        prefetch=prefetch,
        on_progress=on_progress,
        batch_rows=batch_rows,
    )
    return generate_batches(client, options)


def generate_batches(client: DistinctClient, options: JobOptions) -> "AsyncGenerator[pa.RecordBatch, None]":
    """Yield batches, as `batches` does, with validated options."""
    with requires_extra("arrow"):
        from distinct_async.etl.arrow import record_batch
    client = with_job_retries(client)

    async def generate() -> "AsyncGenerator[pa.RecordBatch, None]":
        job = Job(client, await plan(client, options.experience_id, visits_type=options.visits_type), options)
        stopped, rows = None, 0
        try:
            async with aclosing(job.chunks()) as received:
                async for chunks in received:
                    for chunk in chunks:
                        if chunk.visits:
                            rows += len(chunk.visits)
                            yield record_batch(chunk)
        except DistinctError as error:
            stopped = error
        raise_failure(job, stopped, Result(rows=rows, **job.figures()))

    return generate()


class Stream:
    """Visits for any library that reads ``__arrow_c_stream__`` (DuckDB, Polars, pyarrow); each reading starts over.

    Read it in another thread (``await asyncio.to_thread(...)``), because the requests need this thread's event loop.
    """

    def __init__(self, walk: "Callable[[], AsyncGenerator[pa.RecordBatch, None]]") -> None:
        self._walk = walk
        self._loop: asyncio.AbstractEventLoop | None = None
        self._walks: list[AsyncGenerator[pa.RecordBatch, None]] = []
        self._pulls: set[asyncio.Task[object]] = set()
        self._error: DistinctError | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the walks; if one of them failed, raise its error instead of what the reader made of it."""
        self._loop = None
        await drain(self._pulls)
        for walk in self._walks:
            await walk.aclose()
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
        reader = pa.RecordBatchReader.from_batches(SCHEMA, self._read())
        return reader.__arrow_c_stream__(requested_schema)

    def _read(self) -> "Iterator[pa.RecordBatch]":
        walk: AsyncGenerator[pa.RecordBatch, None] | None = None
        try:
            while (loop := self._loop) is not None:
                if asyncio._get_running_loop() is loop:  # noqa: SLF001  # here it would wait for itself
                    raise ClientStateError("read the stream in another thread; use await asyncio.to_thread(...)")
                if walk is None:
                    self._walks.append(walk := self._walk())
                batch = asyncio.run_coroutine_threadsafe(self._pull(walk), loop).result()
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

    async def _pull(self, walk: "AsyncGenerator[pa.RecordBatch, None]") -> "pa.RecordBatch | None":
        task: asyncio.Task[object] | None = asyncio.current_task()
        if task is not None:
            self._pulls.add(task)
            task.add_done_callback(self._pulls.discard)
        return await anext(walk, None) if self._loop is not None else None


def stream(
    client: DistinctClient,
    experience_id: str,
    *,
    visits_type: VisitsType | None = "TOTAL",
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
    on_progress: Callable[[Progress], object] | None = None,
) -> Stream:
    """Return all visits of an experience as something that DuckDB, Polars and pyarrow read, for ``async with``.

    ::

        async with etl.stream(client, "exp-1") as visits:
            frame = await asyncio.to_thread(polars.DataFrame, visits)

    Columns and errors are those of `batches`; errors are raised when the ``async with`` is left.

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a batch at most, about; 1 or more.
        on_progress: Called with a `Progress` after each page.

    Raises:
        InvalidRequestError: An option is invalid; at once.
    """
    options = JobOptions(
        experience_id=experience_id,
        visits_type=visits_type,
        page_size=page_size,
        prefetch=prefetch,
        on_progress=on_progress,
        batch_rows=batch_rows,
    )
    return Stream(partial(generate_batches, client, options))
