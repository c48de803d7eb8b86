"""Touchpoint scanner metrics: ``GET /v3/touchpoint/metrics``.

https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
"""

from collections.abc import Mapping
from functools import partial
from typing import get_args

from attrs import evolve, field, frozen

from distinct_async import structure
from distinct_async.engine import Engine
from distinct_async.errors import BadRequestError, NotFoundError
from distinct_async.models import (
    ExperienceMetrics,
    TouchpointMetrics,
    TouchpointSummary,
    UserMetrics,
    Visit,
    VisitsType,
)
from distinct_async.sansio import matching
from distinct_async.sansio.matching import Check
from distinct_async.sansio.messages import Request, choice, identifier, query, whole_number
from distinct_async.sansio.pages import OnDrift, Question
from distinct_async.shapes import VISITS_READERS
from distinct_async.walk import Source, Walk

_PATH = "/v3/touchpoint/metrics"


_WIRE_NAMES = {"experience_id": "experienceId", "user_id": "userId", "touchpoint_id": "touchpointId"}


def _request(
    name: str,
    metrics_type: str,
    ids: Mapping[str, str | None],
    *,
    visits_type: VisitsType | None = None,
    page_size: int | None = None,
    offset: int | None = None,
    check: Check,
) -> Request:
    """The one endpoint's GET: only what the vendor's table lists, and only what was asked for."""
    params = {"metricsType": metrics_type}
    for key, value in ids.items():
        if value is not None:
            params[_WIRE_NAMES[key]] = identifier(value, key)
    if visits_type is not None:
        params["visitsType"] = visits_type
    if page_size is not None:
        params["pageSize"] = str(whole_number(page_size, "page_size", 1))
    if offset is not None:
        params["offset"] = str(whole_number(offset, "offset", 0))
    user_id = ids.get("user_id")
    shown = Question(f"metrics.{name}", {key: value for key, value in ids.items() if key != "user_id"})
    private = (user_id,) if user_id else ()
    quick = VISITS_READERS[visits_type] if visits_type is not None else None
    return Request("distinct", str(shown), _PATH, query(params), private, quick, check)


def _touchpoint_ids(touchpoint_id: str, experience_id: str | None) -> dict[str, str | None]:
    return {
        "touchpoint_id": identifier(touchpoint_id, "touchpoint_id"),
        "experience_id": None if experience_id is None else identifier(experience_id, "experience_id"),
    }


def _visits(name: str, visits_type: VisitsType, ids: dict[str, str | None]) -> Source[Visit]:
    check = partial(matching.touchpoint, ids["touchpoint_id"] or "", visits_type, walk=True)
    every = _request(name, "TOUCHPOINT", ids, visits_type=visits_type, check=check(0))

    def request(offset: int, page_size: int | None) -> Request:
        asked = every.query if page_size is None else f"{every.query}&pageSize={page_size}"
        if offset:
            asked = f"{asked}&offset={whole_number(offset, 'offset', 0)}"
        return Request(every.vendor, every.operation, every.path, asked, every.private, every.quick, check(offset))

    read = partial(structure.visits, visits_type=visits_type)
    return Source(Question(f"metrics.{name}", ids), request, read, _identity)


def _identity(visit: Visit) -> str:
    """A visit's values, as a checkpoint's digest takes them."""
    return f"{visit.user_id}\n{visit.timestamp_utc.isoformat()}"


@frozen(eq=False)
class Metrics:
    """``client.metrics``: who scanned which touchpoint, how often and when."""

    _engine: Engine = field(repr=False)

    async def experience(
        self, experience_id: str, *, page_size: int | None = None, offset: int = 0
    ) -> ExperienceMetrics:
        """All touchpoints of an experience, each with its totals (``metricsType=EXPERIENCE``).

        The vendor's page contradicts itself on whether this answer is paged. Where fewer touchpoints come than
        ``totalTouchpoints`` declares, the rest is asked for until nothing new comes.

        :param page_size: touchpoints per request, 1 or more; the server's default is 50.
        :param offset: touchpoints to skip; other than 0, only that one page is asked for.
        :raises InvalidRequestError: for an empty id or a page size below 1; nothing was sent.
        :raises NotFoundError: where the experience does not exist.
        :raises DistinctError: for whatever else can go wrong; see `distinct_async.errors`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        ids = {"experience_id": identifier(experience_id, "experience_id")}
        page = partial(
            _request, "experience", "EXPERIENCE", ids, page_size=page_size, check=matching.shape("experience")
        )
        offset = whole_number(offset, "offset", 0)
        metrics = await self._engine.call(page(offset=offset or None), structure.experience)
        found: dict[str, TouchpointSummary] = {each.id: each for each in metrics.touchpoints}
        received = len(metrics.touchpoints)
        if offset or received >= metrics.total_touchpoints or not received:
            return metrics
        while received < metrics.total_touchpoints:
            try:
                more = await self._engine.call(page(offset=received), structure.experience)
            except (BadRequestError, NotFoundError):
                break  # past the end; what a server says there is not documented
            new = {each.id: each for each in more.touchpoints if each.id not in found}
            if not new:
                break  # the server ignores the offset, or has no more
            found |= new
            received += len(more.touchpoints)
        return evolve(metrics, touchpoints=tuple(found.values()))

    async def user(self, user_id: str, *, experience_id: str) -> UserMetrics:
        """One user's scans in an experience, by touchpoint, with all their times (``metricsType=USER``).

        :raises InvalidRequestError: for an empty id; nothing was sent.
        :raises NotFoundError: where the user or the experience does not exist. Whether a user without scans here is an
            empty list or a 404 is not documented; both happen.
        :raises DistinctError: for whatever else can go wrong; see `distinct_async.errors`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        ids = {"experience_id": identifier(experience_id, "experience_id"), "user_id": identifier(user_id, "user_id")}
        return await self._engine.call(_request("user", "USER", ids, check=matching.shape("user")), structure.user)

    async def touchpoint(
        self,
        touchpoint_id: str,
        *,
        visits_type: VisitsType = "TOTAL",
        experience_id: str | None = None,
        page_size: int | None = None,
        offset: int | None = None,
    ) -> TouchpointMetrics:
        """One touchpoint with its total, and one page of its visits (``metricsType=TOUCHPOINT``).

        For all visits, use `total_visits` or `unique_visits`.

        :param visits_type: ``"TOTAL"``: every scan; ``"UNIQUE"``: the first scan of each user.
        :param experience_id: sent as it is; what it does here is not documented.
        :param page_size: visits in the answer, 1 or more; the server's default is 50.
        :param offset: visits to skip, 0 or more.
        :raises InvalidRequestError: for an empty id, another visits type, a page size below 1; nothing was sent.
        :raises NotFoundError: where the touchpoint does not exist.
        :raises DistinctError: for whatever else can go wrong; see `distinct_async.errors`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        visits_type = choice(visits_type, "visits_type", get_args(VisitsType))
        ids = _touchpoint_ids(touchpoint_id, experience_id)
        request = _request(
            "touchpoint",
            "TOUCHPOINT",
            ids,
            visits_type=visits_type,
            page_size=page_size,
            offset=offset,
            check=matching.touchpoint(ids["touchpoint_id"] or "", visits_type, offset or 0, walk=False),
        )
        return await self._engine.call(request, partial(structure.touchpoint, visits_type=visits_type))

    def total_visits(
        self,
        touchpoint_id: str,
        *,
        experience_id: str | None = None,
        page_size: int | None = None,
        offset: int = 0,
        limit: int | None = None,
        prefetch: int = 4,
        on_drift: OnDrift = "raise",
    ) -> Walk[Visit]:
        """Every scan of a touchpoint, page by page: a walk over ``totalVisitsDetails``.

        :param experience_id: sent as it is; what it does here is not documented.
        :param page_size: visits per request, 1 or more; the server's default is 50, its maximum is not documented.
        :param offset: visits to skip, 0 or more.
        :param limit: visits in all, 0 or more; None for all of them.
        :param prefetch: pages asked ahead, 1 or more, at most `max_concurrency`; 1 asks only when you want more.
        :param on_drift: ``"warn"`` turns a `DriftError` into a `DriftWarning`, and goes on.
        :raises InvalidRequestError: for an empty id or numbers out of range; at once.

        Iterating raises what a request can raise, and `PaginationError` where the walk cannot go on honestly.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        source = _visits("total_visits", "TOTAL", _touchpoint_ids(touchpoint_id, experience_id))
        return Walk(self._engine, source, page_size, offset, limit, prefetch, on_drift)

    def unique_visits(
        self,
        touchpoint_id: str,
        *,
        experience_id: str | None = None,
        page_size: int | None = None,
        offset: int = 0,
        limit: int | None = None,
        prefetch: int = 4,
        on_drift: OnDrift = "raise",
    ) -> Walk[Visit]:
        """The first scan of each user at a touchpoint: a walk over ``uniqueVisitsDetails``.

        All arguments and errors are those of `total_visits`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        source = _visits("unique_visits", "UNIQUE", _touchpoint_ids(touchpoint_id, experience_id))
        return Walk(self._engine, source, page_size, offset, limit, prefetch, on_drift)
