"""The data behind the fake vendors: all their responses are computed from its scans."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Self

import attrs
import msgspec

from distinct_async.testing.data import WorldData, arguments
from distinct_async.testing.sample import OPENING, fortnight, place_name
from distinct_async.testing.scans import Scan, ScanTuple, Touchpoint, impression_id, scan_of, time_of, utc

# The origin of an impression: a visit, or a JSON object of `add_impression`.
ImpressionSource = tuple[Touchpoint, ScanTuple] | dict[str, object]


@attrs.define(eq=False)
class World:
    """The data of the fake vendors. A new world is empty; `World.sample` returns a filled one.

    A touchpoint lists its scans in the order in which they were added, and so does the server. Ids are any text. A
    world can be changed while a server runs, between two requests; preferably in the server's thread.

    Args:
        seed: The seed of the random numbers of `grow`. The same calls with the same seed create the same world.
    """

    seed: int = 7
    _random: random.Random = attrs.field(init=False, repr=False)
    _experiences: dict[str, None] = attrs.field(factory=dict, init=False, repr=False)
    _touchpoints: dict[str, Touchpoint] = attrs.field(factory=dict, init=False, repr=False)
    _users: dict[str, None] = attrs.field(factory=dict, init=False, repr=False)
    _sources: dict[str, ImpressionSource] | None = attrs.field(default=None, init=False, repr=False)
    _listings: dict[tuple[tuple[str, str], ...], tuple[str, ...]] = attrs.field(factory=dict, init=False, repr=False)
    _made: int = attrs.field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Seed the random numbers."""
        self._random = random.Random(self.seed)

    @classmethod
    def sample(
        cls, *, touchpoints: int = 3, scans: int = 100_000, users: int = 9_000, seed: int = 7, experiences: int = 1
    ) -> Self:
        """Create a world of two weeks with a daily rhythm, in ascending order of time.

        Args:
            touchpoints: The number of touchpoints, 1 or more: ``tp-1`` (the busiest), ``tp-2`` and so on.
            scans: The number of scans over all touchpoints, 0 or more.
            users: The number of users, 1 or more: ``user-1`` and so on. Each scans at least once if there are enough
                scans, and some much more often than others.
            seed: The seed of the random numbers; the same seed creates the same world.
            experiences: The number of experiences, 1 or more: ``exp-1``, ``exp-2`` and so on. They have the
                touchpoints by turns.

        Returns:
            The world.
        """
        world = cls(seed)
        for number in range(experiences):
            world.add_experience(f"exp-{number + 1}")
        for number in range(touchpoints):
            name, experience_id = place_name(number + 1), f"exp-{number % experiences + 1}"
            world.add_touchpoint(f"tp-{number + 1}", name, name.lower().replace(" ", "_"), experience_id)
        lists = [touchpoint.visits for touchpoint in world._touchpoints.values()]
        for made, (place, user_id, text) in enumerate(fortnight(touchpoints, scans, users, random.Random(seed)), 1):
            lists[place].append((user_id, text, made))
            world._users[user_id] = None
        world._made = scans
        return world

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Create a world from a JSON object with up to four lists, which are read in this order.

        .. code-block:: json

            {
              "experiences": ["exp-1"],
              "touchpoints": [{"id": "tp-1", "name": "Entry Scan", "value": "entry_scan", "experience_id": "exp-1"}],
              "scans": [{"touchpoint_id": "tp-1", "user_id": "user-1", "at": "2024-01-01T10:00:00Z"}],
              "impressions": [{"id": "imp_123abc", "poster_id": "poster_123abc", "metadata": {"device_type": "mobile"}}]
            }

        All lists are optional. The keys of a row are the arguments of `add_touchpoint`, `add_scan` or `add_impression`
        (with ``id`` for the id); those with a default are optional.

        Args:
            data: The JSON text.

        Returns:
            The world.

        Raises:
            ValueError: If the text is not JSON of this form, or a time is invalid; with the location.
        """
        try:
            content, world = msgspec.json.decode(data, type=WorldData), cls()
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None  # MsgspecError is not a ValueError
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

    # Reading.

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
        """The ids of all users that ever scanned, in the order of their first scan."""
        return tuple(self._users)

    @property
    def impressions(self) -> tuple[str, ...]:
        """The ids of all impressions, in the server's order."""
        return self.find_impressions()

    def touchpoint(self, touchpoint_id: str) -> Touchpoint:
        """Return a touchpoint with its id, name, value and experience.

        Args:
            touchpoint_id: The id of the touchpoint.

        Returns:
            The touchpoint.

        Raises:
            KeyError: If there is no such touchpoint.
        """
        return self._touchpoints[touchpoint_id]

    def scans(self, touchpoint_id: str) -> tuple[Scan, ...]:
        """Return all scans of a touchpoint.

        Args:
            touchpoint_id: The id of the touchpoint.

        Returns:
            The scans, in the server's order.

        Raises:
            KeyError: If there is no such touchpoint.
        """
        return tuple(map(scan_of, self._touchpoints[touchpoint_id].visits))

    def unique_scans(self, touchpoint_id: str) -> tuple[Scan, ...]:
        """Return the earliest scan of each user at a touchpoint.

        Args:
            touchpoint_id: The id of the touchpoint.

        Returns:
            The scans, in the server's order.

        Raises:
            KeyError: If there is no such touchpoint.
        """
        return tuple(map(scan_of, self._touchpoints[touchpoint_id].unique))

    def impression(self, impression_id: str) -> dict[str, object]:
        """Return an impression as the JSON object that the vendor sends.

        Args:
            impression_id: The id of the impression.

        Returns:
            The object; a new copy for each call.

        Raises:
            KeyError: If there is no such impression.
        """
        source = self._known_sources()[impression_id]
        return dict(source) if isinstance(source, dict) else source[0].impression(source[1])

    def find_impressions(self, *, program_id: str | None = None, poster_id: str | None = None) -> tuple[str, ...]:
        """Return the ids of the impressions of a program and a poster.

        Args:
            program_id: The id of the program; by default any program.
            poster_id: The id of the poster; by default any poster.

        Returns:
            The ids, in the server's order.
        """
        filters = {"program_id": program_id, "poster_id": poster_id}
        given = tuple((field, wanted) for field, wanted in filters.items() if wanted is not None)
        if given not in self._listings:
            self._listings[given] = tuple(
                found
                for found, source in self._known_sources().items()
                if all(_owner(source, field) == wanted for field, wanted in given)
            )
        return self._listings[given]

    def _known_sources(self) -> dict[str, ImpressionSource]:
        if self._sources is None:
            pairs = [(touchpoint, visit) for touchpoint in self._touchpoints.values() for visit in touchpoint.visits]
            pairs.sort(key=lambda pair: pair[1][2])
            self._sources = {impression_id(visit): (touchpoint, visit) for touchpoint, visit in pairs}
        return self._sources

    # Changing.

    def add_experience(self, experience_id: str) -> None:
        """Add an experience, without touchpoints. An existing one is not changed.

        Args:
            experience_id: The id of the experience.
        """
        self._experiences[experience_id] = None

    def add_touchpoint(
        self, touchpoint_id: str, name: str | None = None, value: str | None = None, experience_id: str = "exp-1"
    ) -> None:
        """Add a touchpoint, and its experience if it does not exist.

        Args:
            touchpoint_id: The id of the touchpoint.
            name: The display name, for example ``"Entry Scan"``; None is sent as null.
            value: The identifier value, for example ``"entry_scan"``; None is sent as null.
            experience_id: The id of the experience it belongs to.

        Raises:
            ValueError: If the touchpoint exists.
        """
        if touchpoint_id in self._touchpoints:
            raise ValueError(f"touchpoint {touchpoint_id!r} already exists")
        self.add_experience(experience_id)
        self._touchpoints[touchpoint_id] = Touchpoint(touchpoint_id, name, value, experience_id)

    def add_scan(self, touchpoint_id: str, user_id: str, at: datetime | str) -> Scan:
        """Append a scan to a touchpoint's list, whatever its time.

        Args:
            touchpoint_id: The id of the touchpoint; if it does not exist, it is created in ``exp-1`` without a name.
            user_id: The id of the user; it need not exist.
            at: The time. A text is sent verbatim and must be valid for `datetime.fromisoformat`; without a zone it is
                UTC. A datetime is sent in UTC with a ``Z``.

        Returns:
            The scan.

        Raises:
            ValueError: If the time is invalid.
        """
        return self._insert(touchpoint_id, None, user_id, at)

    def insert(self, touchpoint_id: str, index: int, user_id: str, at: datetime | str) -> Scan:
        """Insert a scan into a touchpoint's list.

        Args:
            touchpoint_id: The id of the touchpoint; see `add_scan`.
            index: The position, as for `list.insert`.
            user_id: The id of the user.
            at: The time; see `add_scan`.

        Returns:
            The scan.

        Raises:
            ValueError: If the time is invalid.
        """
        return self._insert(touchpoint_id, index, user_id, at)

    def _insert(self, touchpoint_id: str, index: int | None, user_id: str, at: datetime | str) -> Scan:
        text = at if isinstance(at, str) else utc(at).isoformat().replace("+00:00", "Z")
        visit = (user_id, text, self._made + 1)
        scan = scan_of(visit)  # raises for an invalid time before anything is changed
        if touchpoint_id not in self._touchpoints:
            self.add_touchpoint(touchpoint_id)
        touchpoint = self._touchpoints[touchpoint_id]
        touchpoint.insert(len(touchpoint.visits) if index is None else index, visit)
        self._users[user_id] = None
        self._made += 1
        if self._sources is not None:
            self._sources[scan.impression_id] = (touchpoint, visit)
        self._listings.clear()
        return scan

    def remove(self, touchpoint_id: str, index: int = -1) -> Scan:
        """Remove a scan and its impression from a touchpoint's list; its user still exists.

        Args:
            touchpoint_id: The id of the touchpoint.
            index: The position, as for `list.pop`; by default the last.

        Returns:
            The removed scan.

        Raises:
            KeyError: If there is no such touchpoint.
            IndexError: If there is no such position.
        """
        scan = scan_of(self._touchpoints[touchpoint_id].pop(index))
        if self._sources is not None:
            del self._sources[scan.impression_id]
        self._listings.clear()
        return scan

    def grow(self, n: int, touchpoint_id: str | None = None) -> None:
        """Append scans, each up to a minute after the last one of its touchpoint, about one in five by a new user.

        Args:
            n: The number of scans, 0 or more.
            touchpoint_id: The id of the touchpoint; None spreads them over all (``tp-1`` in an empty world).
        """
        places = [touchpoint_id] if touchpoint_id is not None else list(self._touchpoints) or ["tp-1"]
        known = list(self._users)
        for _ in range(n):
            place = self._random.choice(places)
            visits = self._touchpoints[place].visits if place in self._touchpoints else []
            last = time_of(visits[-1]) if visits else OPENING
            if not known or self._random.random() < 0.2:
                known.append(f"user-{len(known) + 1}")
                user_id = known[-1]
            else:
                user_id = self._random.choice(known)
            self.add_scan(place, user_id, last + timedelta(seconds=self._random.randint(1, 60)))

    def shrink(self, n: int, touchpoint_id: str | None = None) -> None:
        """Remove the last scans, or all if there are fewer.

        Args:
            n: The number of scans, 0 or more.
            touchpoint_id: The id of the touchpoint; None removes, each time, the latest of the last scans of all.
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
        """Add an impression without a scan, or replace one. All values are sent verbatim, None as null.

        Args:
            impression_id: The id of the impression.
            poster_id: The id of its poster.
            program_id: The id of its program.
            student_id: The id of the student ambassador.
            scanned_at: The time of the scan.
            user_agent: The user agent of the device.
            ip_address: The IP address of the device.
            metadata: A JSON object.
        """
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


def _owner(source: ImpressionSource, field: str) -> object:
    # Without building the whole impression
    return source[field] if isinstance(source, dict) else getattr(source[0], field)
