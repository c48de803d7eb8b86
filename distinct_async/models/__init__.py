"""The models that calls return: frozen, slotted attrs classes, independent of HTTP.

Each field has the vendor's name in snake_case (``totalVisits`` is `total_visits`). The name in JSON is in the metadata
of the field.
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
from distinct_async.models.wire import to_dict

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
    "to_dict",
]
