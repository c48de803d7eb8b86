"""A source for dlt, which loads visits and impressions into any of its destinations (extra ``dlt``).

::

    import dlt
    from distinct_async.dlt import distinct

    pipeline = dlt.pipeline("qr", destination="duckdb", dataset_name="scans")
    pipeline.run(distinct("exp-1"))

Tables: `touchpoints` (replaced by each run), `visits` and `unique_visits` (each run appends what is new; the columns of
`distinct_async.etl.batches`), and `impressions` (merged by their ids). What was loaded is in dlt's own state, which it
stores together with the rows.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from distinct_async.client import DistinctClient
from distinct_async.config import Key
from distinct_async.errors import DriftError
from distinct_async.etl import VisitList, read
from distinct_async.etl.destinations import TABLES
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.impressions import has_vantio_key
from distinct_async.etl.options import JobOptions, OnJobDrift
from distinct_async.etl.plans import select_visits_types
from distinct_async.etl.runner import with_job_retries
from distinct_async.etl.state import read_states, state_name
from distinct_async.models import VisitsType

with requires_extra("dlt"):
    import dlt
    import pyarrow as pa

    from distinct_async.etl.arrow import SCHEMA, impressions_table

if TYPE_CHECKING:
    from dlt.extract import DltResource

__all__ = ["distinct"]

_PRIMARY_KEY = ("experience_id", "touchpoint_id", "position")


@dlt.source(name="distinct", section="distinct")
def distinct(
    experience_ids: str | Sequence[str],
    *,
    visits_type: VisitsType | None = None,
    page_size: int = 500,
    prefetch: int = 4,
    on_drift: OnJobDrift = "raise",
    client: Callable[[], DistinctClient] | None = None,
    api_key: dlt.TSecretStrValue = None,
    vantio_api_key: dlt.TSecretStrValue = None,
) -> "list[DltResource]":
    """Return a dlt source with the resources `touchpoints`, `visits`, `unique_visits` and `impressions`.

    Keys come from dlt's secrets (``sources.distinct.api_key``, ``sources.distinct.vantio_api_key``), else from the
    environment variables ``DISTINCT_API_KEY`` and ``VANTIO_API_KEY``. Without a Vantio key `impressions` is not
    selected. Each resource makes a client, so that limits of the client count for each of them.

    Args:
        experience_ids: The id of an experience, or several.
        visits_type: ``"TOTAL"`` for `visits` only, ``"UNIQUE"`` for `unique_visits` only; None for both.
        page_size: Visits per request, 1 or more. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        on_drift: What to do if rows of a list have moved: ``"raise"`` ends the run with a `DriftError`, and nothing is
            loaded. ``"rebuild"`` loads the list from its start again, in place of all its rows; for that `visits` and
            `unique_visits` are merged, which the destination must support, and get a column `deleted`.
        client: Makes the clients, for example ``functools.partial(DistinctClient, rate_limit=5)``; it then has the keys
            too. By default ``DistinctClient`` with the keys above.
        api_key: The Distinct key; dlt fills it in.
        vantio_api_key: The Vantio key; dlt fills it in.

    Returns:
        The source.

    Raises:
        InvalidRequestError: An argument is invalid; at once. What happens later, dlt wraps in its own errors.
    """
    key, vantio_key = Key.of(api_key), Key.of(vantio_api_key)
    del api_key, vantio_api_key  # a traceback that is rendered with its locals must not show them

    def make_client() -> DistinctClient:
        if client is not None:
            return client()
        keys = (None if each is None else each.value for each in (key, vantio_key))
        return DistinctClient(next(keys), vantio_api_key=next(keys))

    options = JobOptions(
        ids_or_plan=experience_ids, visits_type=visits_type, on_drift=on_drift, page_size=page_size, prefetch=prefetch
    )
    return [
        dlt.resource(
            _touchpoints(make_client, options.experience_ids),
            name="touchpoints",
            write_disposition="replace",
            primary_key=("experience_id", "touchpoint_id"),
        ),
        *(_visits_resource(make_client, options, each) for each in select_visits_types(visits_type)),
        dlt.resource(
            _read_impressions(make_client),
            name="impressions",
            write_disposition="merge",
            primary_key="id",
            selected=has_vantio_key(make_client()),
        ),
    ]


def _touchpoints(
    make_client: Callable[[], DistinctClient], experience_ids: Sequence[str]
) -> Iterator[Awaitable[list[dict[str, Any]]]]:
    # Not an asynchronous generator, which dlt 1.31 closes while it runs if another resource fails: a logged error
    yield _read_touchpoints(make_client, experience_ids)


async def _read_touchpoints(
    make_client: Callable[[], DistinctClient], experience_ids: Sequence[str]
) -> list[dict[str, Any]]:
    async with make_client() as client:
        experience = with_job_retries(client).metrics.experience
        metrics = [await experience(each) for each in experience_ids]
    return [
        {
            "experience_id": experience_id,
            "touchpoint_id": each.id,
            "name": each.name,
            "value": each.value,
            "total_visits": each.total_visits,
            "unique_visits": each.unique_visits,
        }
        for experience_id, metrics_of_one in zip(experience_ids, metrics, strict=True)
        for each in metrics_of_one.touchpoints
    ]


def _visits_resource(
    make_client: Callable[[], DistinctClient], options: JobOptions, visits_type: VisitsType
) -> "DltResource":
    rebuild = options.on_drift == "rebuild"

    def visits() -> "Iterator[pa.RecordBatch]":
        for experience_id in options.experience_ids:
            state: dict[str, str] = dlt.current.resource_state().setdefault(experience_id, {})
            rebuilt = _RebuiltLists(experience_id, state)
            for batch in read(
                experience_id,
                client=make_client,
                visits_type=visits_type,
                state=state,
                on_drift=options.on_drift,
                on_rebuild=rebuilt.note,
                page_size=options.page_size,
                prefetch=options.prefetch,
            ):
                yield _with_deleted(batch, deleted=False) if rebuild else batch
            yield from rebuilt.tombstones()

    return dlt.resource(
        visits,
        name=TABLES[visits_type],
        write_disposition={"disposition": "merge", "strategy": "delete-insert"} if rebuild else "append",
        primary_key=_PRIMARY_KEY,
        columns={"deleted": {"hard_delete": True}} if rebuild else None,
    )


class _RebuiltLists:
    """The lists that a run rebuilds: their rows are merged by position, and rows beyond their new ends are deleted."""

    def __init__(self, experience_id: str, state: MutableMapping[str, str]) -> None:
        self._experience_id = experience_id
        self._state = state
        self._before = dict(state)
        self._lists: list[VisitList] = []

    def note(self, visit_list: VisitList) -> None:
        """Note a list, before its first row."""
        name = state_name(visit_list.key)
        if self._state.get(name) != self._before.get(name):
            # Rows of both versions would be in one load, where the merge could not know which are newer
            raise DriftError(f"{visit_list}: rows moved while the list was read", remedy="run the pipeline again")
        self._lists.append(visit_list)

    def tombstones(self) -> "Iterator[pa.RecordBatch]":
        """Yield the rows to delete."""
        before, after = (read_states(each, self._experience_id) for each in (self._before, self._state))
        for each in self._lists:
            deleted_positions = range(after[each.key].position, before[each.key].position)
            values = {
                "experience_id": self._experience_id,
                "touchpoint_id": each.touchpoint.id,
                "visits_type": each.visits_type,
                "user_id": "",
                "timestamp_utc": 0,
            }
            columns = [
                pa.array(deleted_positions, pa.int64())
                if field.name == "position"
                else pa.repeat(pa.scalar(values.get(field.name), field.type), len(deleted_positions))
                for field in SCHEMA
            ]
            batch = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
            if deleted_positions:
                yield _with_deleted(batch, deleted=True)


def _with_deleted(batch: "pa.RecordBatch", *, deleted: bool) -> "pa.RecordBatch":
    # Nullable: tables that were appended to so far get the column too, and later runs may append again
    return batch.append_column("deleted", pa.repeat(pa.scalar(deleted), len(batch)))


async def _read_impressions(make_client: Callable[[], DistinctClient]) -> "AsyncIterator[pa.Table]":
    async with make_client() as client, with_job_retries(client).impressions.list().run() as run:
        async for page in run.pages():
            if page.items:
                yield impressions_table(page.items)
