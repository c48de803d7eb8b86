"""Charts as Vega-Lite specifications, and as SVG: static, without scripts, fonts or addresses.

Colours are those of the light theme. In the dark one, the page's style replaces each by its `DARK` counterpart.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import vl_convert

Spec = dict[str, Any]

WIDTH: Final = 460
_PADDING: Final = {"left": 14, "right": 2, "top": 4, "bottom": 2}
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
PAPER: Final = "#ffffff"
_INK, _MUTED, _GRID, _ACCENT, _SECOND, _REST = "#1d2530", "#5a6573", "#e4e8ed", "#2f6fdd", "#c4661a", "#a9b4c2"
_PALE = "#b9d1f7"
HEAT: Final = ("#f1f5fb", "#cfe0f8", "#9dc0f0", "#649be4", "#2f6fdd", "#1c4894")

DARK: Final[Mapping[str, str]] = {
    _INK: "#e8ecf1",
    _MUTED: "#9fabba",
    _GRID: "#2a323d",
    _SECOND: "#f0a657",
    _REST: "#5f6b7a",
    _PALE: "#2a4a7d",
    PAPER: "#12171e",
    _ACCENT: "#5d99f2",
    **dict(zip(HEAT, ("#1b222c", "#1d3355", "#23508f", "#2f6fce", "#5d99f2", "#c3dcff"), strict=True)),
}
_CONTROL: Final = re.compile(r"[^\n\t -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_EMBED: Final = """
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const [id, chart] of Object.entries(charts)) {
  const figure = document.getElementById(id), drawn = [...figure.childNodes];
  vegaEmbed(figure, chart, {actions: false, renderer: "svg"}).catch(() => figure.replaceChildren(...drawn));
}
"""

_CONFIG: Final[Spec] = {
    "background": None,
    "font": "Arial, Helvetica, Liberation Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _MUTED,
        "titleColor": _MUTED,
        "titleFontWeight": "normal",
        "titleFontSize": 13,
        "labelFontSize": 13,
        "domainColor": _GRID,
        "tickColor": _GRID,
        "gridColor": _GRID,
        "labelLimit": 150,
    },
    "text": {"color": _INK, "fontSize": 13},
    "bar": {"color": _ACCENT},
    "legend": None,
}


def draw(spec: Spec, name: str) -> str:
    """Return a chart as SVG.

    Args:
        spec: Of one of the functions below.
        name: What the ids in it begin with; different for each chart of a page.
    """
    drawn: str = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    ids = list(dict.fromkeys(re.findall(r'\bid="(\w+)"', drawn)))  # numbered on and on in a process
    return re.sub(r'(\bid="|url\(#)(\w+)', lambda found: f"{found[1]}{name}-{ids.index(found[2])}", drawn)


def bundle() -> str:
    """Return a script that draws the charts of a page again, so that they respond to the mouse."""
    script: str = vl_convert.javascript_bundle(_EMBED)
    return script.replace("</script", "<\\/script")


def plain(value: object) -> object:
    """Return a value, without the characters of a text that no XML or HTML may contain: one aborts `vl_convert`."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def _chart(height: int, rows: Sequence[Mapping[str, object]], **rest: object) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": WIDTH,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": _PADDING,
        "config": _CONFIG,
        "data": {"values": [{name: plain(each) for name, each in row.items()} for row in rows]},
        **rest,
    }


def _axis(title: str | None, **more: object) -> Spec:
    return {"title": title, "grid": False, **more}


def bars(rows: Sequence[tuple[str, int, str]], title: str, *, rest: str = "") -> Spec:
    """Return horizontal bars, each with a label at its end.

    Args:
        rows: Name, number and label of each.
        title: What the numbers count.
        rest: The name of the bar that is the sum of others.
    """
    seen: list[str] = []
    values = []
    for name, value, label in rows:
        seen.append(name)
        unique = name + "\N{ZERO WIDTH SPACE}" * (seen.count(name) - 1)  # two touchpoints may have one name
        values.append({"name": unique, "value": value, "label": label, "rest": name == rest})
    most = max([value for _, value, _ in rows], default=1)
    colour = {"condition": {"test": "datum.rest", "value": _REST}, "value": _ACCENT}
    return _chart(
        26 * len(rows) + 24,
        values,
        encoding={
            "y": {"field": "name", "type": "ordinal", "sort": None, "axis": _axis(None, ticks=False, domain=False)},
            "x": {
                "field": "value",
                "type": "quantitative",
                "scale": {"domain": [0, most * 1.4]},  # room for the labels
                "axis": _axis(title, labels=False, ticks=False, domain=False),
            },
            "tooltip": _tooltip("name", "label"),
        },
        layer=[
            {"mark": {"type": "bar", "cornerRadiusEnd": 3, "height": 18}, "encoding": {"color": colour}},
            {"mark": {"type": "text", "align": "left", "dx": 6}, "encoding": {"text": {"field": "label"}}},
        ],
    )


def columns(rows: Sequence[tuple[str, int]], x: str, y: str) -> Spec:
    """Return upright bars with their numbers on top.

    Args:
        rows: Name and number of each.
        x: What the names are.
        y: What the numbers count.
    """
    return _chart(
        220,
        [{"name": name, "value": value, "label": f"{value:,}"} for name, value in rows],
        encoding={
            "x": {"field": "name", "type": "ordinal", "sort": None, "axis": _axis(x, labelAngle=0, ticks=False)},
            "y": {"field": "value", "type": "quantitative", "axis": _axis(y, labels=False, ticks=False, domain=False)},
            "tooltip": _tooltip("name", "label"),
        },
        layer=[
            {"mark": {"type": "bar", "cornerRadiusEnd": 3}, "encoding": {"color": {"value": _ACCENT}}},
            {"mark": {"type": "text", "dy": -8}, "encoding": {"text": {"field": "label"}}},
        ],
    )


def days(rows: Sequence[tuple[date, int, float | None]], y: str) -> Spec:
    """Return a bar for each day, and a line of the means of 7 days.

    Args:
        rows: Day, number, and mean if there is one.
        y: What the numbers count.
    """
    values = [{"day": f"{day}", "value": value, "mean": mean} for day, value, mean in rows]
    layer: list[Spec] = [
        {
            "mark": {"type": "bar", "color": _PALE},
            "encoding": {"y": _count("value", y), "tooltip": _tooltip("day", "value", "mean")},
        },
        {
            "mark": {"type": "line", "color": _ACCENT, "strokeWidth": 2.5},
            "encoding": {"y": {"field": "mean", "type": "quantitative"}},
        },
    ]
    means = [(day, mean) for day, _, mean in rows if mean is not None]
    if means:
        layer.append(_label(*means[len(means) // 2], "mean of 7 days", _ACCENT, dy=-10))
    return _chart(220, values, encoding={"x": _DAY}, layer=layer)


def stacked_days(rows: Sequence[tuple[date, int, int]], y: str, lower: str, upper: str) -> Spec:
    """Return a bar of two parts for each day.

    Args:
        rows: Day, number of the lower part, number of the upper part.
        y: What the numbers count.
        lower: What the lower part is.
        upper: What the upper part is.
    """
    values: list[dict[str, object]] = []
    for day, below, above in rows:
        values += [
            {"day": f"{day}", "from": 0, "to": below, "colour": _ACCENT, lower: below, upper: above},
            {"day": f"{day}", "from": below, "to": below + above, "colour": _SECOND, lower: below, upper: above},
        ]
    layer: list[Spec] = [
        {
            "mark": "bar",
            "encoding": {
                "y": _count("from", y),
                "y2": {"field": "to"},
                "tooltip": _tooltip("day", lower, upper),
                "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
            },
        }
    ]
    for x, text, colour in ((0, lower, _ACCENT), (80, upper, _SECOND)):
        mark = {"type": "text", "x": x, "y": -12, "align": "left", "color": colour, "fontWeight": "bold"}
        layer.append({"data": {"values": [{}]}, "mark": mark, "encoding": {"x": None, "text": {"value": text}}})
    return {**_chart(220, values, encoding={"x": _DAY}, layer=layer), "padding": {**_PADDING, "top": 24}}


def hours(counts: Mapping[tuple[int, int], int], timezone: str) -> Spec:
    """Return a grid of weekdays and hours, in a stronger colour for more.

    Args:
        counts: Scans by weekday (1 to 7) and hour; those that are missing are not shown.
        timezone: The time zone.
    """
    most = max(counts.values(), default=1)
    values = []
    for number, name in enumerate(WEEKDAYS, 1):
        for hour in range(24):
            scans = counts.get((number, hour), 0)
            values.append({"weekday": name, "hour": hour, "scans": scans, "colour": HEAT[-(-scans * 5 // most)]})
    return _chart(
        210,
        values,
        mark={"type": "rect", "stroke": PAPER, "strokeWidth": 1.5, "cornerRadius": 2},
        encoding={
            "x": {
                "field": "hour",
                "type": "ordinal",
                "axis": _axis(
                    f"hour of the day, {timezone}",
                    values=list(range(0, 24, 3)),
                    labelAngle=0,
                    ticks=False,
                    domain=False,
                ),
            },
            "y": {"field": "weekday", "type": "ordinal", "sort": None, "axis": _axis(None, ticks=False, domain=False)},
            "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
            "tooltip": _tooltip("weekday", "hour", "scans"),
        },
    )


def cohorts(rows: Sequence[tuple[str, int, float | None, str]]) -> Spec:
    """Return a grid of cohorts and weeks, with a label in each cell.

    Args:
        rows: Cohort, weeks later, retention from 0 to 1 if it is shown, and label.
    """
    values = [
        {"cohort": name, "week": week, "label": label, "colour": HEAT[0 if part is None else min(3, 1 + int(part * 4))]}
        for name, week, part, label in rows
    ]
    return _chart(
        28 * len({name for name, *_ in rows}) + 48,
        values,
        encoding={
            "x": {
                "field": "week",
                "type": "ordinal",
                "axis": _axis("weeks after the week of the first visit", labelAngle=0, ticks=False, domain=False),
            },
            "y": {"field": "cohort", "type": "ordinal", "sort": None, "axis": _axis(None, ticks=False, domain=False)},
        },
        layer=[
            {
                "mark": {"type": "rect", "stroke": PAPER, "strokeWidth": 1.5, "cornerRadius": 2},
                "encoding": {"color": {"field": "colour", "type": "nominal", "scale": None, "legend": None}},
            },
            {"mark": {"type": "text", "fontSize": 12}, "encoding": {"text": {"field": "label"}}},
        ],
    )


_DAY: Final[Spec] = {
    "field": "day",
    "type": "temporal",
    "timeUnit": "utcyearmonthdate",
    "axis": _axis(None, format="%-d %b", tickCount=6, labelOverlap=True),
}


def _tooltip(*fields: str) -> list[Spec]:
    return [{"field": field} for field in fields]  # of an interactive chart


def _count(field: str, title: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "axis": {"title": title, "tickCount": 4, "domain": False, "ticks": False},
    }


def _label(day: date, value: float, text: str, colour: str, **more: object) -> Spec:
    """Return a text in a chart of days."""
    return {
        "data": {"values": [{"day": f"{day}", "value": value, "label": text}]},
        "mark": {"type": "text", "color": colour, "fontWeight": "bold", **more},
        "encoding": {"y": {"field": "value", "type": "quantitative"}, "text": {"field": "label"}},
    }
