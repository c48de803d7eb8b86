"""The scans of a touchpoint, stored compactly, and everything that is computed from them on request."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs
import msgspec

# User id, time (the text that is sent), and the sequential number in the world.
ScanTuple = tuple[str, str, int]

_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0"
# Device and user agent, by the number of a scan: telephones most of all, and now and then no person, but what shows a
# preview of a link that somebody has posted, or a crawler.
_COMMON: Final = (
    ("mobile", f"{_IPHONE} Version/17.5 Mobile/15E148 Safari/604.1"),
    ("mobile", f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_CHROME} Mobile Safari/537.36"),
    ("mobile", f"{_IPHONE} Mobile/15E148 Instagram 330.0.0"),
    ("mobile", f"Mozilla/5.0 (Linux; Android 13; SM-S911B) {_CHROME} Mobile Safari/537.36"),
    ("mobile", f"{_IPHONE} Version/17.5 Mobile/15E148 Safari/604.1"),
    ("tablet", "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"),
    ("mobile", f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {_CHROME} Mobile Safari/537.36"),
    ("desktop", f"Mozilla/5.0 (X11; Linux x86_64) {_CHROME} Safari/537.36"),
)
_RARE: Final = (
    (None, "WhatsApp/2.24.11.79 A"),
    (None, "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)"),
    (None, "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"),
    (None, "WhatsApp/2.24.11.79 A"),
    (None, f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36"),
)


def device_of(number: int) -> tuple[str | None, str]:
    """Return the device, None where the vendor does not say, and the user agent of the scan with this number."""
    if number % 9 == 0:
        return _RARE[number // 9 % len(_RARE)]
    return _COMMON[(number - 1) % len(_COMMON)]


@attrs.frozen
class Scan:
    """One scan.

    Attributes:
        user_id: The user who scanned.
        at: The time of the scan, in UTC.
        impression_id: The id of the impression that the scan also creates; ignored by ``==``.
    """

    user_id: str
    at: datetime
    impression_id: str = attrs.field(default="", eq=False, repr=False)


@attrs.define(eq=False)
class Touchpoint:
    """A touchpoint and its visits, in the order in which the server lists them.

    Rows and users are computed on first use: most worlds are large, and most tests use a small part of them.
    """

    id: str
    name: str | None
    value: str | None
    experience_id: str
    visits: list[ScanTuple] = attrs.field(factory=list, init=False, repr=False)
    _rows: list[bytes] | None = attrs.field(default=None, init=False, repr=False)
    _unique_rows: list[bytes] | None = attrs.field(default=None, init=False, repr=False)
    _by_user: dict[str, list[ScanTuple]] | None = attrs.field(default=None, init=False, repr=False)

    @property
    def poster_id(self) -> str:
        """The id of the poster with this touchpoint's QR code."""
        return f"poster_{self.id}"

    @property
    def program_id(self) -> str:
        """The id of the program of this touchpoint's experience."""
        return f"prog_{self.experience_id}"

    @property
    def by_user(self) -> Mapping[str, Sequence[ScanTuple]]:
        """The visits of each user, ordered by the first position of the user in the list."""
        if self._by_user is None:
            self._by_user = {}
            for visit in self.visits:
                self._by_user.setdefault(visit[0], []).append(visit)
        return self._by_user

    @property
    def unique(self) -> Sequence[ScanTuple]:
        """The earliest visit of each user, in the order of `by_user`."""
        return [min(visits, key=time_of) for visits in self.by_user.values()]

    @property
    def rows(self) -> Sequence[bytes]:
        """The visits as JSON, so that a page is a slice and a join."""
        if self._rows is None:
            self._rows = [_row(visit) for visit in self.visits]
        return self._rows

    @property
    def unique_rows(self) -> Sequence[bytes]:
        """The unique visits as JSON."""
        if self._unique_rows is None:
            self._unique_rows = [_row(visit) for visit in self.unique]
        return self._unique_rows

    def insert(self, index: int, visit: ScanTuple) -> None:
        """Insert a visit, as `list.insert` does."""
        self.visits.insert(index, visit)
        if self._rows is not None:
            self._rows.insert(index, _row(visit))
        self._by_user = self._unique_rows = None

    def pop(self, index: int) -> ScanTuple:
        """Remove and return a visit, as `list.pop` does."""
        visit = self.visits.pop(index)
        if self._rows is not None:
            self._rows.pop(index)
        self._by_user = self._unique_rows = None
        return visit

    def impression(self, visit: ScanTuple) -> dict[str, object]:
        """Return the impression of a visit as Vantio's JSON object."""
        _, text, number = visit
        device, user_agent = device_of(number)
        return {
            "id": impression_id(visit),
            "poster_id": self.poster_id,
            "program_id": self.program_id,
            "student_id": f"user_{self.id}",
            "scanned_at": text,
            "user_agent": user_agent,
            # "If available" (the vendor's page): one in ten is null. The others are from a range for documentation.
            "ip_address": None if number % 10 == 0 else f"203.0.113.{number % 254 + 1}",
            "metadata": {**({"device_type": device} if device else {}), "location": self.value, "referrer": "direct"},
        }


def impression_id(visit: ScanTuple) -> str:
    """Return the id of the impression of a visit."""
    return f"imp_{visit[2]:06d}"


def scan_of(visit: ScanTuple) -> Scan:
    """Return a visit as a `Scan`."""
    return Scan(visit[0], time_of(visit), impression_id(visit))


def time_of(visit: ScanTuple) -> datetime:
    """Return the time of a visit, in UTC."""
    return utc(datetime.fromisoformat(visit[1]))


def utc(at: datetime) -> datetime:
    """Convert a time to UTC; a time without a zone is in UTC."""
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the time {at.isoformat()} is outside the years 1 to 9999 in UTC") from None


def _row(visit: ScanTuple) -> bytes:
    return msgspec.json.encode({"userId": visit[0], "timestampUTC": visit[1]})
