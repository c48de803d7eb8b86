"""Visits for Spark 4.2 and newer, as a batch and as a stream (extra ``spark``).

::

    visits = spark.read.format("distinct").option("experience_id", "exp-1").load()
    stream = spark.readStream.format("distinct").option("experience_id", "exp-1").load()

Spark finds the format by the module ``pyspark_distinct`` of this package: do not register it. The columns are those of
`distinct_async.etl.batches`. Driver and executors read the key from the environment variable ``DISTINCT_API_KEY``, or
from the file that `key_file` names; there is no option for the key itself, because Spark logs options.

A batch asks the API again for each action: write or cache it first. The offsets of a stream are checkpoints: each
micro-batch checks that the row before it and its own last row are in their places, so rows that have moved stop the
query with a `DriftError`.

Options:

=====================  ================================================================================================
``experience_id``      The experience's id; or the path: ``load("exp-1")``.
``visits_type``        ``TOTAL`` (every scan; the default), ``UNIQUE`` (each user's first) or ``both``.
``touchpoint_ids``     Only these touchpoints: ids with commas between, or a JSON list. By default all.
``page_size``          Visits per request, 1 or more; by default 500.
``prefetch``           Pages requested ahead in each list, 1 or more; by default 4.
``numPartitions``      Tasks to split the rows into, 1 or more; by default 4.
``maxRowsPerTrigger``  For a stream: rows in a micro-batch, 1 or more; by default all that are new.
``max_concurrency``    Requests in flight of all tasks together, `numPartitions` or more; by default 16, or that.
``rate_limit``         Requests per second of all tasks together, more than 0; by default no limit.
``base_url``           URL of Distinct; else the driver's ``DISTINCT_BASE_URL``.
``timeout``            Seconds for one attempt, more than 0; by default 30.
``deadline``           Seconds for one request with its attempts and waits, more than 0; by default 90.
``allow_http``         ``true`` to send the key over plain http to other hosts than loopback.
``trust_env``          ``true`` to use the proxies of the environment.
``key_file``           A file that the driver and all executors can read: ``DISTINCT_API_KEY=...``, or one key.
=====================  ================================================================================================
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
from attrs import NOTHING, Factory, evolve, field, fields, frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import DriftError, InvalidRequestError
from distinct_async.etl import Plan, VisitList, plan, read
from distinct_async.etl.destinations import ListState
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.options import JobOptions
from distinct_async.etl.plans import ListKey
from distinct_async.etl.runner import JOB_RETRY
from distinct_async.etl.state import read_states, state_name, state_text
from distinct_async.files import read_key_file
from distinct_async.models import TouchpointSummary, VisitsType
from distinct_async.sansio.messages import whole_number
from distinct_async.sansio.pages import Checkpoint

with requires_extra("spark"):
    from pyspark.sql.datasource import DataSource, DataSourceReader, DataSourceStreamReader, InputPartition
    from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

    from distinct_async.etl.arrow import SCHEMA

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql.types import StructType

K = TypeVar("K")

_NEW_QUERY: Final = "start over, with another checkpointLocation and an empty target"
_SECRET_WORDS: Final = ("key", "token", "secret", "password", "credential", "auth")
_SQL_TYPES: Final = {"string": "STRING", "int64": "BIGINT", "timestamp[us, tz=UTC]": "TIMESTAMP"}
_VISITS_TYPES: Final[Mapping[str, VisitsType | None]] = {"TOTAL": "TOTAL", "UNIQUE": "UNIQUE", "both": None}


def _touchpoint_ids(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        return msgspec.json.decode(text, type=list[str])
    return [each.strip() for each in text.split(",")]


def _option(convert: Callable[[str], object], expected: str, default: Any = None, alias: str | None = None) -> Any:  # noqa: ANN401
    """Return a field that knows how its text is read, what that must be, and its name if users write another one."""
    return field(default=default, alias=alias, metadata={"convert": convert, "expected": expected})


_int_option = partial(_option, int, "a whole number")
_seconds_option = partial(_option, float, "a number of seconds")
_bool_option = partial(
    _option, lambda text: {"true": True, "false": False}[text.lower()], "true or false", default=False
)


@frozen(kw_only=True)
class Options:
    """The options of a query, validated; they hold no key.

    Attributes are as the module describes them; `partitions` is `numPartitions`, `max_rows` is `maxRowsPerTrigger`.
    """

    experience_id: str = _option(str, "an id", default=NOTHING)
    visits_type: VisitsType | None = _option(_VISITS_TYPES.__getitem__, "TOTAL, UNIQUE or both", default="TOTAL")
    touchpoint_ids: Sequence[str] | None = _option(_touchpoint_ids, "ids with commas between, or a JSON list of ids")
    page_size: int = _int_option(default=500)
    prefetch: int = _int_option(default=4)
    partitions: int = _int_option(default=4, alias="numPartitions")
    max_rows: int | None = _int_option(alias="maxRowsPerTrigger")
    max_concurrency: int = _int_option(default=Factory(lambda self: max(16, self.partitions), takes_self=True))
    rate_limit: float | None = _option(float, "a number")
    base_url: str | None = _option(str, "a URL")
    timeout: float = _seconds_option(default=30.0)
    deadline: float = _seconds_option(default=90.0)
    allow_http: bool = _bool_option()
    trust_env: bool = _bool_option()
    key_file: Path | None = _option(Path, "a path")

    def __attrs_post_init__(self) -> None:
        """Validate what later calls would refuse."""
        whole_number(self.partitions, "numPartitions", 1)
        JobOptions(
            ids_or_plan=self.experience_id,
            touchpoint_ids=self.touchpoint_ids,
            page_size=self.page_size,
            prefetch=self.prefetch,
        )
        if self.max_rows is not None:
            whole_number(self.max_rows, "maxRowsPerTrigger", 1)
        self.make_client()
        if self.max_concurrency < self.partitions:
            given = f"max_concurrency={self.max_concurrency} is less than numPartitions={self.partitions}"
            raise InvalidRequestError(f"{given}, but each task needs one request at a time; lower numPartitions")

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "Options":
        """Return the options of a query.

        Args:
            texts: What the user has given, with names in any case.

        Raises:
            InvalidRequestError: An option is unknown, invalid or a key; no value is shown.
        """
        parsed = _read_options(texts)
        del texts  # a key may be in it by mistake, and Spark shows locals with SPARK_TRACEBACK_WITH_LOCALS
        if isinstance(parsed, str):
            raise InvalidRequestError(parsed)
        return cls(**parsed)

    def make_client(self, tasks: int = 1, base_url: str | None = None) -> DistinctClient:
        """Return a client with a task's share of the limits.

        Args:
            tasks: How many share them.
            base_url: The URL that the driver uses; None in the driver.
        """
        return DistinctClient(
            self._read_setting("DISTINCT_API_KEY"),
            base_url=base_url or self.base_url or self._read_setting("DISTINCT_BASE_URL"),
            max_concurrency=max(1, self.max_concurrency // tasks),
            rate_limit=None if self.rate_limit is None else self.rate_limit / tasks,
            timeout=self.timeout,
            deadline=self.deadline,
            retry=JOB_RETRY,
            allow_http=self.allow_http,
            trust_env=self.trust_env,
        )

    def _read_setting(self, variable: str) -> str | None:
        # Never a local variable: as in `parse`
        return None if self.key_file is None else read_key_file(self.key_file, "option key_file").get(variable)


def _read_options(texts: Mapping[str, str]) -> dict[str, Any] | str:
    """Return the arguments of `Options`, or what is wrong."""
    options = {str(each.alias): each.metadata for each in fields(Options)}
    option_names = {name.lower(): name for name in options}
    lower_texts = {name.lower(): texts[name] for name in texts}
    if "paths" in lower_texts:
        return "load() takes one experience; for several, make a frame of each and unite them with union()"
    if "path" in lower_texts:
        path = lower_texts.pop("path")
        if lower_texts.setdefault("experience_id", path) != path:
            return "the path and the option experience_id differ; drop one of them"
    values: dict[str, object] = {}
    for name, text in lower_texts.items():
        if name not in option_names:
            if any(secret in name for secret in _SECRET_WORDS):
                advice = "set the environment variable DISTINCT_API_KEY on driver and executors, or use key_file"
                return f"option {name!r} is refused, because Spark logs options; {advice}"
            return f"unknown option {name!r}; known are {', '.join(options)}"
        option = options[option_names[name]]
        try:
            values[option_names[name]] = option["convert"](text)
        except (ValueError, KeyError):  # msgspec's errors are ValueErrors
            return f"option {option_names[name]} must be {option['expected']}"
    return values if values.get("experience_id") else 'the option experience_id is missing; load("exp-1") sets it too'


class DistinctDataSource(DataSource):
    """The format ``distinct``; the options are described in the module."""

    @classmethod
    def name(cls) -> str:
        """Return the name for ``spark.read.format``."""
        return "distinct"

    def schema(self) -> str:
        """Return the columns as DDL; raise an error for invalid options."""
        Options.parse(self.options)
        return ", ".join(
            f"{each.name} {_SQL_TYPES[str(each.type)]}{'' if each.nullable else ' NOT NULL'}" for each in SCHEMA
        )

    def reader(self, schema: "StructType") -> "BatchReader":  # noqa: ARG002
        """Return the reader of a batch."""
        return BatchReader(Options.parse(self.options))

    def streamReader(self, schema: "StructType") -> "StreamReader":  # noqa: ARG002, N802
        """Return the reader of a stream."""
        return StreamReader(Options.parse(self.options))


class PlanPartition(InputPartition):
    """What one task reads. It is pickled, and holds no key.

    Attributes:
        plan: Its part of the plan.
        tasks: How many tasks share the limits.
        base_url: The URL that the driver uses.
    """

    def __init__(self, plan: Plan, tasks: int, base_url: str) -> None:
        self.plan = plan
        self.tasks = tasks
        self.base_url = base_url


class _Reader:
    """What batch and stream share. Spark makes it in a Python process of the driver and pickles it to the executors."""

    remedy = ""

    def __init__(self, options: Options) -> None:
        self._options = options

    def read(self, partition: InputPartition) -> "Iterator[pa.RecordBatch]":
        """Yield the rows of a partition, in a task."""
        part, options = cast("PlanPartition", partition), self._options
        client = partial(options.make_client, part.tasks, part.base_url)
        try:
            yield from read(part.plan, client=client, page_size=options.page_size, prefetch=options.prefetch)
        except DriftError as error:
            error.remedy, error.remedy_option = self.remedy, None
            raise

    async def _make_plan(self, client: DistinctClient) -> Plan:
        options = self._options
        return await plan(
            client, options.experience_id, visits_type=options.visits_type, touchpoint_ids=options.touchpoint_ids
        )

    def _request_plan(self) -> Plan:
        async def request() -> Plan:
            async with self._options.make_client() as client:
                return await self._make_plan(client)

        return asyncio.run(request())

    def _split(self, full_plan: Plan) -> list[InputPartition]:
        parts = full_plan.split(self._options.partitions)
        parts = [each for each in parts if each.expected] or parts[:1]
        base_url = self._options.make_client().base_urls["distinct"]
        return [PlanPartition(each, len(parts), base_url) for each in parts]


class BatchReader(_Reader, DataSourceReader):
    """Reads all visits that the experience declares when the query is planned."""

    remedy = "run the query again"

    def partitions(self) -> list[InputPartition]:
        """Return what the tasks read, after one request."""
        return self._split(self._request_plan())


class StreamReader(_Reader, DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Reads what is new since the last micro-batch. An offset is the state of each list, as `etl.batches` keeps it."""

    remedy = _NEW_QUERY

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._current_plan: Plan | None = None
        self._is_last = False

    def initialOffset(self) -> dict[str, str]:  # noqa: N802
        """Return the state before the first row."""
        return {}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """Return the rows of a micro-batch."""
        rows = self._options.max_rows
        return ReadAllAvailable() if rows is None else ReadMaxRows(rows)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """Note what there is now: the query ends with it."""
        self._current_plan, self._is_last = self._request_plan(), True

    def latestOffset(self, start: dict[str, str], limit: ReadLimit) -> dict[str, str]:  # noqa: N802
        """Return the state after the next micro-batch; one request, and a small one for each list that has grown."""
        return asyncio.run(self._advance(start, limit.max_rows if isinstance(limit, ReadMaxRows) else None))

    async def _advance(self, start: dict[str, str], limit: int | None) -> dict[str, str]:
        states = read_states(start, self._options.experience_id)
        async with self._options.make_client() as client:
            if self._current_plan is None or not self._is_last:
                self._current_plan = await self._make_plan(client)
            new_rows = {each: _count_new_rows(each, states.get(each.key)) for each in self._current_plan.works}
            rows_taken = {each: rows for each, rows in allot(new_rows, limit).items() if rows}
            positions = {each: each.declared - new_rows[each] + rows for each, rows in rows_taken.items()}
            checkpoints = await asyncio.gather(*(_checkpoint_at(client, *each) for each in positions.items()))
        end = dict(start)
        for (each, position), checkpoint in zip(positions.items(), checkpoints, strict=True):
            state = ListState(checkpoint, each.declared, position == each.declared, None)
            end[state_name(each.key)] = state_text(state)
        return end

    def partitions(self, start: dict[str, str], end: dict[str, str]) -> list[InputPartition]:
        """Return what the tasks of a micro-batch read."""
        experience_id = self._options.experience_id
        start_states, end_states = read_states(start, experience_id), read_states(end, experience_id)
        if self._current_plan is None:  # after a restart, for the names of the touchpoints
            self._current_plan = self._request_plan()
        lists = {each.key: each for each in self._current_plan.works}
        works = [
            evolve(
                lists.get(key) or _make_unlisted_list(key),
                start=before.position if (before := start_states.get(key)) else 0,
                stop=state.position,
                before=before.checkpoint if before else None,
                after=state.checkpoint,
            )
            for key, state in end_states.items()
        ]
        works = [each for each in works if each.expected]
        return self._split(Plan(experience_id, tuple(works), 0)) if works else []


def _make_unlisted_list(key: ListKey) -> VisitList:
    """Return a list that the experience does not list any more; a micro-batch that is repeated may need it."""
    experience_id, touchpoint_id, visits_type = key
    summary = TouchpointSummary(id=touchpoint_id, name=None, value=None, total_visits=0, unique_visits=0)
    return VisitList(summary, visits_type, experience_id=experience_id)


def _count_new_rows(visit_list: VisitList, state: ListState | None) -> int:
    if state is None:
        return visit_list.declared
    if state.is_current(visit_list):
        return 0
    if visit_list.declared < state.position:
        rows_left = f"the server lists {visit_list.declared} rows, {state.position} were read"
        raise DriftError(f"{visit_list}: rows that were read are gone ({rows_left})", remedy=_NEW_QUERY)
    return visit_list.declared - state.position


async def _checkpoint_at(client: DistinctClient, visit_list: VisitList, position: int) -> Checkpoint:
    metrics = client.metrics
    walk = (metrics.total_visits if visit_list.visits_type == "TOTAL" else metrics.unique_visits)(
        visit_list.touchpoint.id,
        experience_id=visit_list.experience_id,
        page_size=1,
        offset=position - 1,
        limit=1,
    )
    async with walk.run() as run:
        async for page in run.pages():
            if page.items:  # the first page of a walk is yielded even if it is empty
                return page.checkpoint
    problem = f"{visit_list}: row {position - 1} is gone since the list was planned"
    raise DriftError(problem, remedy="the next micro-batch plans again")


def allot(new_rows: Mapping[K, int], limit: int | None) -> dict[K, int]:
    """Return how many rows of each list a micro-batch takes: all, or fair shares of the limit.

    Args:
        new_rows: How many are new, for each list.
        limit: How many to take together; None for all.
    """
    if limit is None:
        return dict(new_rows)
    shares: dict[K, int] = {}
    for left, key in zip(range(len(new_rows), 0, -1), sorted(new_rows, key=new_rows.__getitem__), strict=True):
        shares[key] = min(new_rows[key], limit // left)
        limit -= shares[key]
    return shares
