"""Impressions, as Vantio documents them.

https://docs.vantio.app/api-reference/impressions/get-impression
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from distinct_async.models.wire import WireModel


@frozen
class Impression(WireModel):
    """One scan of a poster's QR code. It never changes after its creation.

    ``repr`` omits personal data: `user_agent`, `ip_address` and `metadata`.

    Attributes:
        id: The id of the impression, for example ``"imp_123abc"``.
        poster_id: The id of the poster whose code was scanned.
        program_id: The id of the program that the impression belongs to.
        student_id: The user id of the student ambassador who placed the poster.
        scanned_at: The time of the scan, in UTC.
        user_agent: The user agent of the scanning device, if the vendor has it.
        ip_address: The IP address of the scanning device, if the vendor has it; as sent, not parsed.
        metadata: Custom fields, for example ``device_type`` and ``location``; any JSON object, empty by default.

    Source: https://docs.vantio.app/api-reference/impressions/get-impression
    """

    id: str
    poster_id: str
    program_id: str
    student_id: str
    scanned_at: datetime
    user_agent: str | None = field(default=None, repr=False, metadata={"free_text": True})
    ip_address: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)
