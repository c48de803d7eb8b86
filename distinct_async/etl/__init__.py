"""Jobs over all visits of an experience: plan, batches and streams of Arrow, export to a file, sync into DuckDB.

::

    from distinct_async import DistinctClient, etl

    async with DistinctClient() as client:
        result = await etl.sync(client, "exp-1", "warehouse.duckdb")
        print(result.rows, result.complete)

All touchpoints are walked at once, under the client's one `max_concurrency`. Where the client has no retry policy of
its own, jobs try longer: 8 attempts, waits of at most 30 seconds. A job says whether it is complete, and why not.

Extras: ``arrow`` for `batches`, `stream` and `export`; ``duckdb`` for `sync` and `sync_impressions`; `plan` needs none.
"""

from distinct_async.etl.batches import Stream, batches, stream
from distinct_async.etl.exports import ExportResult, export
from distinct_async.etl.impressions import ImpressionsResult, sync_impressions
from distinct_async.etl.plans import Plan, Work, plan
from distinct_async.etl.results import Failure, Progress, Result
from distinct_async.etl.syncs import SyncResult, sync

__all__ = [
    "ExportResult",
    "Failure",
    "ImpressionsResult",
    "Plan",
    "Progress",
    "Result",
    "Stream",
    "SyncResult",
    "Work",
    "batches",
    "export",
    "plan",
    "stream",
    "sync",
    "sync_impressions",
]
