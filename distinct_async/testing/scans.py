"""Scans at a touchpoint, as bare as they can be held, and what is made of them when somebody asks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import attrs
import msgspec

# Who, when (the text that goes out), and the running number in the world.
Visit = tuple[str, str, int]

DEVICES: Final = (
    ("mobile", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15"),
    ("mobile", "Mozilla/5.0 (Android 13; Mobile)"),
    ("tablet", "Mozilla/5.0 (iPad; CPU OS 17_0 like Mac OS X) AppleWebKit/605.1.15"),
    ("desktop", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
)


@attrs.frozen
class Scan:
    """One scan: who and when, in UTC. `impression_id`, the impression that it also yields, does not count in `==`."""

    user_id: str
    at: datetime
    impression_id: str = attrs.field(default="", eq=False, repr=False)


@attrs.define(eq=False)
class Touchpoint:
    """A touchpoint and its visits, in the order in which the server lists them.

    Rows and users are worked out when first asked for: most worlds are large, most tests look at a small part.
    """

    id: str
    name: str | None
    value: str | None
    experience_id: str
    visits: list[Visit] = attrs.field(factory=list, init=False, repr=False)
    _rows: list[bytes] | None = attrs.field(default=None, init=False, repr=False)
    _unique_rows: list[bytes] | None = attrs.field(default=None, init=False, repr=False)
    _by_user: dict[str, list[Visit]] | None = attrs.field(default=None, init=False, repr=False)

    @property
    def poster_id(self) -> str:
        """The poster that carries this touchpoint's QR code."""
        return f"poster_{self.id}"

    @property
    def program_id(self) -> str:
        """The program of this touchpoint's experience."""
        return f"prog_{self.experience_id}"

    @property
    def by_user(self) -> Mapping[str, Sequence[Visit]]:
        """The visits of each user, users in the order in which the list first names them."""
        if self._by_user is None:
            self._by_user = {}
            for visit in self.visits:
                self._by_user.setdefault(visit[0], []).append(visit)
        return self._by_user

    @property
    def unique(self) -> Sequence[Visit]:
        """The earliest visit of each user, in the order of `by_user`."""
        return [min(visits, key=time_of) for visits in self.by_user.values()]

    @property
    def rows(self) -> Sequence[bytes]:
        """The visits as the vendor writes them, so that a page is a slice and a join."""
        if self._rows is None:
            self._rows = [_row(visit) for visit in self.visits]
        return self._rows

    @property
    def unique_rows(self) -> Sequence[bytes]:
        """The unique visits as the vendor writes them."""
        if self._unique_rows is None:
            self._unique_rows = [_row(visit) for visit in self.unique]
        return self._unique_rows

    def put(self, index: int, visit: Visit) -> None:
        """Place a visit in the list, as `list.insert` does."""
        self.visits.insert(index, visit)
        if self._rows is not None:
            self._rows.insert(index, _row(visit))
        self._by_user = self._unique_rows = None

    def take(self, index: int) -> Visit:
        """Take a visit out of the list, as `list.pop` does."""
        visit = self.visits.pop(index)
        if self._rows is not None:
            self._rows.pop(index)
        self._by_user = self._unique_rows = None
        return visit

    def impression(self, visit: Visit) -> dict[str, object]:
        """The impression that a visit yields, as Vantio's JSON object."""
        _, text, number = visit
        device, user_agent = DEVICES[number % len(DEVICES)]
        return {
            "id": impression_id(visit),
            "poster_id": self.poster_id,
            "program_id": self.program_id,
            "student_id": f"user_{self.id}",
            "scanned_at": text,
            "user_agent": user_agent,
            # "If available", says the vendor: one in ten is not. The others lie in a range kept for documentation.
            "ip_address": None if number % 10 == 0 else f"203.0.113.{number % 254 + 1}",
            "metadata": {"device_type": device, "location": self.value, "referrer": "direct"},
        }


def impression_id(visit: Visit) -> str:
    """The id of the impression that a visit yields."""
    return f"imp_{visit[2]:06d}"


def scan_of(visit: Visit) -> Scan:
    """A visit as tests like to see it."""
    return Scan(visit[0], time_of(visit), impression_id(visit))


def time_of(visit: Visit) -> datetime:
    """The time of a visit, in UTC."""
    return utc(datetime.fromisoformat(visit[1]))


def utc(at: datetime) -> datetime:
    """A time in UTC; one without a zone is taken to be."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _row(visit: Visit) -> bytes:
    return msgspec.json.encode({"userId": visit[0], "timestampUTC": visit[1]})
