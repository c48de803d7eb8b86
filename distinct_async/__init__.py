"""The async-first Python client for QR-scan data: touchpoint metrics (Distinct) and impressions (Vantio).

A tour::

    async with DistinctClient() as client:                      # DISTINCT_API_KEY, VANTIO_API_KEY
        metrics = await client.metrics.experience("exp-1")      # every touchpoint with its totals
        async for visit in client.metrics.total_visits("tp-1"): # every scan, with prefetched pages
            ...
        impression = await client.impressions.get("imp_123abc")

        async with client.metrics.total_visits("tp-1").run() as run:
            async for page in run.pages():
                ...
        run.checkpoint, run.report                              # where to resume; what was read

Errors are in `distinct_async.errors`, models in `distinct_async.models`, and fake vendors for tests in
`distinct_async.testing`.
"""

from distinct_async import errors, models
from distinct_async.client import DistinctClient
from distinct_async.config import Timeouts
from distinct_async.endpoints.impressions import Impressions
from distinct_async.endpoints.metrics import Metrics
from distinct_async.sansio.messages import Attempt
from distinct_async.sansio.pages import Checkpoint
from distinct_async.sansio.retry import RetryPolicy
from distinct_async.version import __version__
from distinct_async.walk import Page, Report, Run, Walk

__all__ = [
    "Attempt",
    "Checkpoint",
    "DistinctClient",
    "Impressions",
    "Metrics",
    "Page",
    "Report",
    "RetryPolicy",
    "Run",
    "Timeouts",
    "Walk",
    "__version__",
    "errors",
    "models",
]
