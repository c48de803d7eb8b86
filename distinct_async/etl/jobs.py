"""A job: the lists of a plan walked at once under the client's one gate, their rows handed on in whole pages."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import TypedDict

from attrs import Factory, define, field

from distinct_async.client import DistinctClient
from distinct_async.core import drain
from distinct_async.endpoints.metrics import with_lean_rows
from distinct_async.errors import (
    AuthenticationError,
    BadRequestError,
    ClientStateError,
    ConfigurationError,
    DistinctError,
    DriftError,
    NotFoundError,
    PermissionDeniedError,
    StorageError,
    annotate,
)
from distinct_async.etl.destinations import Chunk, ListState
from distinct_async.etl.options import JobOptions
from distinct_async.etl.plans import ListKey, Plan, VisitList
from distinct_async.etl.results import Failure, Progress
from distinct_async.models import Visit
from distinct_async.sansio.pages import Checkpoint
from distinct_async.walk import Page, Report, Run, Walk

CONCURRENT_LISTS = 8
REBUILD = "pass on_drift='rebuild' to reload this list"

# Errors that every other list would meet too
FATAL = (AuthenticationError, PermissionDeniedError, ConfigurationError, ClientStateError, StorageError)


class ResultFields(TypedDict):
    """What a `Job` knows of its `Result`."""

    expected: int
    complete: bool
    failures: tuple[Failure, ...]
    requests: int
    retries: int
    elapsed: float
    error: DistinctError | None
    problems: tuple[str, ...]


@define(eq=False)
class Job:
    """Reads what a plan lists and a destination does not have yet.

    Attributes:
        client: Whose gate and limits count.
        plan: The lists.
        options: How to read them.
        states: What the destination has.
        failures: The lists that failed so far.
        stopped: The error that ended the job before all lists were tried; the caller's to set.
        reports: The reports of the lists that this job has read to their ends.
        rows: Rows received.
    """

    client: DistinctClient
    plan: Plan
    options: JobOptions
    states: Mapping[ListKey, ListState] = Factory(dict)

    failures: list[Failure] = field(factory=list, init=False)
    stopped: DistinctError | None = field(default=None, init=False)
    reports: dict[VisitList, Report] = field(factory=dict, init=False)
    rows: int = field(default=0, init=False)
    _end_positions: dict[VisitList, int] = field(factory=dict, init=False)  # of the lists in `reports`
    _expected: int = field(init=False)
    _started_at: float = field(factory=time.monotonic, init=False)
    _requests: int = field(default=0, init=False)
    _retries: int = field(default=0, init=False)
    _runs: set[Run[Visit]] = field(factory=set, init=False)
    _chunks: dict[tuple[VisitList, bool], Chunk] = field(factory=dict, init=False)  # received and not yet taken
    _last_times: dict[VisitList, list[datetime]] = field(factory=dict, init=False)  # one of each range
    _disordered: set[VisitList] = field(factory=set, init=False)  # ranges whose times go back somewhere
    _waiting_rows: int = field(default=0, init=False)  # in `_chunks`
    _batch_ready: asyncio.Event = field(factory=asyncio.Event, init=False)
    _has_room: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._expected = sum(max(0, each.expected - self._stored_position(each)) for each in self.plan.works)
        self._has_room.set()

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        reports = [run.report for run in self._runs]
        return Progress(
            rows=self.rows,
            expected=self._expected,
            requests=self._requests + sum(report.requests for report in reports),
            retries=self._retries + sum(report.retries for report in reports),
            elapsed=time.monotonic() - self._started_at,
        )

    def result_fields(self) -> ResultFields:
        """Return what a result says beside its rows."""
        progress = self.progress
        error = self.stopped or (self.failures[0].error if self.failures else None)
        problems = () if self.stopped is not None else tuple(self._problems())
        return {
            "expected": self.plan.expected,
            "complete": error is None and not problems,
            "failures": tuple(self.failures),
            "requests": progress.requests,
            "retries": progress.retries,
            "elapsed": progress.elapsed,
            "error": error,
            "problems": problems,
        }

    def _problems(self) -> Iterator[str]:
        if not self.plan.complete:
            missing = self.plan.declared - len(self.plan.touchpoints)
            yield f"experience {self.plan.experience_id!r} lists fewer touchpoints than it declares ({missing} missing)"
        failed_lists = {failure.work for failure in self.failures}
        for each in self.plan.works:
            position = self._end_positions.get(each, self._stored_position(each))
            if each.stop is None and each not in failed_lists and position < each.expected:  # a range has proved itself
                yield f"{each}: {position} of {each.expected} declared rows are there"

    async def chunks(self) -> AsyncGenerator[list[Chunk], None]:
        """Yield rows as they come: about `batch_rows`, or what came in `batch_seconds`; a slow consumer is waited for.

        A list that fails is put into `failures` and the others continue; a refused key ends the job.
        """
        lists = iter(self.plan.works)
        tasks = [asyncio.create_task(self._read_lists(lists)) for _ in range(CONCURRENT_LISTS)]
        for task in tasks:
            task.add_done_callback(lambda _: self._batch_ready.set())
        try:
            ended = False
            while not ended:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.options.batch_seconds):
                        await self._batch_ready.wait()
                ended = all(task.done() for task in tasks)  # before the last rows are taken
                for task in tasks:
                    if task.done():
                        task.result()
                if chunks := self.take_chunks():
                    yield chunks
        finally:
            await drain(tasks)

    def take_chunks(self) -> list[Chunk]:
        """Return what has come and was not handed on yet; a chunk without rows announces an end."""
        chunks = list(self._chunks.values())
        self._chunks.clear()
        self._waiting_rows = 0
        self._batch_ready.clear()
        self._has_room.set()
        return chunks

    async def _read_lists(self, lists: Iterator[VisitList]) -> None:
        for visit_list in lists:
            try:
                await self._read_list(visit_list)
            except FATAL:
                raise
            except DistinctError as error:
                self.failures.append(Failure(visit_list, error))

    async def _read_list(self, visit_list: VisitList) -> None:
        if self._is_current(visit_list):
            return
        try:
            await self._walk_list(visit_list, self.states.get(visit_list.key))
        except DriftError:
            if self.options.on_drift == "raise" or visit_list.stop is not None:
                raise
        else:
            return
        await self._walk_list(visit_list, None, rebuild=True)

    def _is_current(self, visit_list: VisitList) -> bool:
        state = self.states.get(visit_list.key)
        return state.is_current(visit_list) if state is not None else not visit_list.expected

    def _stored_position(self, visit_list: VisitList) -> int:
        state = self.states.get(visit_list.key)
        return state.position if state is not None else 0

    async def _walk_list(self, visit_list: VisitList, state: ListState | None, *, rebuild: bool = False) -> None:
        walk, resume_from = self._make_walk(visit_list), visit_list.before if state is None else state.checkpoint
        if resume_from is not None:
            walk = walk.resume(resume_from)
        async with walk.run() as run:
            self._runs.add(run)
            try:
                async for page in run.pages():
                    await self._has_room.wait()
                    chunk = self._get_chunk(visit_list, page.offset, page.checkpoint, rebuild=rebuild)
                    chunk.ascends = run.report.ascends
                    self._add_page(chunk, page)
                self._check_range(visit_list, run)
                self._end_list(visit_list, run, rebuild=rebuild)
            except (BadRequestError, NotFoundError) as error:
                # Beyond the end of a list that has become shorter a server may refuse: that is not documented
                if visit_list.start and not run.report.rows:
                    raise self._planned_rows_error(
                        visit_list, f"the server refuses the range ({error.message})", error
                    ) from None
                if state is None or visit_list.expected >= state.position:
                    raise
                rows_left = f"the server lists {visit_list.expected} rows, {state.position} are stored"
                raise self._stored_rows_error(visit_list, rows_left, error) from None
            except DriftError as error:
                if visit_list.stop is not None:
                    raise self._planned_rows_error(visit_list, error.message, error) from None
                if self.options.on_drift == "rebuild":
                    raise
                ascends = run.report.ascends is not False and (state is None or state.ascends is not False)
                reason = error.message if ascends else f"the list is not sorted oldest-first; {error.message}"
                raise self._stored_rows_error(visit_list, reason, error) from None
            finally:
                self._runs.discard(run)
                self._requests += run.report.requests
                self._retries += run.report.retries

    @classmethod
    def _stored_rows_error(cls, visit_list: VisitList, reason: str, error: DistinctError) -> DriftError:
        message = f"{visit_list}: rows already stored no longer match the server ({reason})"
        return cls._with_context(error, DriftError(message, remedy=REBUILD, remedy_option="on_drift"))

    @classmethod
    def _planned_rows_error(cls, visit_list: VisitList, reason: str, error: DistinctError) -> DriftError:
        message = f"{visit_list}: rows have moved since the list was planned ({reason})"
        return cls._with_context(error, DriftError(message, remedy="plan again"))

    @staticmethod
    def _with_context(error: DistinctError, drift: DriftError) -> DriftError:
        return annotate(
            drift,
            vendor=error.vendor,
            operation=error.operation,
            attempts=error.attempts,
            elapsed=error.elapsed,
            waited=error.waited,
            on_wire=error.on_wire,
            checkpoint=error.checkpoint,
        )

    def _add_page(self, chunk: Chunk, page: Page[Visit]) -> None:
        chunk.visits.extend(page.items)
        if chunk.visit_list.stop is not None:  # a majority of the steps between pages is no proof
            times = [*self._last_times.get(chunk.visit_list, ()), *(visit.timestamp_utc for visit in page.items)]
            if times != sorted(times):
                self._disordered.add(chunk.visit_list)
            self._last_times[chunk.visit_list] = times[-1:]
        self.rows += len(page)
        self._waiting_rows += len(page)
        if self._waiting_rows >= self.options.batch_rows:
            self._has_room.clear()
            self._batch_ready.set()
        if self.options.on_progress is not None:
            self.options.on_progress(self.progress)

    def _check_range(self, visit_list: VisitList, run: Run[Visit]) -> None:
        """Raise a `DriftError` if the rows of a range cannot be those that were planned."""
        stop, report, planned_total = visit_list.stop, run.report, visit_list.declared
        if stop is None:
            return
        total, problem = report.total_last, None
        if report.rows < visit_list.expected:
            problem = f"the list ends at row {visit_list.start + report.rows}"
        elif total is not None and stop <= total < planned_total:  # one below `stop` is only the page's own length
            problem = f"the list shrank from {planned_total} to {total}"
        elif visit_list.after is not None:
            problem = None if run.checkpoint == visit_list.after else f"row {stop - 1} has changed"
        elif (
            total is not None and total > planned_total and not (report.ascends and visit_list not in self._disordered)
        ):
            grew = f"the list grew from {planned_total} to {total}"
            problem = f"{grew}, and its rows do not show that it is sorted oldest-first"
        if problem is not None:
            raise DriftError(problem)

    def _end_list(self, visit_list: VisitList, run: Run[Visit], *, rebuild: bool) -> None:
        checkpoint, report = run.checkpoint, run.report
        if checkpoint is None:
            return  # only without any page, and a walk that has ended has yielded one
        chunk = self._get_chunk(visit_list, checkpoint.position, checkpoint, rebuild=rebuild)
        chunk.end, chunk.ascends = report, report.ascends
        self.reports[visit_list], self._end_positions[visit_list] = report, checkpoint.position

    def _make_walk(self, visit_list: VisitList) -> Walk[Visit]:
        """Return the walk over the rows of msgspec, of which no `Visit` is made."""
        metrics, options = self.client.metrics, self.options
        walk = metrics.total_visits if visit_list.visits_type == "TOTAL" else metrics.unique_visits
        return with_lean_rows(
            walk(
                visit_list.touchpoint.id,
                # The plan's totals are those of the experience, so its lists are requested (the effect is inferred)
                experience_id=self.plan.experience_id,
                page_size=options.page_size,
                offset=visit_list.start,
                limit=None if visit_list.stop is None else visit_list.expected,
                prefetch=options.prefetch,
            )
        )

    def _get_chunk(self, visit_list: VisitList, start: int, checkpoint: Checkpoint, *, rebuild: bool) -> Chunk:
        key = visit_list, rebuild
        if key not in self._chunks:
            self._chunks[key] = Chunk(visit_list, start, rebuild, checkpoint)
        chunk = self._chunks[key]
        chunk.checkpoint = checkpoint
        return chunk
