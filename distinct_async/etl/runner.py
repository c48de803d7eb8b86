"""The one runner of all jobs with a destination: plan, read, write in a thread, finish, report."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager, closing, suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

from attrs import define, evolve, field

from distinct_async.client import DistinctClient
from distinct_async.core import drain
from distinct_async.errors import DistinctError, InvalidRequestError, StorageError, annotate
from distinct_async.etl.destinations import Chunk, Destination
from distinct_async.etl.jobs import FATAL, Job, ResultFields
from distinct_async.etl.options import JobOptions
from distinct_async.etl.plans import Plan
from distinct_async.etl.results import Progress, Result
from distinct_async.sansio.retry import RetryPolicy

T = TypeVar("T")

JOB_RETRY = RetryPolicy(attempts=8, cap=30.0)  # a nightly job has time
_CONCURRENT_EXPERIENCES = 4


class _Closeable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Closeable)
R = TypeVar("R", bound=Result)


def with_job_retries(client: DistinctClient) -> DistinctClient:
    """Return a view of the client that tries longer, unless its owner has set a retry policy."""
    return client.with_options(retry=JOB_RETRY) if client.retry == RetryPolicy() else client


async def run_job(
    client: DistinctClient,
    options: JobOptions,
    open_destination: Callable[[], Destination],
    make_result: Callable[..., R],
    warn: Callable[[Job], object] | None = None,
) -> R:
    """Read what is new into a destination; of several experiences, up to four at once.

    Args:
        client: The client to read with.
        options: What to read, and how.
        open_destination: Opens the destination; called in the thread that all its methods are called from.
        make_result: Makes the job's result of the fields of `Result`.
        warn: Warns of what the job of an experience has seen, if necessary; called in any case.

    Returns:
        The result.

    Raises:
        DistinctError: The error that stopped the job, or that of the first list that failed; with its `result`.
    """
    if isinstance(options.ids_or_plan, Plan):
        raise InvalidRequestError("a plan is for batches() and read(); pass ids of experiences")
    async with open_in_thread(open_destination) as (executor, destination):
        runner = _Runner(with_job_retries(client), options, make_result, executor, destination)
        pending = iter(options.split())
        tasks = [
            asyncio.create_task(runner.run_pending(pending)) for _ in options.experience_ids[:_CONCURRENT_EXPERIENCES]
        ]
        try:
            await asyncio.gather(*tasks)
        finally:
            await drain(tasks)
        result = runner.result()
        if not isinstance(result.error, StorageError):
            try:
                await call_in_thread(executor, destination.finish, result)
            except StorageError as error:
                result = evolve(result, complete=False, error=error)
    if warn is not None:
        for job in runner.jobs:
            warn(job)
    raise_failure(result)
    return result


@define(eq=False)
class _Runner(Generic[R]):
    """Experiences on their way into one destination."""

    client: DistinctClient
    options: JobOptions
    make_result: Callable[..., R]
    executor: Executor
    destination: Destination
    jobs: list[Job] = field(factory=list, init=False)
    _results: dict[str, R] = field(factory=dict, init=False)
    _progress: dict[str, Progress] = field(factory=dict, init=False)
    _started_at: float = field(factory=time.monotonic, init=False)
    _stopped: bool = field(default=False, init=False)

    async def run_pending(self, pending: Iterator[JobOptions]) -> None:
        """Read one experience after the other, until an error that all the others would meet too."""
        for options in pending:
            if not self._stopped:
                (experience_id,) = options.experience_ids
                result = self._results[experience_id] = await self._run_job(experience_id, options)
                self._stopped |= isinstance(result.error, FATAL)

    async def _run_job(self, experience_id: str, options: JobOptions) -> R:
        if options.on_progress is not None:
            options = evolve(options, on_progress=partial(self._report, options.on_progress, experience_id))
        try:
            plan = await options.make_plan(self.client)
            states = await call_in_thread(self.executor, self.destination.begin, plan)
        except DistinctError as error:
            if len(self.options.experience_ids) == 1:
                raise
            no_rows = ResultFields(
                expected=0, complete=False, failures=(), requests=0, retries=0, elapsed=0.0, error=error, problems=()
            )
            return self.make_result(rows=0, **no_rows)
        job = Job(self.client, plan, options, states)
        self.jobs.append(job)
        try:
            await _write_all(job, self.executor, self.destination)
        except DistinctError as error:
            job.stopped = error
        return self.make_result(rows=self.destination.rows(experience_id), **job.result_fields())

    def _report(self, on_progress: Callable[[Progress], object], experience_id: str, progress: Progress) -> None:
        self._progress[experience_id] = progress
        every = self._progress.values()
        on_progress(
            Progress(
                rows=sum(each.rows for each in every),
                expected=sum(each.expected for each in every),
                requests=sum(each.requests for each in every),
                retries=sum(each.retries for each in every),
                elapsed=time.monotonic() - self._started_at,
            )
        )

    def result(self) -> R:
        """Return the result of all."""
        ids = self.options.experience_ids
        by_experience = {each: self._results[each] for each in ids if each in self._results}
        results = by_experience.values()
        return self.make_result(
            rows=sum(each.rows for each in results),
            expected=sum(each.expected for each in results),
            complete=all(each.complete for each in results),
            failures=tuple(failure for each in results for failure in each.failures),
            requests=sum(each.requests for each in results),
            retries=sum(each.retries for each in results),
            elapsed=time.monotonic() - self._started_at,
            error=next((each.error for each in results if each.error is not None), None),
            problems=tuple(problem for each in results for problem in each.problems),
            experiences=by_experience,
        )


async def _write_all(job: Job, executor: Executor, destination: Destination) -> None:
    """Read all and write all; on the way out, also when cancelled, what has come is written."""
    contiguous = True

    def write(chunks: Sequence[Chunk]) -> None:
        nonlocal contiguous
        if contiguous:  # if a write has failed, what came later would follow a gap
            contiguous = False
            destination.write(chunks)
            contiguous = True

    try:
        async with aclosing(job.chunks()) as batches:
            async for chunks in batches:
                await call_in_thread(executor, write, chunks)
    except asyncio.CancelledError:
        with suppress(StorageError):  # which must not hide the cancellation
            await call_in_thread(executor, write, job.take_chunks())
        raise
    except BaseException:
        await call_in_thread(executor, write, job.take_chunks())
        raise


def raise_failure(result: Result) -> None:
    """Raise the error that a job ends with, if there is one, with the results of all and of each experience."""
    for each in result.experiences.values():
        if each.error is not None:
            annotate(each.error, result=each)
    if result.error is not None:
        raise annotate(result.error, result=result)


async def call_in_thread(executor: Executor, function: Callable[..., T], *args: object) -> T:
    """Return ``function(*args)``, called in a thread; if cancelled meanwhile, wait for it: it cannot be stopped."""
    future = asyncio.get_running_loop().run_in_executor(executor, function, *args)
    cancellation: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        future.exception()  # retrieved, so that asyncio does not warn
        raise cancellation
    return future.result()


@asynccontextmanager
async def open_in_thread(open_resource: Callable[[], C]) -> AsyncGenerator[tuple[Executor, C], None]:
    """Yield a thread and what is opened and closed in it; closed also if cancelled while it is being opened."""
    with ThreadPoolExecutor(1, "distinct-async-etl") as executor, ExitStack() as stack:
        try:
            yield executor, await call_in_thread(executor, lambda: stack.enter_context(closing(open_resource())))
        finally:
            await call_in_thread(executor, stack.close)
