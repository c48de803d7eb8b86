"""Touchpoint scanner metrics, as Distinct documents them.

https://docs.distinct.so/docs/touchpoint-scanner-metrics-api
"""

from datetime import datetime
from typing import Literal

from attrs import field, frozen

from distinct_async.models.wire import WireModel
from distinct_async.notebook import table

VisitsType = Literal["TOTAL", "UNIQUE"]
"""``"TOTAL"``: every scan; ``"UNIQUE"``: the first scan of each user."""


@frozen
class Visit(WireModel):
    """One scan at a touchpoint; among unique visits, the first scan of that user.

    Visits have no id: two scans by one user in the same second are equal.

    Attributes:
        user_id: The id of the user who scanned.
        timestamp_utc: The time of the scan, in UTC.
    """

    user_id: str = field(metadata={"wire": "userId"})
    timestamp_utc: datetime = field(metadata={"wire": "timestampUTC"})


@frozen
class Pagination(WireModel):
    """The offset and page size that the server reports for a page.

    Attributes:
        offset: The number of visits before the page.
        page_size: The page size, which may be smaller than the requested one.
    """

    offset: int
    page_size: int = field(metadata={"wire": "pageSize"})


@frozen
class TouchpointSummary(WireModel):
    """One touchpoint of an experience, with its totals.

    Attributes:
        id: The id of the touchpoint, for example ``"tp-1"``.
        name: The display name, for example ``"Entry Scan"``.
        value: The identifier value, for example ``"entry_scan"``.
        total_visits: The number of scans.
        unique_visits: The number of different users.
    """

    id: str
    name: str | None = field(metadata={"free_text": True})
    value: str | None
    total_visits: int = field(metadata={"wire": "totalVisits"})
    unique_visits: int = field(metadata={"wire": "uniqueVisits"})


@frozen
class ExperienceMetrics(WireModel):
    """All touchpoints of an experience.

    Attributes:
        total_touchpoints: The number of touchpoints as the server declares it; not checked against `touchpoints`.
        touchpoints: The touchpoints, in the server's order.
    """

    total_touchpoints: int = field(metadata={"wire": "totalTouchpoints"})
    touchpoints: tuple[TouchpointSummary, ...]

    def _repr_html_(self) -> str:
        caption = f"{len(self.touchpoints)} of {self.total_touchpoints} touchpoints"
        heads = ("id", "name", "value", "total_visits", "unique_visits")
        return table(caption, heads, ([getattr(each, head) for head in heads] for each in self.touchpoints))


@frozen
class UserTouchpoint(WireModel):
    """One user's scans at one touchpoint.

    Attributes:
        id: The id of the touchpoint.
        name: The display name of the touchpoint.
        value: The identifier value of the touchpoint.
        total_visits: The number of scans by this user.
        timestamps_utc: The times of the scans, in UTC and in the server's order.
    """

    id: str
    name: str | None = field(metadata={"free_text": True})
    value: str | None
    total_visits: int = field(metadata={"wire": "totalVisits"})
    timestamps_utc: tuple[datetime, ...] = field(metadata={"wire": "timestampsUTC"})


@frozen
class UserMetrics(WireModel):
    """One user's scans in an experience, by touchpoint.

    Attributes:
        total_touchpoints: The number of touchpoints that this user scanned, as the server declares it; not checked
            against `touchpoints` (docs/explanation/vendors.md, A2).
        touchpoints: The touchpoints, in the server's order.
    """

    total_touchpoints: int = field(metadata={"wire": "totalTouchpoints"})
    touchpoints: tuple[UserTouchpoint, ...]


@frozen
class TouchpointMetrics(WireModel):
    """One touchpoint and one page of its visits.

    The vendor nests `visits` and `pagination` in ``totalVisitsDetails`` or ``uniqueVisitsDetails``. Here, and as a
    response or body of FastAPI, they are beside the other fields.

    Attributes:
        id: The id of the touchpoint.
        name: The display name, for example ``"Entry Scan"``.
        value: The identifier value, for example ``"entry_scan"``.
        total_visits: The number of scans; None if unique visits were requested.
        unique_visits: The number of different users; None if all visits were requested.
        visits: The visits of this page, in the server's order.
        pagination: The offset and page size that the server reports, if it does.
    """

    id: str
    name: str | None = field(metadata={"free_text": True})
    value: str | None
    total_visits: int | None = field(metadata={"wire": "totalVisits"})
    unique_visits: int | None = field(metadata={"wire": "uniqueVisits"})
    visits: tuple[Visit, ...]
    pagination: Pagination | None = None
