"""dlt's RESTClient with its offset paginator, as its documentation has it: dicts, one page after the other."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module

from benchmarks.peers import Way

# By name, since no type checker of ours has dlt.
_rest = import_module("dlt.sources.helpers.rest_client")
_paginators = import_module("dlt.sources.helpers.rest_client.paginators")

_TOUCHPOINT = "data.touchpoints"


@asynccontextmanager
async def ways(url: str) -> AsyncIterator[Mapping[str, Way]]:
    """It blocks its thread; in here nobody else has anything to do."""
    client = _rest.RESTClient(base_url=url, headers={"x-distinct-api-key": "bench"})

    async def walk(rows: int, size: int) -> int:
        pages = client.paginate(
            "v3/touchpoint/metrics",
            params={"metricsType": "TOUCHPOINT", "touchpointId": rows, "visitsType": "TOTAL"},
            data_selector=f"{_TOUCHPOINT}.totalVisitsDetails.items",
            paginator=_paginators.OffsetPaginator(
                limit=size, limit_param="pageSize", total_path=f"{_TOUCHPOINT}.totalVisits"
            ),
        )
        return sum(1 for page in pages for _ in page)

    yield {"theirs, one after the other": walk}
    client.session.close()
