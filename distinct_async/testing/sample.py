"""The contents of a sample world: names, and two weeks of plausible scans."""

import random
from bisect import bisect
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final

OPENING: Final = datetime(2026, 6, 1, tzinfo=UTC)
DAYS: Final = 14
# Relative number of scans in each local hour of a day, few at night and most in the evening: at an entry, an exit,
# a stage and a place to eat, by turns.
HOURS: Final = (
    (2, 1, 0, 0, 0, 1, 2, 5, 14, 22, 28, 30, 32, 28, 26, 28, 34, 42, 48, 44, 30, 16, 8, 4),
    (6, 3, 1, 0, 0, 0, 1, 1, 2, 4, 7, 10, 16, 18, 18, 20, 24, 30, 38, 48, 56, 52, 36, 16),
    (3, 1, 0, 0, 0, 0, 0, 1, 2, 4, 8, 12, 18, 22, 22, 20, 22, 30, 44, 60, 58, 40, 20, 8),
    (1, 0, 0, 0, 0, 1, 3, 8, 12, 10, 12, 30, 58, 50, 22, 14, 16, 28, 50, 54, 34, 14, 5, 2),
)
WEEKDAYS: Final = (9, 9, 10, 11, 16, 24, 18)  # relative number of scans, from Monday
RETURNS: Final = 0.8  # the number of scans on each day after a user's first, relative to the day before
OFFSETS: Final = (0, 0, 0, -5)  # hours from UTC, by turns: some touchpoints are elsewhere
PLACES: Final = ("Entry Scan", "Exit Scan", "Main Stage", "Fan Zone", "Food Court", "Photo Booth", "Merch Store")


def place_name(number: int) -> str:
    """Return the display name of the touchpoint with this number, counted from 1."""
    return PLACES[number - 1] if number <= len(PLACES) else f"Booth {number}"


def fortnight(touchpoints: int, scans: int, users: int, rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """Yield scans in order of time: the index of the touchpoint (the first is the busiest), user id, time as text."""
    numbers = [int(rng.random() ** 2 * users) for _ in range(scans)]
    for turn, number in zip(rng.sample(range(scans), min(users, scans)), range(users), strict=False):
        numbers[turn] = number  # every user scans at least once
    minutes, seconds = rng.choices(range(60), k=scans), rng.choices(range(60), k=scans)
    shares = [1 / number for number in range(1, touchpoints + 1)]
    places = rng.choices(range(touchpoints), shares, k=scans)
    weights = [WEEKDAYS[(OPENING + timedelta(days=day)).weekday()] for day in range(DAYS)]
    # Newcomers come on any day but the last ones, and come back on days soon after
    arrivals = rng.choices(range(DAYS), [weight * max(1, 10 - day) for day, weight in enumerate(weights)], k=users)
    days = [
        list(accumulate(0 if day < first else weight * RETURNS ** (day - first) for day, weight in enumerate(weights)))
        for first in range(DAYS)
    ]
    hours = [list(accumulate(each)) for each in HOURS]
    by_place = [(hours[place % len(hours)], OFFSETS[place % len(OFFSETS)]) for place in range(touchpoints)]
    draw, moments = rng.random, list[int]()  # a moment and an index are one int: a million of them sort in a third
    for index, (number, place, minute, second) in enumerate(zip(numbers, places, minutes, seconds, strict=True)):
        by_day, (by_hour, offset) = days[arrivals[number]], by_place[place]
        day = bisect(by_day, draw() * by_day[-1])
        hour = bisect(by_hour, draw() * by_hour[-1]) - offset
        moments.append((((day * 24 + hour) * 60 + minute) * 60 + second) * scans + index)
    moments.sort()
    # Joined from tables: formatting a datetime for each of a hundred thousand scans would take most of the time
    texts = [f"{OPENING + timedelta(hours=hour):%Y-%m-%dT%H:}" for hour in range(24 * (DAYS + 1))]
    clock = [f"{second // 60:02d}:{second % 60:02d}Z" for second in range(3600)]
    names = [f"user-{number}" for number in range(1, users + 1)]
    for each in moments:
        moment, index = divmod(each, scans)
        yield places[index], names[numbers[index]], texts[moment // 3600] + clock[moment % 3600]
