"""The contents of a sample world: names, and two weeks of plausible scans."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

OPENING: Final = datetime(2026, 6, 1, tzinfo=UTC)
DAYS: Final = 14
# Relative number of scans in each hour of a day: few at night, a small peak at noon, a large one in the evening.
HOURS: Final = (2, 1, 0, 0, 0, 1, 2, 5, 9, 14, 20, 26, 30, 27, 24, 25, 30, 38, 46, 50, 42, 28, 14, 6)
PLACES: Final = ("Entry Scan", "Exit Scan", "Main Stage", "Fan Zone", "Food Court", "Photo Booth", "Merch Store")


def place_name(number: int) -> str:
    """Return the display name of the touchpoint with this number, counted from 1."""
    return PLACES[number - 1] if number <= len(PLACES) else f"Booth {number}"


def fortnight(touchpoints: int, scans: int, users: int, rng: random.Random) -> Iterator[tuple[int, str, str]]:
    """Yield scans in order of time: the index of the touchpoint (the first is the busiest), user id, time as text."""
    names = [f"user-{number}" for number in range(1, users + 1)]
    visitors = [names[int(rng.random() ** 2 * users)] for _ in range(scans)]
    for turn, name in zip(rng.sample(range(scans), min(users, scans)), names, strict=False):
        visitors[turn] = name  # every user scans at least once
    # Joined from tables: formatting a datetime for each of a hundred thousand scans would take most of the time
    hours = [f"{OPENING + timedelta(hours=hour):%Y-%m-%dT%H:}" for hour in range(24 * DAYS)]
    seconds = [f"{second // 60:02d}:{second % 60:02d}Z" for second in range(3600)]
    busy = [hour for hour in range(24 * DAYS) for _ in range(HOURS[hour % 24])]
    times = sorted(zip(rng.choices(busy, k=scans), rng.choices(range(3600), k=scans), strict=True))
    shares = [1 / number for number in range(1, touchpoints + 1)]
    places = rng.choices(range(touchpoints), shares, k=scans)
    texts = (hours[hour] + seconds[second] for hour, second in times)
    return zip(places, visitors, texts, strict=True)
