"""Impressions, as Vantio documents them.

https://docs.vantio.app/api-reference/impressions/get-impression
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from distinct_async.models.wire import Wired


@frozen
class Impression(Wired):
    """One scan of a poster's QR code; it never changes after its creation.

    `student_id` is the student ambassador who placed the poster, a user id of the vendor's. Personal data
    (`user_agent`, `ip_address`, `metadata`) is in no ``repr``.
    """

    id: str
    poster_id: str
    program_id: str
    student_id: str
    scanned_at: datetime
    user_agent: str | None = field(default=None, repr=False, metadata={"free_text": True})
    ip_address: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)
