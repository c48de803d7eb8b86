"""The make-up of a sample world: names, and a plausible fortnight of scans."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

OPENING: Final = datetime(2026, 6, 1, tzinfo=UTC)
DAYS: Final = 14
# How busy each hour of a day is: quiet at night, a small peak at noon, the large one in the evening.
HOURS: Final = (2, 1, 0, 0, 0, 1, 2, 5, 9, 14, 20, 26, 30, 27, 24, 25, 30, 38, 46, 50, 42, 28, 14, 6)
PLACES: Final = ("Entry Scan", "Exit Scan", "Main Stage", "Fan Zone", "Food Court", "Photo Booth", "Merch Store")


def place_name(number: int) -> str:
    """The display name of the touchpoint of that number, counted from 1."""
    return PLACES[number - 1] if number <= len(PLACES) else f"Booth {number}"


def fortnight(touchpoints: int, scans: int, users: int, dice: random.Random) -> Iterator[tuple[int, str, str]]:
    """Scans in the order of time: the touchpoint's index (the first is the busiest), the user, the time as text."""
    names = [f"user-{number}" for number in range(1, users + 1)]
    visitors = [names[int(dice.random() ** 2 * users)] for _ in range(scans)]
    for turn, name in zip(dice.sample(range(scans), min(users, scans)), names, strict=False):
        visitors[turn] = name  # so that everybody comes at least once
    # Texts are joined from tables: a datetime for each of a hundred thousand scans would cost more than all the rest.
    hours = [f"{OPENING + timedelta(hours=hour):%Y-%m-%dT%H:}" for hour in range(24 * DAYS)]
    seconds = [f"{second // 60:02d}:{second % 60:02d}Z" for second in range(3600)]
    busy = [hour for hour in range(24 * DAYS) for _ in range(HOURS[hour % 24])]
    times = sorted(zip(dice.choices(busy, k=scans), dice.choices(range(3600), k=scans), strict=True))
    shares = [1 / number for number in range(1, touchpoints + 1)]
    places = dice.choices(range(touchpoints), shares, k=scans)
    texts = (hours[hour] + seconds[second] for hour, second in times)
    return zip(places, visitors, texts, strict=True)
