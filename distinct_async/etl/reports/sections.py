"""What a report says about an experience's visits: findings, each with its chart and its table.

Groups of fewer than `MIN_PEOPLE` people are not shown: they are counted together.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from typing import Final, NamedTuple

from attrs import define, frozen

from distinct_async.etl.reports import charts
from distinct_async.etl.reports.figures import Figures, ImpressionCount

MIN_PEOPLE: Final = 5
_MAX_TOUCHPOINTS: Final = 20
_MAX_STEPS: Final = 8
_MAX_NAMES: Final = 10  # devices, browsers, posters
_MAX_WEEKS: Final = 12
_SCAN_COUNT_EDGES: Final = (1, 2, 3, 4, 5, 10, 20, 50, 100)
_UNBOUNDED: Final = 1 << 62  # scans


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


@define
class _Bin:
    """People who scanned `low` to `high` times."""

    low: int
    high: int
    people: int = 0

    def extend(self, following: "_Bin") -> None:
        self.high = following.high
        self.people += following.people

    @property
    def label(self) -> str:
        if self.high == _UNBOUNDED:
            return f"{self.low}+"
        return f"{self.low}" if self.low == self.high else f"{self.low} to {self.high}"


class _Day(NamedTuple):
    """A row of the view `visits_by_day`."""

    day: date
    visits: int
    visitors: int
    new_visitors: int
    returning_visitors: int
    mean_of_7_days: float | None

    @property
    def is_shown(self) -> bool:
        return self.visitors >= MIN_PEOPLE or not self.visitors


def make_sections(figures: Figures) -> list[Section]:
    """Return what a report says."""
    tables, visits = figures.tables, []
    if figures.visits:
        days = [_Day(*row) for row in tables["visits_by_day"]]
        visits = [
            _hours_section(tables["visits_by_hour"], str(figures.selection.timezone)),
            _days_section(days),
            _newcomers_section(days, figures.visitors),
            _touchpoints_section(tables["top_touchpoints"], figures.visits),
            _scans_per_person_section(tables["visits_per_visitor"], figures.visitors),
            _cohorts_section(tables["weekly_cohorts"]),
            _funnel_section(tables["touchpoint_funnel"]),
        ]
    return [*visits, *_impression_sections(figures.impressions)]


def plural(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def format_share(part: float, whole: float) -> str:
    """Return a share; never 0 % or 100 % of what is not nothing or all."""
    share = part / whole * 100 if whole else 0.0
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in {0, 100} else f"{share:.1f} %"


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    units = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, size), (next_name, next_size) in pairwise(units):
        if seconds >= size:
            quotient, remainder = divmod(round(seconds / next_size), size // next_size)
            return f"{quotient} {name} {remainder} {next_name}" if remainder else f"{quotient} {name}"
    return f"{seconds:.0f} s"


def format_day(value: date) -> str:
    """Return a date in words."""
    return f"{value:%a} {value.day} {value:%b %Y}"


def _hidden_note(visits: Iterable[int], noun: str) -> list[str]:
    """Return the note on groups that are not shown."""
    scans = list(visits)
    if not scans:
        return []
    hidden = f"{plural(len(scans), noun)} with fewer than {MIN_PEOPLE} people"
    return [f"{hidden}, {plural(sum(scans), 'scan')} in all, not shown."]


def _hours_section(rows: Sequence[tuple[int, int, int, int]], timezone: str) -> Section:
    shown = {(weekday, hour): visits for weekday, hour, visits, people in rows if people >= MIN_PEOPLE}
    peak_scans = max(shown.values(), default=0)
    if shown:
        peak = max(shown, key=lambda each: shown[each])
        title = f"Peak: {_WEEKDAY_NAMES[peak[0] - 1]} {peak[1]} h, {plural(peak_scans, 'scan')}"
    else:
        title = f"No hour has {MIN_PEOPLE} people"
    return Section(
        title,
        f"Scans by weekday and hour, {timezone} time. The stronger the colour, the more.",
        ("hour", *charts.WEEKDAYS),
        [(f"{hour:02} h", *(shown.get((weekday, hour), "") for weekday in range(1, 8))) for hour in range(24)],
        charts.hourly_heatmap(shown, timezone),
        _hidden_note((visits for _, _, visits, people in rows if people < MIN_PEOPLE), "hour"),
    )


def _days_section(rows: Sequence[_Day]) -> Section:
    shown = [each for each in rows if each.is_shown]
    hidden_scans = [each.visits for each in rows if not each.is_shown]
    busiest = max(shown, key=lambda each: each.visits, default=None)
    title = f"No day has {MIN_PEOPLE} people"
    if busiest is not None and busiest.visits:
        title = f"Busiest day: {format_day(busiest.day)}, {plural(busiest.visits, 'scan')}"
        means = [each.mean_of_7_days for each in shown if each.mean_of_7_days is not None]
        if len(means) > 8 and means[-9]:  # the last day may not be over
            change = means[-2] / means[-9] - 1
            title += f"; {change:+.0%} in a week".replace("%", " %").replace("-", "\N{MINUS SIGN}")
    bars = [(each.day, each.visits, each.mean_of_7_days) for each in shown]
    return Section(
        title,
        "Scans by day, and their mean over 7 days.",
        ("day", "scans", "mean of 7 days"),
        [(format_day(day), visits, "" if mean is None else f"{mean:,.1f}") for day, visits, mean in bars],
        charts.daily_chart(bars, "scans") if bars else None,
        _hidden_note(hidden_scans, "day"),
    )


def _newcomers_section(rows: Sequence[_Day], visitors: int) -> Section:
    shown = [(each.day, each.new_visitors, each.returning_visitors) for each in rows if each.is_shown]
    new, returning = sum(new for _, new, _ in shown), sum(returning for _, _, returning in shown)
    hidden_days = len(rows) - len(shown)
    note = f"{plural(hidden_days, 'day')} with fewer than {MIN_PEOPLE} people not shown."
    return Section(
        f"{format_share(returning, new + returning)} of a day's people had been there on an earlier day",
        "People by day: new ones, and those who came back. "
        f"{plural(visitors, 'different person', 'different people')}.",
        ("day", "new", "returning"),
        [(format_day(day), *parts) for day, *parts in shown],
        charts.stacked_daily_chart(shown, "people", "new", "returning") if shown else None,
        [note] if hidden_days else [],
    )


def _touchpoints_section(rows: Sequence[tuple[str, str | None, int, int]], total: int) -> Section:
    shown = [
        (name or touchpoint_id, visits, people)
        for touchpoint_id, name, visits, people in rows[:_MAX_TOUCHPOINTS]
        if people >= MIN_PEOPLE
    ]
    other_rows = [*rows[_MAX_TOUCHPOINTS:], *(row for row in rows[:_MAX_TOUCHPOINTS] if row[3] < MIN_PEOPLE)]
    bars = [(name, visits, f"{visits:,} · {format_share(visits, total)}") for name, visits, _ in shown]
    table_rows: list[Sequence[object]] = [
        (name, visits, format_share(visits, total), people, f"{visits / people:.2f}", f"{people / visits:.2f}")
        for name, visits, people in shown
    ]
    if other_rows:
        visits, label = sum(row[2] for row in other_rows), f"{plural(len(other_rows), 'other')}"
        bars.append((label, visits, f"{visits:,} · {format_share(visits, total)}"))
        table_rows.append((label, visits, format_share(visits, total), "", "", ""))
    title = (
        f"{shown[0][0]} has {format_share(shown[0][1], total)} of all scans"
        if shown
        else f"No touchpoint has {MIN_PEOPLE} people"
    )
    return Section(
        title,
        "Scans by touchpoint" + (f": the first {len(shown)} of {len(rows):,}." if other_rows and shown else "."),
        ("touchpoint", "scans", "share", "people", "scans per person", "unique ratio"),
        table_rows,
        charts.bar_chart(bars, "scans", other_name=bars[-1][0] if other_rows else ""),
    )


def _scans_per_person_section(rows: Sequence[tuple[int, int]], visitors: int) -> Section:
    edges = pairwise((*_SCAN_COUNT_EDGES, _UNBOUNDED + 1))
    bins = [_Bin(low, below - 1) for low, below in edges]
    for visits, people in rows:
        next(each for each in reversed(bins) if each.low <= visits).people += people
    pooled: list[_Bin] = []
    for each in bins:
        if pooled and (pooled[-1].people < MIN_PEOPLE or 0 < each.people < MIN_PEOPLE):
            pooled[-1].extend(each)
        elif pooled or each.people:
            pooled.append(each)
    while len(pooled) > 1 and pooled[-1].people < MIN_PEOPLE:
        last = pooled.pop()
        pooled[-1].extend(last)
    labelled = [(each.label, each.people) for each in pooled]
    total = sum(visits * people for visits, people in rows)
    once = sum(people for visits, people in rows if visits == 1)
    median = _median_scans(rows, visitors)
    if once >= MIN_PEOPLE and once * 2 > visitors:
        title = f"{format_share(once, visitors)} of the people scanned once"
    else:
        title = f"Half of the people scanned at least {plural(median, 'time')}; the mean is {total / visitors:.1f}"
    if visitors < MIN_PEOPLE:
        labelled, title = [], f"Fewer than {MIN_PEOPLE} people"
    return Section(
        title,
        "People by the number of their scans.",
        ("scans", "people", "share"),
        [(name, people, format_share(people, visitors)) for name, people in labelled],
        charts.column_chart(labelled, "scans of a person", "people") if labelled else None,
    )


def _median_scans(rows: Sequence[tuple[int, int]], visitors: int) -> int:
    """Return the largest number of visits that at least half of the visitors reach."""
    people_reached = 0
    for visits, people in reversed(rows):
        people_reached += people
        if people_reached * 2 >= visitors:
            return visits
    return 0


def _cohorts_section(rows: Sequence[tuple[date, int, int, int]]) -> Section:
    weeks = sorted({week for week, _, newcomers, _ in rows if newcomers >= MIN_PEOPLE})[-_MAX_WEEKS:]
    shown = [row for row in rows if row[0] in weeks]
    cells = [
        (
            f"{week.day} {week:%b %Y} ({newcomers:,})",
            weeks_later,
            people / newcomers if people >= MIN_PEOPLE else None,
            format_share(people, newcomers) if people >= MIN_PEOPLE else f"< {MIN_PEOPLE}",
        )
        for week, weeks_later, newcomers, people in shown
    ]
    next_week = [
        (newcomers, people) for _, weeks_later, newcomers, people in shown if weeks_later == 1 and people >= MIN_PEOPLE
    ]
    title = "All visitors came within one week" if shown else f"No week has {MIN_PEOPLE} newcomers"
    if next_week:
        newcomers, people = (sum(each) for each in zip(*next_week, strict=True))
        title = f"{format_share(people, newcomers)} came back in the week after their first visit"
    hidden = len({week for week, *_ in rows}) - len(weeks)
    return Section(
        title,
        "People by the week of their first visit (how many), and which part of them was there some weeks later.",
        ("week of", "weeks later", "part"),
        [(name, weeks_later, label) for name, weeks_later, _, label in cells],
        charts.cohort_heatmap(cells) if cells else None,
        [f"{plural(hidden, 'earlier or small week')} not shown."] if hidden else [],
    )


def _funnel_section(rows: Sequence[tuple[str, str | None, int, float | None]]) -> Section:
    shown = [
        (name or touchpoint_id, passed, seconds)
        for touchpoint_id, name, passed, seconds in rows[:_MAX_STEPS]
        if passed >= MIN_PEOPLE
    ]
    first_passed = shown[0][1] if shown else 0
    bars = [
        (
            f"{step}. {name}",
            passed,
            f"{passed:,} · {format_share(passed, first_passed)}"
            + ("" if seconds is None else f" · {format_duration(seconds)} later"),
        )
        for step, (name, passed, seconds) in enumerate(shown, 1)
    ]
    if len(shown) > 1:
        title = f"{format_share(shown[-1][1], first_passed)} of those who begin at {shown[0][0]} reach {shown[-1][0]}"
    else:
        title = f"No {MIN_PEOPLE} people went from one touchpoint to the next"
    return Section(
        title,
        "People who reach the touchpoints in this order, and the median time since the one before.",
        ("step", "people", "part", "median time since the step before"),
        [
            (name, passed, format_share(passed, first_passed), "" if seconds is None else format_duration(seconds))
            for name, (_, passed, seconds) in zip([each[0] for each in bars], shown, strict=True)
        ],
        charts.bar_chart(bars, "people") if len(shown) > 1 else None,
    )


def _impression_sections(rows: Sequence[ImpressionCount] | None) -> list[Section]:
    if not rows:
        absence = "The warehouse has no impressions" if rows is None else "There are no impressions"
        about = "They need a Vantio key, in VANTIO_API_KEY. Visits have no device." if rows is None else ""
        return [Section(f"{absence}, so there are no devices", about, (), ())]
    total = sum(row.impressions for row in rows)
    people_rows = [row for row in rows if row.source == "person"]
    other_rows = [row for row in rows if row.source != "person"]
    people_total = sum(row.impressions for row in people_rows)
    names = {"preview": "link preview", "bot": "bot"}
    plurals = {"preview": "link previews", "bot": "bots"}
    source_rows = _rank_names(((plurals.get(row.source, "people"), row.impressions) for row in rows), total)
    bot_rows = _rank_names(
        ((f"{row.browser} ({names.get(row.source, row.source)})", row.impressions) for row in other_rows), total
    )
    not_people = format_share(total - people_total, total)
    sections = [
        Section(
            f"{not_people} of {plural(total, 'impression')} are link previews and bots",
            "Impressions by source. Impressions have no user and visits no device, so they are not joined.",
            ("source", "impressions", "share"),
            [*source_rows, *bot_rows] if other_rows else source_rows,
            charts.bar_chart(
                [(name, impressions, f"{impressions:,} · {share}") for name, impressions, share in source_rows],
                "impressions",
            ),
        )
    ]
    for column, noun, title_format in (
        ("device", "device", "{} of people's impressions are from {} devices"),
        ("browser", "browser", "{} of people's impressions are from {}"),
        ("poster_id", "poster", "{} of people's impressions are of {}"),
    ):
        ranked = _rank_names(((str(getattr(row, column)), row.impressions) for row in people_rows), people_total)
        if ranked:
            first_name, _, first_share = ranked[0]
            sections.append(
                Section(
                    title_format.format(first_share, first_name),
                    f"Impressions of people by {noun}, without previews and bots.",
                    (noun, "impressions", "share"),
                    ranked,
                    charts.bar_chart(
                        [(name, impressions, f"{impressions:,} · {share}") for name, impressions, share in ranked],
                        "impressions",
                        other_name="other",
                    ),
                )
            )
    return sections


def _rank_names(counts: Iterable[tuple[str, int]], total: int) -> list[tuple[str, int, str]]:
    """Return the sums by name, the largest first, with their shares; what is small or many is one row, the last."""
    sums = Counter[str]()
    for name, count in counts:
        sums[name] += count
    ranked = [(name, count) for name, count in sums.most_common(_MAX_NAMES) if count >= MIN_PEOPLE]
    if others := sums.total() - sum(count for _, count in ranked):
        ranked.append(("other", others))
    return [(name, count, format_share(count, total)) for name, count in ranked]


_WEEKDAY_NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
