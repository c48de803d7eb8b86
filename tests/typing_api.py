"""What type checkers must see of the public API; checked by mypy and basedpyright, never run."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from datetime import datetime
from typing import Any, assert_type

import aiohttp

from distinct_async import Checkpoint, DistinctClient, Page, Report, RetryPolicy, Run, Timeouts, Walk, errors, models
from distinct_async.testing import FakeServer, World


async def clients() -> None:
    DistinctClient()
    DistinctClient("key", timeout=10, deadline=None, rate_limit=5.0)
    DistinctClient("key", rate_limit=asyncio.Semaphore(4))
    DistinctClient(session=aiohttp.ClientSession)
    DistinctClient(session=aiohttp.ClientSession(), trace_configs=[aiohttp.TraceConfig()], trust_env=True)
    client = DistinctClient(
        "key",
        vantio_api_key="sk_key",
        base_url="https://api.distinct.so",
        vantio_base_url="https://vantio.app",
        timeout=Timeouts(connect=5.0, attempt=30.0),
        deadline=90.0,
        retry=RetryPolicy(attempts=4, base=0.5, cap=20.0, max_retry_after=60.0),
        max_concurrency=16,
        impression_cache=0,
        max_body=1024,
        allow_http=True,
        on_attempt=lambda attempt: assert_type(attempt.retry_in, float | None),
    )
    assert_type(client.with_options(on_attempt=print), DistinctClient)
    assert_type(client.with_options(timeout=2, deadline=3, retry=RetryPolicy(attempts=1)), DistinctClient)
    assert_type(client.with_options(deadline=None), DistinctClient)
    async with client as same:
        assert_type(same, DistinctClient)
    assert_type(await client.close(), None)


async def metrics(client: DistinctClient, visits_type: models.VisitsType) -> None:
    assert_type(await client.metrics.experience("exp-1", page_size=50, offset=0), models.ExperienceMetrics)
    assert_type(await client.metrics.user("user-1", experience_id="exp-1"), models.UserMetrics)
    one = await client.metrics.touchpoint("tp-1", visits_type=visits_type, experience_id="exp-1", page_size=1, offset=1)
    assert_type(one, models.TouchpointMetrics)
    total = client.metrics.total_visits(
        "tp-1", experience_id="exp-1", page_size=50, offset=0, limit=1, prefetch=8, on_drift="warn"
    )
    assert_type(total, Walk[models.Visit])
    assert_type(client.metrics.unique_visits("tp-1", on_drift="raise"), Walk[models.Visit])


async def impressions(client: DistinctClient, more: AsyncIterator[str]) -> None:
    assert_type(await client.impressions.get("imp-1"), models.Impression)
    assert_type(client.impressions.get_many(["imp-1"]), AsyncGenerator[models.Impression, None])
    assert_type(client.impressions.get_many(more, missing="skip"), AsyncGenerator[models.Impression, None])
    assert_type(client.impressions.get_many(more, missing="none"), AsyncGenerator[models.Impression | None, None])
    listed = client.impressions.list(
        program_id="prog-1", poster_id="poster-1", page_size=50, offset=0, limit=1, on_drift="warn"
    )
    assert_type(listed, Walk[models.Impression])


async def walks(walk: Walk[models.Visit]) -> None:
    async for visit in walk:
        assert_type(visit, models.Visit)
    async for page in walk.pages():
        assert_type(page, Page[models.Visit])
    first = await walk
    assert_type(first, Page[models.Visit])
    assert_type(first.items, tuple[models.Visit, ...])
    assert_type(iter(first), Iterator[models.Visit])
    assert_type(len(first), int)
    assert_type(first.offset, int)
    assert_type(first.total, int | None)
    assert_type(first.checkpoint, Checkpoint)
    assert_type(await walk.collect(), list[models.Visit])

    async with walk.run() as run:
        assert_type(run, Run[models.Visit])
        async for visit in run:
            assert_type(visit, models.Visit)
        async for page in run.pages():
            assert_type(page, Page[models.Visit])
    assert_type(run.checkpoint, Checkpoint | None)
    assert_type(run.report, Report)
    assert_type(walk.resume(Checkpoint.from_json(first.checkpoint.to_json())), Walk[models.Visit])
    assert_type(first.checkpoint.position, int)


def a_walk_of_visits_is_a_walk_of_objects(walk: Walk[models.Visit], page: Page[models.Visit]) -> None:
    _walk: Walk[object] = walk
    _page: Page[object] = page


def reports(report: Report) -> None:
    counts = (report.rows, report.pages, report.requests, report.retries)
    assert_type(counts, tuple[int, int, int, int])
    assert_type((report.total_first, report.total_last), tuple[int | None, int | None])
    assert_type((report.waited, report.on_wire, report.complete), tuple[float, float, bool])


def values(
    experience: models.ExperienceMetrics,
    user: models.UserMetrics,
    touchpoint: models.TouchpointMetrics,
    impression: models.Impression,
) -> None:
    assert_type(experience.touchpoints[0].name, str | None)
    assert_type(experience.touchpoints[0].unique_visits, int)
    assert_type(user.touchpoints[0].timestamps_utc, tuple[datetime, ...])
    assert_type(touchpoint.total_visits, int | None)
    assert_type(touchpoint.visits[0].timestamp_utc, datetime)
    assert_type(touchpoint.pagination, models.Pagination | None)
    assert_type(impression.scanned_at, datetime)
    assert_type(impression.metadata, Mapping[str, Any])


def failures(error: errors.DistinctError) -> None:
    assert_type((error.vendor, error.attempts, error.elapsed), tuple[str | None, int, float])
    assert_type(error.checkpoint, Checkpoint | None)
    if isinstance(error, errors.APIError):
        assert_type((error.status, error.message, error.body), tuple[int, str, str])
        assert_type((error.request_id, error.retry_after), tuple[str | None, float | None])
        assert_type(error.headers["retry-after"], str)
    if isinstance(error, errors.DecodeError):
        assert_type((error.paths, error.excerpt), tuple[tuple[str, ...], str])


async def fakes() -> None:
    world = World.sample(touchpoints=3, scans=100_000, users=9_000, seed=7)
    async with FakeServer(world) as fake:
        assert_type(fake, FakeServer)
        assert_type((fake.url, fake.api_key, fake.vantio_api_key), tuple[str, str, str])
