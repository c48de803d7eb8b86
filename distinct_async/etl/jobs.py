"""A job: the lists of a plan walked at once under the client's one gate, their rows handed on in whole pages.

What a job fills, a file or a database, is not known here: it takes the rows in chunks, each with the checkpoint after
its last row, and stores both together. `Standing` is what it tells the next job.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import suppress
from typing import Literal, TypedDict

from attrs import Factory, define, field, frozen

from distinct_async.client import DistinctClient
from distinct_async.core import drain
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
)
from distinct_async.etl.plans import Plan, Work
from distinct_async.etl.results import Failure, Progress
from distinct_async.models import Visit, VisitsType
from distinct_async.sansio.pages import Checkpoint
from distinct_async.walk import Page, Report, Run, Walk

BATCH_ROWS = 10_000
BATCH_SECONDS = 2.0
CONCURRENCY = 8

CANNOT_KEEP = "the positions of this list cannot be kept"
REBUILD = "on_drift='rebuild' replaces it by what the server lists now"

OnHistory = Literal["raise", "rebuild"]
Key = tuple[str, VisitsType]


class Figures(TypedDict):
    """What a `Job` knows of its `Result`."""

    expected: int
    complete: bool
    failures: tuple[Failure, ...]
    requests: int
    retries: int
    elapsed: float


@frozen
class Standing:
    """What a target has of a list already.

    :ivar checkpoint: after its last row. :ivar declared: the total that the experience declared then.
    :ivar complete: whether the list was walked to its end. :ivar ascends: whether it ascends in time, as far as seen.
    """

    checkpoint: Checkpoint | None
    declared: int
    complete: bool
    ascends: bool | None

    @property
    def position(self) -> int:
        """How many rows it has."""
        return self.checkpoint.position if self.checkpoint is not None else 0

    def up_to_date(self, work: Work) -> bool:
        """Whether nothing needs to be asked for: it was walked to its end, and the total is that of then."""
        return self.complete and work.expected in {self.declared, self.position}


@define(eq=False)
class Chunk:
    """Whole pages of one list, in order.

    :ivar start: the position of the first row. :ivar checkpoint: after the last.
    :ivar rebuild: whether they replace, at their `end`, what the target has of this list.
    :ivar ascends: whether the list ascends in time, as far as this walk has seen it.
    :ivar end: set with the last chunk: the walk's report.
    """

    work: Work
    start: int
    rebuild: bool
    checkpoint: Checkpoint
    visits: list[Visit] = field(factory=list)
    ascends: bool | None = None
    end: Report | None = None

    def standing(self, before: Standing | None) -> Standing:
        """What a target that has stored this chunk has of the list."""
        ascends = self.ascends
        if before is not None and not self.rebuild and before.ascends is not None and ascends is not False:
            ascends = before.ascends
        whole = self.end is not None and self.end.complete
        return Standing(self.checkpoint, self.work.expected, whole, ascends)


@define(eq=False)
class Job:
    """Walks what a plan lists and a target does not have yet.

    :param standing: what the target has.
    :param prefetch: pages asked ahead in each list.
    """

    client: DistinctClient
    plan: Plan
    standing: Mapping[Key, Standing] = Factory(dict)
    page_size: int | None = None
    prefetch: int = 4
    on_drift: OnHistory = "raise"
    on_progress: Callable[[Progress], object] | None = None

    failures: list[Failure] = field(factory=list, init=False)
    reports: dict[Key, Report] = field(factory=dict, init=False)  # of lists walked to their ends by this job
    rows: int = field(default=0, init=False)  # received
    _positions: dict[Key, int] = field(factory=dict, init=False)  # where those lists ended
    _expected: int = field(init=False)
    _began: float = field(factory=time.monotonic, init=False)
    _requests: int = field(default=0, init=False)
    _retries: int = field(default=0, init=False)
    _runs: set[Run[Visit]] = field(factory=set, init=False)
    _chunks: dict[tuple[Key, bool], Chunk] = field(factory=dict, init=False)  # received and not yet taken
    _waiting: int = field(default=0, init=False)  # their rows
    _full: asyncio.Event = field(factory=asyncio.Event, init=False)
    _room: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._expected = sum(max(0, work.expected - self._position(work)) for work in self.plan.works)
        self._room.set()

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        reports = [run.report for run in self._runs]
        return Progress(
            rows=self.rows,
            expected=self._expected,
            requests=self._requests + sum(report.requests for report in reports),
            retries=self._retries + sum(report.retries for report in reports),
            elapsed=time.monotonic() - self._began,
        )

    def figures(self) -> Figures:
        """What a result says beside its rows."""
        progress = self.progress
        return {
            "expected": self.plan.expected,
            "complete": not self.failures and self.plan.complete and all(map(self._walked, self.plan.works)),
            "failures": tuple(self.failures),
            "requests": progress.requests,
            "retries": progress.retries,
            "elapsed": progress.elapsed,
        }

    def _walked(self, work: Work) -> bool:
        if (report := self.reports.get(work.key)) is not None:
            return report.complete and self._positions[work.key] >= work.expected
        return self._up_to_date(work) and self._position(work) >= work.expected

    async def chunks(self) -> AsyncGenerator[list[Chunk], None]:
        """The rows as they come: about `BATCH_ROWS`, or what came in `BATCH_SECONDS`. Whoever is slow is waited for.

        A list that fails is put into `failures`, the others go on; a refused key ends all.
        """
        works = iter(self.plan.works)
        tasks = [asyncio.create_task(self._worker(works)) for _ in range(CONCURRENCY)]
        for task in tasks:
            task.add_done_callback(lambda _: self._full.set())
        try:
            ended = False
            while not ended:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BATCH_SECONDS):
                        await self._full.wait()
                ended = all(task.done() for task in tasks)  # before the last rows are taken
                for task in tasks:
                    if task.done():
                        task.result()
                if chunks := self.take():
                    yield chunks
        finally:
            await drain(tasks)

    def take(self) -> list[Chunk]:
        """What has come and was not handed on yet; a chunk without rows tells of an end."""
        chunks = list(self._chunks.values())
        self._chunks.clear()
        self._waiting = 0
        self._full.clear()
        self._room.set()
        return chunks

    async def _worker(self, works: Iterator[Work]) -> None:
        for work in works:
            try:
                await self._list(work)
            except (AuthenticationError, PermissionDeniedError, ConfigurationError, ClientStateError, StorageError):
                raise  # the others would meet it too
            except DistinctError as error:
                self.failures.append(Failure(work, error))

    async def _list(self, work: Work) -> None:
        if self._up_to_date(work):
            return
        standing = self.standing.get(work.key)
        try:
            await self._walk(work, standing)
        except DriftError:
            if self.on_drift == "raise":
                raise
        else:
            return
        await self._walk(work, None, rebuild=True)

    def _up_to_date(self, work: Work) -> bool:
        standing = self.standing.get(work.key)
        return standing.up_to_date(work) if standing is not None else not work.expected

    def _position(self, work: Work) -> int:
        standing = self.standing.get(work.key)
        return standing.position if standing is not None else 0

    async def _walk(self, work: Work, standing: Standing | None, *, rebuild: bool = False) -> None:
        walk = self._visits(work)
        if standing is not None and standing.checkpoint is not None:
            walk = walk.resume(standing.checkpoint)
        async with walk.run() as run:
            self._runs.add(run)
            try:
                async for page in run.pages():
                    await self._room.wait()
                    chunk = self._chunk(work, page.offset, page.checkpoint, rebuild=rebuild)
                    chunk.ascends = run.report.ascends
                    self._take_in(chunk, page)
                self._end(work, run, rebuild=rebuild)
            except (BadRequestError, NotFoundError) as error:
                # Beyond the end of a list that has become shorter a server may refuse: that is not documented
                if standing is None or work.expected >= standing.position:
                    raise
                told = f"{work}: {CANNOT_KEEP}, {work.expected} rows are left of {standing.position}"
                raise DriftError(
                    told,
                    checkpoint=error.checkpoint,
                    vendor=error.vendor,
                    remedy=REBUILD,
                    remedy_option="on_drift",
                ) from None
            except DriftError as error:
                if self.on_drift == "raise":
                    ascends = run.report.ascends is not False and (standing is None or standing.ascends is not False)
                    why = "its history has changed" if ascends else "it does not ascend in time"
                    error.message = f"{work}: {CANNOT_KEEP}, {why} ({error.message})"
                    error.remedy, error.remedy_option = REBUILD, "on_drift"
                raise
            finally:
                self._runs.discard(run)
                self._requests += run.report.requests
                self._retries += run.report.retries

    def _take_in(self, chunk: Chunk, page: Page[Visit]) -> None:
        chunk.visits.extend(page.items)
        self.rows += len(page)
        self._waiting += len(page)
        if self._waiting >= BATCH_ROWS:
            self._room.clear()
            self._full.set()
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def _end(self, work: Work, run: Run[Visit], *, rebuild: bool) -> None:
        checkpoint, report = run.checkpoint, run.report
        if checkpoint is None:
            return  # cannot be: a walk that has ended has given a page
        chunk = self._chunk(work, checkpoint.position, checkpoint, rebuild=rebuild)
        chunk.end, chunk.ascends = report, report.ascends
        self.reports[work.key], self._positions[work.key] = report, checkpoint.position

    def _visits(self, work: Work) -> Walk[Visit]:
        metrics = self.client.metrics
        visits = metrics.total_visits if work.visits_type == "TOTAL" else metrics.unique_visits
        # The totals of the plan are those of the experience, so its lists are asked for (what the id does is inferred)
        return visits(
            work.touchpoint.id,
            experience_id=self.plan.experience_id,
            page_size=self.page_size,
            prefetch=self.prefetch,
        )

    def _chunk(self, work: Work, start: int, checkpoint: Checkpoint, *, rebuild: bool) -> Chunk:
        key = work.key, rebuild
        if key not in self._chunks:
            self._chunks[key] = Chunk(work, start, rebuild, checkpoint)
        chunk = self._chunks[key]
        chunk.checkpoint = checkpoint
        return chunk
