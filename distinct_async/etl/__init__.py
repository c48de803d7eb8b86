"""Jobs over all visits of an experience: plan, batches and streams of Arrow, export to a file, sync into DuckDB.

::

    from distinct_async import DistinctClient, etl

    async with DistinctClient() as client:
        result = await etl.sync(client, "exp-1", "warehouse.duckdb")
        print(result.rows, result.complete)

Several touchpoints are read at once, under the client's one `max_concurrency`. Unless the client was given a retry
policy, jobs try longer: 8 attempts, waits of at most 30 seconds. A job's result says whether it is complete, and if not
why.

Extras: ``arrow`` for `batches`, `read`, `stream` and `export`; ``duckdb`` for `sync` and `sync_impressions`;
``report`` for `report`; `plan` needs none.
"""

from distinct_async.etl.batches import Stream, batches, read, stream
from distinct_async.etl.exports import ExportResult, export
from distinct_async.etl.impressions import ImpressionsResult, sync_impressions
from distinct_async.etl.plans import Plan, VisitList, plan
from distinct_async.etl.reports import ReportResult, report
from distinct_async.etl.results import Failure, Progress, Result
from distinct_async.etl.syncs import SyncResult, sync

Work = VisitList  # the name in 0.1.0

__all__ = [
    "ExportResult",
    "Failure",
    "ImpressionsResult",
    "Plan",
    "Progress",
    "ReportResult",
    "Result",
    "Stream",
    "SyncResult",
    "VisitList",
    "Work",
    "batches",
    "export",
    "plan",
    "read",
    "report",
    "stream",
    "sync",
    "sync_impressions",
]
