"""The values this library gives you: frozen, slotted attrs classes that know nothing of HTTP.

Each field is the vendor's word in snake_case (``totalVisits`` is `total_visits`); the wire name itself stands once, in
the field's metadata.
"""

from distinct_async.models.impressions import Impression
from distinct_async.models.metrics import (
    ExperienceMetrics,
    Pagination,
    TouchpointMetrics,
    TouchpointSummary,
    UserMetrics,
    UserTouchpoint,
    Visit,
    VisitsType,
)

__all__ = [
    "ExperienceMetrics",
    "Impression",
    "Pagination",
    "TouchpointMetrics",
    "TouchpointSummary",
    "UserMetrics",
    "UserTouchpoint",
    "Visit",
    "VisitsType",
]
