"""Touchpoint scanner metrics: ``GET /v3/touchpoint/metrics``.

https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
"""

from collections.abc import Mapping
from functools import partial
from typing import TypeVar, get_args

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
from distinct_async.sansio.messages import Decoder, Request, choice, identifier, query, whole_number
from distinct_async.sansio.pages import OnDrift, Question
from distinct_async.walk import Source, Walk

T = TypeVar("T")

_PATH = "/v3/touchpoint/metrics"


_WIRE_NAMES = {"experience_id": "experienceId", "user_id": "userId", "touchpoint_id": "touchpointId"}


def _make_request(
    name: str,
    metrics_type: str,
    ids: Mapping[str, str | None],
    *,
    visits_type: VisitsType | None = None,
    page_size: int | None = None,
    offset: int | None = None,
    decoder: Decoder[T],
    check: Check,
) -> Request[T]:
    """Return the request with those parameters of the vendor's table that are given."""
    params = {"metricsType": metrics_type}
    params |= {_WIRE_NAMES[key]: value for key, value in ids.items() if value is not None}
    if visits_type is not None:
        params["visitsType"] = visits_type
    if page_size is not None:
        params["pageSize"] = str(whole_number(page_size, "page_size", 1))
    if offset is not None:
        params["offset"] = str(offset)
    user_id = ids.get("user_id")
    question = Question(f"metrics.{name}", {key: value for key, value in ids.items() if key != "user_id"})
    private = (user_id,) if user_id else ()
    return Request("distinct", str(question), _PATH, query(params), private, decoder, check)


def _check_ids(touchpoint_id: str, experience_id: str | None) -> dict[str, str | None]:
    return {
        "touchpoint_id": identifier(touchpoint_id, "touchpoint_id"),
        "experience_id": None if experience_id is None else identifier(experience_id, "experience_id"),
    }


def _visits_source(visits_type: VisitsType, touchpoint_id: str, experience_id: str | None) -> Source[Visit]:
    """Return where a walk over visits gets its pages."""
    ids = _check_ids(touchpoint_id, experience_id)
    name = "total_visits" if visits_type == "TOTAL" else "unique_visits"
    check = partial(matching.touchpoint, ids["touchpoint_id"] or "", visits_type, True)  # noqa: FBT003
    decoder = structure.VISITS[visits_type]
    base = _make_request(name, "TOUCHPOINT", ids, visits_type=visits_type, decoder=decoder, check=partial(check, 0))

    def request(offset: int, page_size: int | None) -> Request[structure.VisitsData]:
        query_text = base.query if page_size is None else f"{base.query}&pageSize={page_size}"
        if offset:
            query_text = f"{query_text}&offset={offset}"
        return Request(
            base.vendor, base.operation, base.path, query_text, base.private, decoder, partial(check, offset)
        )

    return Source(Question(f"metrics.{name}", ids), request, structure.visits_page, _identity)


def with_lean_rows(walk: Walk[Visit]) -> Walk[Visit]:
    """Return the same walk over the rows of msgspec instead of `Visit`; see `structure.visits_page`."""
    return evolve(walk, source=evolve(walk._source, read=partial(structure.visits_page, lean=True)))  # noqa: SLF001


def _identity(visit: Visit) -> str:
    """Return the values of a visit as text, for the digest in a checkpoint."""
    return f"{visit.user_id}\n{visit.timestamp_utc.isoformat()}"


@frozen(eq=False)
class Metrics:
    """``client.metrics``: who scanned which touchpoint, how often and when."""

    _engine: Engine = field(repr=False)

    async def experience(
        self, experience_id: str, *, page_size: int | None = None, offset: int = 0
    ) -> ExperienceMetrics:
        """Return all touchpoints of an experience with their totals (``metricsType=EXPERIENCE``).

        The vendor's page contradicts itself on whether this list is paged (docs/explanation/vendors.md, A1). If fewer
        touchpoints arrive than ``totalTouchpoints`` declares, the rest is requested until nothing new arrives.

        Args:
            experience_id: The id of the experience, for example ``"exp-1"``.
            page_size: Touchpoints per request, 1 or more; the server's default is 50.
            offset: Touchpoints to skip, 0 or more; above 0, only that one page is requested.

        Returns:
            The touchpoints, in the server's order.

        Raises:
            InvalidRequestError: If the id is empty or a number is out of range; nothing was sent.
            NotFoundError: If the experience does not exist.
            DistinctError: If anything else fails; see `distinct_async.errors`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        ids = {"experience_id": identifier(experience_id, "experience_id")}
        make_page_request = partial(
            _make_request,
            "experience",
            "EXPERIENCE",
            ids,
            page_size=page_size,
            decoder=structure.EXPERIENCE,
            check=matching.shape("experience"),
        )
        offset = whole_number(offset, "offset", 0)
        metrics = await self._engine.call(make_page_request(offset=offset or None))
        touchpoints: dict[str, TouchpointSummary] = {each.id: each for each in metrics.touchpoints}
        received = len(metrics.touchpoints)
        if offset or received >= metrics.total_touchpoints or not received:
            return metrics
        while received < metrics.total_touchpoints:
            try:
                next_page = await self._engine.call(make_page_request(offset=received))
            except (BadRequestError, NotFoundError):
                break  # past the end (A20)
            new_touchpoints = {each.id: each for each in next_page.touchpoints if each.id not in touchpoints}
            if not new_touchpoints:
                break  # the server ignores the offset, or has no more
            touchpoints |= new_touchpoints
            received += len(next_page.touchpoints)
        return evolve(metrics, touchpoints=tuple(touchpoints.values()))

    async def user(self, user_id: str, *, experience_id: str) -> UserMetrics:
        """Return one user's scans in an experience, by touchpoint, with their times (``metricsType=USER``).

        Args:
            user_id: The id of the user, for example ``"user-1"``: the value of the user's QR code. It is sent in the
                query and kept out of logs and errors.
            experience_id: The id of the experience.

        Returns:
            The touchpoints that the user scanned, in the server's order.

        Raises:
            InvalidRequestError: If an id is empty; nothing was sent.
            NotFoundError: If the user or the experience does not exist. A user without scans may be an empty list or
                this error (docs/explanation/vendors.md, A9).
            DistinctError: If anything else fails; see `distinct_async.errors`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        ids = {"experience_id": identifier(experience_id, "experience_id"), "user_id": identifier(user_id, "user_id")}
        return await self._engine.call(
            _make_request("user", "USER", ids, decoder=structure.USER, check=matching.shape("user"))
        )

    async def touchpoint(
        self,
        touchpoint_id: str,
        *,
        visits_type: VisitsType = "TOTAL",
        experience_id: str | None = None,
        page_size: int | None = None,
        offset: int | None = None,
    ) -> TouchpointMetrics:
        """Return one touchpoint with its total and one page of its visits (``metricsType=TOUCHPOINT``).

        For all visits, use `total_visits` or `unique_visits`.

        Args:
            touchpoint_id: The id of the touchpoint, for example ``"tp-1"``.
            visits_type: ``"TOTAL"`` for every scan, ``"UNIQUE"`` for the first scan of each user.
            experience_id: The id of its experience. It is sent unchanged; its effect is not documented.
            page_size: Visits in the response, 1 or more; the server's default is 50.
            offset: Visits to skip, 0 or more.

        Returns:
            The touchpoint and the page.

        Raises:
            InvalidRequestError: If an id is empty, the visits type is unknown or a number is out of range; nothing was
                sent.
            NotFoundError: If the touchpoint does not exist.
            DistinctError: If anything else fails; see `distinct_async.errors`.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        visits_type = choice(visits_type, "visits_type", get_args(VisitsType))
        ids = _check_ids(touchpoint_id, experience_id)
        if offset is not None:
            offset = whole_number(offset, "offset", 0)
        request = _make_request(
            "touchpoint",
            "TOUCHPOINT",
            ids,
            visits_type=visits_type,
            page_size=page_size,
            offset=offset,
            decoder=structure.TOUCHPOINT[visits_type],
            check=partial(matching.touchpoint, ids["touchpoint_id"] or "", visits_type, False, offset or 0),  # noqa: FBT003
        )
        return structure.touchpoint(await self._engine.call(request), visits_type)

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
        last: int | None = None,
    ) -> Walk[Visit]:
        """Return a walk over every scan of a touchpoint (``totalVisitsDetails``).

        Args:
            touchpoint_id: The id of the touchpoint, for example ``"tp-1"``.
            experience_id: The id of its experience. It is sent unchanged; its effect is not documented.
            page_size: Visits per request, 1 or more. The server's default is 50. If it caps a larger number, no row
                is lost.
            offset: Visits to skip, 0 or more.
            limit: The maximum number of visits, 0 or more; None for all.
            prefetch: Pages requested ahead, 1 or more, at most `max_concurrency`; with 1, each page is requested when
                the previous one has been handled.
            on_drift: ``"raise"`` raises `DriftError` if rows may have moved; ``"warn"`` issues `DriftWarning` instead.
            last: The last so many visits, 1 or more, in the server's order; None for all. One more request asks for the
                total first. Not together with `offset`.

        Returns:
            The walk; nothing is sent yet. Iterating it raises what a request can raise, and `PaginationError` if it
            cannot guarantee that no row is skipped or repeated.

        Raises:
            InvalidRequestError: If an id is empty, a number is out of range, or both `last` and `offset` are given; at
                once.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        source = _visits_source("TOTAL", touchpoint_id, experience_id)
        return Walk(self._engine, source, page_size, offset, limit, prefetch, on_drift, last)

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
        last: int | None = None,
    ) -> Walk[Visit]:
        """Return a walk over the first scan of each user at a touchpoint (``uniqueVisitsDetails``).

        Args:
            touchpoint_id: The id of the touchpoint, for example ``"tp-1"``.
            experience_id: The id of its experience. It is sent unchanged; its effect is not documented.
            page_size: Visits per request, 1 or more. The server's default is 50. If it caps a larger number, no row
                is lost.
            offset: Visits to skip, 0 or more.
            limit: The maximum number of visits, 0 or more; None for all.
            prefetch: Pages requested ahead, 1 or more, at most `max_concurrency`; with 1, each page is requested when
                the previous one has been handled.
            on_drift: ``"raise"`` raises `DriftError` if rows may have moved; ``"warn"`` issues `DriftWarning` instead.
            last: The last so many visits, 1 or more, in the server's order; None for all. One more request asks for the
                total first. Not together with `offset`.

        Returns:
            The walk; nothing is sent yet. Iterating it raises what a request can raise, and `PaginationError` if it
            cannot guarantee that no row is skipped or repeated.

        Raises:
            InvalidRequestError: If an id is empty, a number is out of range, or both `last` and `offset` are given; at
                once.

        Source: https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
        """
        source = _visits_source("UNIQUE", touchpoint_id, experience_id)
        return Walk(self._engine, source, page_size, offset, limit, prefetch, on_drift, last)
