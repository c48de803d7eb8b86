"""What a report says about an experience's visits: findings, each with its chart and its table.

Groups of fewer than `FEW` people are not shown: they are counted together.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Final

from attrs import frozen

from distinct_async.etl.reports import charts
from distinct_async.etl.reports.figures import Figures

FEW: Final = 5  # people
_TOP: Final = 20  # touchpoints
_STEPS: Final = 8
_NAMES: Final = 10  # devices, browsers, posters
_WEEKS: Final = 12
_EDGES: Final = (1, 2, 3, 4, 5, 10, 20, 50, 100)  # of the numbers of visits


@frozen
class Section:
    """A finding.

    Attributes:
        title: What was found.
        about: What the chart shows.
        columns: The names of the table's columns; the first is of the rows' names.
        rows: The table.
        chart: The chart; None if there is nothing to draw.
        notes: What else to know.
    """

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    chart: charts.Spec | None = None
    notes: Sequence[str] = ()


def make_sections(figures: Figures) -> list[Section]:
    """Return what a report says."""
    tables, visits = figures.tables, []
    if figures.visits:
        visits = [
            _hours(tables["visits_by_hour"], str(figures.selection.timezone)),
            _days(tables["visits_by_day"]),
            _newcomers(tables["visits_by_day"], figures.visitors),
            _top(tables["top_touchpoints"], figures.visits),
            _per_visitor(tables["visits_per_visitor"], figures.visitors),
            _cohorts(tables["weekly_cohorts"]),
            _funnel(tables["touchpoint_funnel"]),
        ]
    return [*visits, *_impressions(figures.impressions)]


def count(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else more or f'{one}s'}"


def percent(part: float, whole: float) -> str:
    """Return a share; never 0 % or 100 % of what is not nothing or all."""
    share = part / whole * 100 if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in {0, 100} else f"{share:.1f} %"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in pairwise(units):
        if seconds >= size:
            whole, rest = divmod(round(seconds / next_size), size // next_size)
            return f"{whole} {name} {rest} {next_name}" if rest else f"{whole} {name}"
    return f"{seconds:.0f} s"


def day(value: date) -> str:
    """Return a date in words."""
    return f"{value:%a} {value.day} {value:%b %Y}"


def _pooled(visits: Iterable[int], what: str) -> list[str]:
    """Return the note on groups that are not shown."""
    hidden = list(visits)
    if not hidden:
        return []
    return [f"{count(len(hidden), what)} with fewer than {FEW} people, {count(sum(hidden), 'scan')} in all, not shown."]


def _hours(rows: Sequence[tuple[int, int, int, int]], timezone: str) -> Section:
    shown = {(weekday, hour): visits for weekday, hour, visits, people in rows if people >= FEW}
    most = max(shown.values(), default=0)
    if shown:
        peak = max(shown, key=lambda each: shown[each])
        title = f"Peak: {_WEEKDAYS[peak[0] - 1]} {peak[1]} h, {count(most, 'scan')}"
    else:
        title = f"No hour has {FEW} people"
    return Section(
        title,
        f"Scans by weekday and hour, {timezone} time. The stronger the colour, the more.",
        ("hour", *charts.WEEKDAYS),
        [(f"{hour:02} h", *(shown.get((weekday, hour), "") for weekday in range(1, 8))) for hour in range(24)],
        charts.hours(shown, timezone),
        _pooled((visits for _, _, visits, people in rows if people < FEW), "hour"),
    )


def _days(rows: Sequence[tuple[date, int, int, int, int, float | None]]) -> Section:
    shown = [(each[0], each[1], each[5]) for each in rows if each[2] >= FEW or not each[2]]
    few = [each[1] for each in rows if 0 < each[2] < FEW]
    best = max(shown, key=lambda each: each[1], default=None)
    title = f"No day has {FEW} people"
    if best is not None and best[1]:
        title = f"Busiest day: {day(best[0])}, {count(best[1], 'scan')}"
        means = [(at, mean) for at, _, mean in shown if mean is not None]
        if len(means) > 8 and means[-9][1]:  # the last day may not be over
            change = means[-2][1] / means[-9][1] - 1
            title += f"; {change:+.0%} in a week".replace("%", " %").replace("-", "\N{MINUS SIGN}")
    return Section(
        title,
        "Scans by day, and their mean over 7 days.",
        ("day", "scans", "mean of 7 days"),
        [(day(at), visits, "" if mean is None else f"{mean:,.1f}") for at, visits, mean in shown],
        charts.days(shown, "scans") if shown else None,
        _pooled(few, "day"),
    )


def _newcomers(rows: Sequence[tuple[date, int, int, int, int, float | None]], visitors: int) -> Section:
    shown = [(at, new, back) for at, _, people, new, back, _ in rows if people >= FEW or not people]
    hidden = [people for _, _, people, *_ in rows if 0 < people < FEW]
    new, back = sum(each[1] for each in shown), sum(each[2] for each in shown)
    notes = [f"{count(len(hidden), 'day')} with fewer than {FEW} people not shown."] if hidden else []
    return Section(
        f"{percent(back, new + back)} of a day's people had been there on an earlier day",
        f"People by day: new ones, and those who came back. {count(visitors, 'different person', 'different people')}.",
        ("day", "new", "returning"),
        [(day(at), *parts) for at, *parts in shown],
        charts.stacked_days(shown, "people", "new", "returning") if shown else None,
        notes,
    )


def _top(rows: Sequence[tuple[str, str | None, int, int]], total: int) -> Section:
    shown = [(name or id_, visits, people) for id_, name, visits, people in rows[:_TOP] if people >= FEW]
    rest = [*rows[_TOP:], *(row for row in rows[:_TOP] if row[3] < FEW)]
    bars = [(name, visits, f"{visits:,} · {percent(visits, total)}") for name, visits, _ in shown]
    table: list[Sequence[object]] = [
        (name, visits, percent(visits, total), people, f"{visits / people:.2f}", f"{people / visits:.2f}")
        for name, visits, people in shown
    ]
    if rest:
        visits, label = sum(row[2] for row in rest), f"{count(len(rest), 'other')}"
        bars.append((label, visits, f"{visits:,} · {percent(visits, total)}"))
        table.append((label, visits, percent(visits, total), "", "", ""))
    title = (
        f"{shown[0][0]} has {percent(shown[0][1], total)} of all scans" if shown else f"No touchpoint has {FEW} people"
    )
    return Section(
        title,
        "Scans by touchpoint" + (f": the first {len(shown)} of {len(rows):,}." if rest and shown else "."),
        ("touchpoint", "scans", "share", "people", "scans per person", "unique ratio"),
        table,
        charts.bars(bars, "scans", rest=bars[-1][0] if rest else ""),
    )


def _per_visitor(rows: Sequence[tuple[int, int]], visitors: int) -> Section:
    groups = [[low, high - 1, 0] for low, high in zip(_EDGES, (*_EDGES[1:], 1 << 62), strict=True)]
    for visits, people in rows:
        next(group for group in reversed(groups) if group[0] <= visits)[2] += people
    pooled: list[list[int]] = []
    for low, high, people in groups:
        if pooled and (pooled[-1][2] < FEW or 0 < people < FEW):
            pooled[-1][1:] = [high, pooled[-1][2] + people]
        elif pooled or people:
            pooled.append([low, high, people])
    while len(pooled) > 1 and pooled[-1][2] < FEW:
        _, high, people = pooled.pop()
        pooled[-1][1:] = [high, pooled[-1][2] + people]
    names = [
        (f"{low}+" if high > 1 << 60 else f"{low}" if low == high else f"{low} to {high}", people)
        for low, high, people in pooled
    ]
    total = sum(visits * people for visits, people in rows)
    once = sum(people for visits, people in rows if visits == 1)
    middle = _median(rows, visitors)
    if once >= FEW and once * 2 > visitors:
        title = f"{percent(once, visitors)} of the people scanned once"
    else:
        title = f"Half of the people scanned at least {count(middle, 'time')}; the mean is {total / visitors:.1f}"
    if visitors < FEW:
        names, title = [], f"Fewer than {FEW} people"
    return Section(
        title,
        "People by the number of their scans.",
        ("scans", "people", "share"),
        [(name, people, percent(people, visitors)) for name, people in names],
        charts.columns(names, "scans of a person", "people") if names else None,
    )


def _median(rows: Sequence[tuple[int, int]], visitors: int) -> int:
    """Return the largest number of visits that at least half of the visitors reach."""
    reached = 0
    for visits, people in reversed(rows):
        reached += people
        if reached * 2 >= visitors:
            return visits
    return 0


def _cohorts(rows: Sequence[tuple[date, int, int, int]]) -> Section:
    first = sorted({each[0] for each in rows if each[2] >= FEW})[-_WEEKS:]
    shown = [each for each in rows if each[0] in first]
    cells = [
        (
            f"{at.day} {at:%b %Y} ({newcomers:,})",
            later,
            people / newcomers if people >= FEW else None,
            percent(people, newcomers) if people >= FEW else f"< {FEW}",
        )
        for at, later, newcomers, people in shown
    ]
    next_week = [(newcomers, people) for _, later, newcomers, people in shown if later == 1 and people >= FEW]
    title = "All visitors came within one week" if shown else f"No week has {FEW} newcomers"
    if next_week:
        newcomers, people = (sum(each) for each in zip(*next_week, strict=True))
        title = f"{percent(people, newcomers)} came back in the week after their first visit"
    hidden = len({each[0] for each in rows}) - len(first)
    return Section(
        title,
        "People by the week of their first visit (how many), and which part of them was there some weeks later.",
        ("week of", "weeks later", "part"),
        [(name, later, label) for name, later, _, label in cells],
        charts.cohorts(cells) if cells else None,
        [f"{count(hidden, 'earlier or small week')} not shown."] if hidden else [],
    )


def _funnel(rows: Sequence[tuple[str, str | None, int, float | None]]) -> Section:
    shown = [(name or id_, passed, seconds) for id_, name, passed, seconds in rows[:_STEPS] if passed >= FEW]
    start = shown[0][1] if shown else 0
    bars = [
        (
            f"{number}. {name}",
            passed,
            f"{passed:,} · {percent(passed, start)}" + ("" if seconds is None else f" · {duration(seconds)} later"),
        )
        for number, (name, passed, seconds) in enumerate(shown, 1)
    ]
    if len(shown) > 1:
        title = f"{percent(shown[-1][1], start)} of those who begin at {shown[0][0]} reach {shown[-1][0]}"
    else:
        title = f"No {FEW} people went from one touchpoint to the next"
    return Section(
        title,
        "People who reach the touchpoints in this order, and the median time since the one before.",
        ("step", "people", "part", "median time since the step before"),
        [
            (name, passed, percent(passed, start), "" if seconds is None else duration(seconds))
            for name, (_, passed, seconds) in zip([each[0] for each in bars], shown, strict=True)
        ],
        charts.bars(bars, "people") if len(shown) > 1 else None,
    )


def _impressions(rows: Sequence[tuple[str, str, str, str, str, int]] | None) -> list[Section]:
    if not rows:
        what = "The warehouse has no impressions" if rows is None else "There are no impressions"
        about = "They need a Vantio key, in VANTIO_API_KEY. Visits have no device." if rows is None else ""
        return [Section(f"{what}, so there are no devices", about, (), ())]
    total = sum(row[5] for row in rows)
    people = [row for row in rows if row[2] == "person"]
    others = [row for row in rows if row[2] != "person"]
    scans = sum(row[5] for row in people)
    names = {"preview": "link preview", "bot": "bot"}
    programs = _ranked(((f"{row[4]} ({names.get(row[2], row[2])})", row[5]) for row in others), total)
    kinds = _ranked(((f"{names.get(row[2], 'person')}s".replace("persons", "people"), row[5]) for row in rows), total)
    sections = [
        Section(
            f"{percent(total - scans, total)} of {count(total, 'impression')} are link previews and bots",
            "Impressions by source. Impressions have no user and visits no device, so they are not joined.",
            ("source", "impressions", "share"),
            [*kinds, *programs] if others else kinds,
            charts.bars([(name, number, f"{number:,} · {share}") for name, number, share in kinds], "impressions"),
        )
    ]
    for column, what, words in (
        (3, "device", "{} of people's impressions are from {} devices"),
        (4, "browser", "{} of people's impressions are from {}"),
        (1, "poster", "{} of people's impressions are of {}"),
    ):
        ranked = _ranked(((str(row[column]), row[5]) for row in people), scans)
        if ranked:
            sections.append(
                Section(
                    words.format(ranked[0][2], ranked[0][0]),
                    f"Impressions of people by {what}, without previews and bots.",
                    (what, "impressions", "share"),
                    ranked,
                    charts.bars(
                        [(name, number, f"{number:,} · {share}") for name, number, share in ranked],
                        "impressions",
                        rest="other",
                    ),
                )
            )
    return sections


def _ranked(pairs: Iterable[tuple[str, int]], whole: int) -> list[tuple[str, int, str]]:
    """Return the sums by name, the largest first, with their shares; what is small or many is one row, the last."""
    sums = Counter[str]()
    for name, number in pairs:
        sums[name] += number
    ranked = [(name, number) for name, number in sums.most_common(_NAMES) if number >= FEW]
    if rest := sums.total() - sum(number for _, number in ranked):
        ranked.append(("other", rest))
    return [(name, number, percent(number, whole)) for name, number in ranked]


_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
