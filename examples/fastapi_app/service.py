"""The service: the touchpoints of an experience, the visits of a touchpoint as a stream, an impression."""

from collections.abc import Sequence
from typing import Literal

from fastapi import FastAPI, Request, Response

from distinct_async.fastapi import (
    PROBLEMS,
    DistinctDep,
    JSONLResponse,
    add_error_handlers,
    jsonl_response,
    lifespan,
)
from distinct_async.models import Impression, TouchpointSummary, Visit

app = FastAPI(title="Who scans what", lifespan=lifespan(require=("distinct", "vantio")), responses=PROBLEMS)
add_error_handlers(app)


@app.get("/experiences/{experience_id}/touchpoints")
async def touchpoints(experience_id: str, client: DistinctDep) -> Sequence[TouchpointSummary]:
    """Return the touchpoints of an experience, the busiest first."""
    metrics = await client.metrics.experience(experience_id)
    return sorted(metrics.touchpoints, key=lambda each: each.total_visits, reverse=True)


@app.get("/touchpoints/{touchpoint_id}/visits", response_class=JSONLResponse, response_model=Visit)
async def visits(
    touchpoint_id: str, request: Request, client: DistinctDep, of: Literal["everyone", "newcomers"] = "everyone"
) -> Response:
    """Stream every visit of a touchpoint, or the first one of each user, as JSON lines."""
    walks = {"everyone": client.metrics.total_visits, "newcomers": client.metrics.unique_visits}
    return jsonl_response(walks[of](touchpoint_id, page_size=500), request)


@app.get("/impressions/{impression_id}")
async def impression(impression_id: str, client: DistinctDep) -> Impression:
    """Return one scan of a poster."""
    return await client.impressions.get(impression_id)
