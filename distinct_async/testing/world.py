"""The world behind the fake vendors: scans go in, all that the vendors answer is computed from them."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Self

import attrs
import msgspec

from distinct_async.testing.data import Data, arguments
from distinct_async.testing.sample import OPENING, fortnight, place_name
from distinct_async.testing.scans import Scan, Touchpoint, Visit, impression_id, scan_of, time_of, utc

# Where an impression comes from: a visit, or a JSON object put there by hand.
Source = tuple[Touchpoint, Visit] | dict[str, object]


@attrs.define(eq=False)
class World:
    """An empty world, to be filled by `add_scan` and the other builders; `World.sample()` is a filled one.

    The order of a touchpoint's list is the order in which its scans were put there, and the server's order.
    Ids are free text. A world may change while a server shows it: between two requests, best in the server's thread.

    Args:
        seed: for what `grow` makes up. The same calls with the same seed make the same world.
    """

    seed: int = 7
    _dice: random.Random = attrs.field(init=False, repr=False)
    _experiences: dict[str, None] = attrs.field(factory=dict, init=False, repr=False)
    _touchpoints: dict[str, Touchpoint] = attrs.field(factory=dict, init=False, repr=False)
    _users: dict[str, None] = attrs.field(factory=dict, init=False, repr=False)
    _sources: dict[str, Source] | None = attrs.field(default=None, init=False, repr=False)
    _listings: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = attrs.field(factory=dict, init=False, repr=False)
    _made: int = attrs.field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Load the dice."""
        self._dice = random.Random(self.seed)

    @classmethod
    def sample(cls, *, touchpoints: int = 3, scans: int = 100_000, users: int = 9_000, seed: int = 7) -> Self:
        """A world of one experience, `exp-1`: two weeks with a daily rhythm, times ascending at each touchpoint.

        Args:
            touchpoints: 1 or more, `tp-1` (the busiest), `tp-2`, and so on.
            scans: 0 or more, over all touchpoints.
            users: 1 or more different people, `user-1` and so on; each scans at least once if there are scans
                enough, and some much more often than others.
            seed: the same seed makes the same world.
        """
        world = cls(seed)
        for number in range(1, touchpoints + 1):
            name = place_name(number)
            world.add_touchpoint(f"tp-{number}", name, name.lower().replace(" ", "_"))
        lists = [touchpoint.visits for touchpoint in world._touchpoints.values()]
        for made, (place, user_id, text) in enumerate(fortnight(touchpoints, scans, users, random.Random(seed)), 1):
            lists[place].append((user_id, text, made))
            world._users[user_id] = None
        world._made = scans
        return world

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """A world of what a JSON object lists, in the order of the lists.

        .. code-block:: json

            {
              "experiences": ["exp-1"],
              "touchpoints": [{"id": "tp-1", "name": "Entry Scan", "value": "entry_scan", "experience_id": "exp-1"}],
              "scans": [{"touchpoint_id": "tp-1", "user_id": "user-1", "at": "2024-01-01T10:00:00Z"}],
              "impressions": [{"id": "imp_123abc", "poster_id": "poster_123abc", "metadata": {"device_type": "mobile"}}]
            }

        Any list may be left out, and in a row whatever has a default in `add_touchpoint`, `add_scan` or
        `add_impression`. `ValueError`, with the place, for anything else.
        """
        try:
            content, world = msgspec.json.decode(data, type=Data), cls()
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None  # in older releases it is none
        for experience_id in content.experiences:
            world.add_experience(experience_id)
        for name, rows, add in (
            ("touchpoints", content.touchpoints, world.add_touchpoint),
            ("scans", content.scans, world.add_scan),
            ("impressions", content.impressions, world.add_impression),
        ):
            for index, row in enumerate(rows):
                try:
                    add(**arguments(row))
                except ValueError as error:
                    raise ValueError(f"{error} - at `$.{name}[{index}]`") from None
        return world

    # Looking.

    @property
    def experiences(self) -> tuple[str, ...]:
        """The ids of all experiences."""
        return tuple(self._experiences)

    @property
    def touchpoints(self) -> tuple[str, ...]:
        """The ids of all touchpoints."""
        return tuple(self._touchpoints)

    @property
    def users(self) -> tuple[str, ...]:
        """The ids of all users that ever scanned, in the order of their first appearance."""
        return tuple(self._users)

    @property
    def impressions(self) -> tuple[str, ...]:
        """The ids of all impressions in the order in which they were made, which is the server's."""
        return self.find_impressions()

    def touchpoint(self, touchpoint_id: str) -> Touchpoint:
        """One touchpoint with its id, name, value and experience; `KeyError` if it is unknown."""
        return self._touchpoints[touchpoint_id]

    def scans(self, touchpoint_id: str) -> tuple[Scan, ...]:
        """All scans of a touchpoint, in the server's order; `KeyError` if it is unknown."""
        return tuple(map(scan_of, self._touchpoints[touchpoint_id].visits))

    def unique_scans(self, touchpoint_id: str) -> tuple[Scan, ...]:
        """The earliest scan of each user of a touchpoint, in the server's order; `KeyError` if it is unknown."""
        return tuple(map(scan_of, self._touchpoints[touchpoint_id].unique))

    def impression(self, impression_id: str) -> dict[str, object]:
        """One impression as the JSON object that the vendor sends; `KeyError` if it is unknown."""
        source = self._known_sources()[impression_id]
        return dict(source) if isinstance(source, dict) else source[0].impression(source[1])

    def find_impressions(self, *, program_id: str | None = None, poster_id: str | None = None) -> tuple[str, ...]:
        """The ids of the impressions of a program and a poster (None: of any), in the server's order."""
        filters = {"program_id": program_id, "poster_id": poster_id}
        asked = tuple((field, wanted) for field, wanted in filters.items() if wanted is not None)
        if asked not in self._listings:
            self._listings[asked] = tuple(
                found
                for found, source in self._known_sources().items()
                if all(_owner(source, field) == wanted for field, wanted in asked)
            )
        return self._listings[asked]

    def _known_sources(self) -> dict[str, Source]:
        if self._sources is None:
            pairs = [(touchpoint, visit) for touchpoint in self._touchpoints.values() for visit in touchpoint.visits]
            pairs.sort(key=lambda pair: pair[1][2])
            self._sources = {impression_id(visit): (touchpoint, visit) for touchpoint, visit in pairs}
        return self._sources

    # Building.

    def add_experience(self, experience_id: str) -> None:
        """Make an experience known; while it has no touchpoints it answers with none."""
        self._experiences[experience_id] = None

    def add_touchpoint(
        self, touchpoint_id: str, name: str | None = None, value: str | None = None, experience_id: str = "exp-1"
    ) -> None:
        """Make a touchpoint, and its experience where that is unknown; `ValueError` if it is there already.

        Args:
            touchpoint_id: its id.
            name: its display name, `Entry Scan` say. None is sent as null.
            value: its identifier value, `entry_scan` say. None is sent as null.
            experience_id: the experience that it belongs to.
        """
        if touchpoint_id in self._touchpoints:
            raise ValueError(f"touchpoint {touchpoint_id!r} is there already")
        self.add_experience(experience_id)
        self._touchpoints[touchpoint_id] = Touchpoint(touchpoint_id, name, value, experience_id)

    def add_scan(self, touchpoint_id: str, user_id: str, at: datetime | str) -> Scan:
        """Append a scan to a touchpoint's list, whatever its time.

        Args:
            touchpoint_id: where; an unknown one is made, in `exp-1`, without name and value.
            user_id: who; an unknown one is made.
            at: when. A text goes out word for word, and is one that `datetime.fromisoformat` reads; without a zone
                it is UTC. A datetime goes out in UTC with a ``Z``.
        """
        return self._put(touchpoint_id, None, user_id, at)

    def insert(self, touchpoint_id: str, index: int, user_id: str, at: datetime | str) -> Scan:
        """Put a scan at a place in a touchpoint's list (as `list.insert` counts); else as `add_scan`."""
        return self._put(touchpoint_id, index, user_id, at)

    def _put(self, touchpoint_id: str, index: int | None, user_id: str, at: datetime | str) -> Scan:
        text = at if isinstance(at, str) else utc(at).isoformat().replace("+00:00", "Z")
        visit = (user_id, text, self._made + 1)
        scan = scan_of(visit)  # refuses a bad time before anything is changed
        if touchpoint_id not in self._touchpoints:
            self.add_touchpoint(touchpoint_id)
        touchpoint = self._touchpoints[touchpoint_id]
        touchpoint.put(len(touchpoint.visits) if index is None else index, visit)
        self._users[user_id] = None
        self._made += 1
        if self._sources is not None:
            self._sources[scan.impression_id] = (touchpoint, visit)
        self._listings.clear()
        return scan

    def remove(self, touchpoint_id: str, index: int = -1) -> Scan:
        """Take a scan, and its impression, out of a touchpoint's list (as `list.pop` counts); its user stays known."""
        scan = scan_of(self._touchpoints[touchpoint_id].take(index))
        if self._sources is not None:
            del self._sources[scan.impression_id]
        self._listings.clear()
        return scan

    def grow(self, n: int, touchpoint_id: str | None = None) -> None:
        """Append `n` scans, each up to a minute after its touchpoint's last, about one in five by a new user.

        Args:
            n: 0 or more.
            touchpoint_id: where; None spreads them over all touchpoints (`tp-1` in an empty world).
        """
        places = [touchpoint_id] if touchpoint_id is not None else list(self._touchpoints) or ["tp-1"]
        known = list(self._users)
        for _ in range(n):
            place = self._dice.choice(places)
            visits = self._touchpoints[place].visits if place in self._touchpoints else []
            last = time_of(visits[-1]) if visits else OPENING
            if not known or self._dice.random() < 0.2:
                known.append(f"user-{len(known) + 1}")
                user_id = known[-1]
            else:
                user_id = self._dice.choice(known)
            self.add_scan(place, user_id, last + timedelta(seconds=self._dice.randint(1, 60)))

    def shrink(self, n: int, touchpoint_id: str | None = None) -> None:
        """Take the last `n` scans away, or all if there are fewer.

        Args:
            n: 0 or more.
            touchpoint_id: where; None takes, each time, the latest of the touchpoints' last scans.
        """
        places = self._touchpoints.values() if touchpoint_id is None else [self._touchpoints[touchpoint_id]]
        for _ in range(n):
            filled = [touchpoint for touchpoint in places if touchpoint.visits]
            if filled:
                self.remove(max(filled, key=lambda touchpoint: time_of(touchpoint.visits[-1])).id)

    def add_impression(
        self,
        impression_id: str,
        *,
        poster_id: str = "poster_123abc",
        program_id: str = "prog_123abc",
        student_id: str = "user_123abc",
        scanned_at: str = "2024-01-15T10:30:00Z",
        user_agent: str | None = None,
        ip_address: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Make an impression that no scan yields, or replace one; all goes out word for word, None as null."""
        self._known_sources()[impression_id] = {
            "id": impression_id,
            "poster_id": poster_id,
            "program_id": program_id,
            "student_id": student_id,
            "scanned_at": scanned_at,
            "user_agent": user_agent,
            "ip_address": ip_address,
            "metadata": None if metadata is None else dict(metadata),
        }
        self._listings.clear()


def _owner(source: Source, field: str) -> object:
    # The program or poster that an impression belongs to, without making all of it.
    return source[field] if isinstance(source, dict) else getattr(source[0], field)
