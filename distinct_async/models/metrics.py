"""Touchpoint scanner metrics, as Distinct documents them.

https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
"""

from datetime import datetime
from typing import Literal

from attrs import field, frozen

from distinct_async.models.wire import Wired

VisitsType = Literal["TOTAL", "UNIQUE"]
"""Every scan, or the first scan of each user."""


@frozen
class Visit(Wired):
    """One scan of a touchpoint; in ``uniqueVisitsDetails`` the first scan of that user.

    The vendor gives scans no id: two by one user in one second are two equal values.
    """

    user_id: str = field(metadata={"wire": "userId"})
    timestamp_utc: datetime = field(metadata={"wire": "timestampUTC"})


@frozen
class Pagination(Wired):
    """The server's echo of ``offset`` and ``pageSize`` (which it may have cut)."""

    offset: int
    page_size: int = field(metadata={"wire": "pageSize"})


@frozen
class TouchpointSummary(Wired):
    """One touchpoint of an experience, with its totals: `name` is to be shown, `value` its identifier (``entry_scan``).

    `total_visits` counts every scan, `unique_visits` the different users.
    """

    id: str
    name: str | None = field(metadata={"free_text": True})
    value: str | None
    total_visits: int = field(metadata={"wire": "totalVisits"})
    unique_visits: int = field(metadata={"wire": "uniqueVisits"})


@frozen
class ExperienceMetrics(Wired):
    """All touchpoints of an experience.

    `total_touchpoints` is what the server declares; it is not checked against the list.
    """

    total_touchpoints: int = field(metadata={"wire": "totalTouchpoints"})
    touchpoints: tuple[TouchpointSummary, ...]


@frozen
class UserTouchpoint(Wired):
    """One user's scans at one touchpoint, in the server's order."""

    id: str
    name: str | None = field(metadata={"free_text": True})
    value: str | None
    total_visits: int = field(metadata={"wire": "totalVisits"})
    timestamps_utc: tuple[datetime, ...] = field(metadata={"wire": "timestampsUTC"})


@frozen
class UserMetrics(Wired):
    """One user's scans in an experience, by touchpoint.

    `total_touchpoints` counts the touchpoints that this user scanned; the vendor's own sample says 2 and lists 1.
    """

    total_touchpoints: int = field(metadata={"wire": "totalTouchpoints"})
    touchpoints: tuple[UserTouchpoint, ...]


@frozen
class TouchpointMetrics(Wired):
    """One touchpoint and one page of its visits.

    Of `total_visits` and `unique_visits` the one is there that the ``visits_type`` asked for; the other is None.

    The vendor nests what we call `visits` and `pagination` in ``totalVisitsDetails`` or ``uniqueVisitsDetails``; as a
    response or body of FastAPI they stand beside the others, as they do here, whichever was asked for.
    """

    id: str
    name: str | None = field(metadata={"free_text": True})
    value: str | None
    total_visits: int | None = field(metadata={"wire": "totalVisits"})
    unique_visits: int | None = field(metadata={"wire": "uniqueVisits"})
    visits: tuple[Visit, ...]
    pagination: Pagination | None = None
