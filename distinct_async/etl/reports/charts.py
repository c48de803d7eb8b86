"""Charts as Vega-Lite specifications, and as SVG: static, without scripts, fonts or addresses.

Colours are those of the light theme. In the dark one, the page's style replaces each by its `DARK_COLOURS` counterpart.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import vl_convert

Spec = dict[str, Any]
WeekdayHour = tuple[int, int]
"""A weekday, 1 (Monday) to 7, and an hour, 0 to 23."""

_WIDTH: Final = 460
_PADDING: Final = {"left": 14, "right": 2, "top": 4, "bottom": 2}
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_PAPER: Final = "#ffffff"
_INK, _MUTED, _GRID, _ACCENT, _SECOND_ACCENT, _OTHER = "#1d2530", "#5a6573", "#e4e8ed", "#2f6fdd", "#c4661a", "#a9b4c2"
_PALE_ACCENT = "#b9d1f7"
HEAT_COLOURS: Final = ("#f1f5fb", "#cfe0f8", "#9dc0f0", "#649be4", "#2f6fdd", "#1c4894")

DARK_COLOURS: Final[Mapping[str, str]] = {
    _INK: "#e8ecf1",
    _MUTED: "#9fabba",
    _GRID: "#2a323d",
    _SECOND_ACCENT: "#f0a657",
    _OTHER: "#5f6b7a",
    _PALE_ACCENT: "#2a4a7d",
    _PAPER: "#12171e",
    _ACCENT: "#5d99f2",
    **dict(zip(HEAT_COLOURS, ("#1b222c", "#1d3355", "#23508f", "#2f6fce", "#5d99f2", "#c3dcff"), strict=True)),
}
_INVALID_IN_XML: Final = re.compile(r"[^\n\t -~\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_EMBED_SCRIPT: Final = """
const charts = JSON.parse(document.getElementById("charts").textContent);
for (const [id, chart] of Object.entries(charts)) {
  const figure = document.getElementById(id), drawn = [...figure.childNodes];
  vegaEmbed(figure, chart, {actions: false, renderer: "svg"}).catch(() => figure.replaceChildren(...drawn));
}
"""

_VEGA_CONFIG: Final[Spec] = {
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


def render_svg(spec: Spec, name: str) -> str:
    """Return a chart as SVG.

    Args:
        spec: Of one of the functions below.
        name: What the ids in it begin with; different for each chart of a page.
    """
    svg: str = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])
    ids = list(dict.fromkeys(re.findall(r'\bid="(\w+)"', svg)))  # numbered on and on in a process
    return re.sub(r'(\bid="|url\(#)(\w+)', lambda found: f"{found[1]}{name}-{ids.index(found[2])}", svg)


def vega_bundle() -> str:
    """Return a script that draws the charts of a page again, so that they respond to the mouse."""
    script: str = vl_convert.javascript_bundle(_EMBED_SCRIPT)
    return script.replace("</script", "<\\/script")


def replace_invalid_characters(value: object) -> object:
    """Return a value, without the characters of a text that no XML or HTML may contain: one aborts `vl_convert`."""
    return _INVALID_IN_XML.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def _chart_spec(height: int, rows: Sequence[Mapping[str, object]], **properties: object) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": _WIDTH,
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "padding": _PADDING,
        "config": _VEGA_CONFIG,
        "data": {"values": [{name: replace_invalid_characters(each) for name, each in row.items()} for row in rows]},
        **properties,
    }


def _axis(title: str | None, **properties: object) -> Spec:
    return {"title": title, "grid": False, **properties}


def bar_chart(rows: Sequence[tuple[str, int, str]], x_title: str, *, other_name: str = "") -> Spec:
    """Return horizontal bars, each with a label at its end.

    Args:
        rows: Name, number and label of each.
        x_title: What the numbers count.
        other_name: The name of the bar that is the sum of others.
    """
    names: list[str] = []
    values = []
    for name, value, label in rows:
        names.append(name)
        unique_name = name + "\N{ZERO WIDTH SPACE}" * (names.count(name) - 1)  # two touchpoints may have one name
        values.append({"name": unique_name, "value": value, "label": label, "rest": name == other_name})
    largest = max([value for _, value, _ in rows], default=1)
    colour = {"condition": {"test": "datum.rest", "value": _OTHER}, "value": _ACCENT}
    return _chart_spec(
        26 * len(rows) + 24,
        values,
        encoding={
            "y": {"field": "name", "type": "ordinal", "sort": None, "axis": _axis(None, ticks=False, domain=False)},
            "x": {
                "field": "value",
                "type": "quantitative",
                "scale": {"domain": [0, largest * 1.4]},  # room for the labels
                "axis": _axis(x_title, labels=False, ticks=False, domain=False),
            },
            "tooltip": _tooltip_encoding("name", "label"),
        },
        layer=[
            {"mark": {"type": "bar", "cornerRadiusEnd": 3, "height": 18}, "encoding": {"color": colour}},
            {"mark": {"type": "text", "align": "left", "dx": 6}, "encoding": {"text": {"field": "label"}}},
        ],
    )


def column_chart(rows: Sequence[tuple[str, int]], x_title: str, y_title: str) -> Spec:
    """Return upright bars with their numbers on top.

    Args:
        rows: Name and number of each.
        x_title: What the names are.
        y_title: What the numbers count.
    """
    return _chart_spec(
        220,
        [{"name": name, "value": value, "label": f"{value:,}"} for name, value in rows],
        encoding={
            "x": {"field": "name", "type": "ordinal", "sort": None, "axis": _axis(x_title, labelAngle=0, ticks=False)},
            "y": {
                "field": "value",
                "type": "quantitative",
                "axis": _axis(y_title, labels=False, ticks=False, domain=False),
            },
            "tooltip": _tooltip_encoding("name", "label"),
        },
        layer=[
            {"mark": {"type": "bar", "cornerRadiusEnd": 3}, "encoding": {"color": {"value": _ACCENT}}},
            {"mark": {"type": "text", "dy": -8}, "encoding": {"text": {"field": "label"}}},
        ],
    )


def daily_chart(rows: Sequence[tuple[date, int, float | None]], y_title: str) -> Spec:
    """Return a bar for each day, and a line of the means of 7 days.

    Args:
        rows: Day, number, and mean if there is one.
        y_title: What the numbers count.
    """
    values = [{"day": f"{day}", "value": value, "mean": mean} for day, value, mean in rows]
    layer: list[Spec] = [
        {
            "mark": {"type": "bar", "color": _PALE_ACCENT},
            "encoding": {"y": _count_encoding("value", y_title), "tooltip": _tooltip_encoding("day", "value", "mean")},
        },
        {
            "mark": {"type": "line", "color": _ACCENT, "strokeWidth": 2.5},
            "encoding": {"y": {"field": "mean", "type": "quantitative"}},
        },
    ]
    means = [(day, mean) for day, _, mean in rows if mean is not None]
    if means:
        layer.append(_label_layer(*means[len(means) // 2], "mean of 7 days", _ACCENT, dy=-10))
    return _chart_spec(220, values, encoding={"x": _DAY_ENCODING}, layer=layer)


def stacked_daily_chart(rows: Sequence[tuple[date, int, int]], y_title: str, lower_name: str, upper_name: str) -> Spec:
    """Return a bar of two parts for each day.

    Args:
        rows: Day, number of the lower part, number of the upper part.
        y_title: What the numbers count.
        lower_name: What the lower part is.
        upper_name: What the upper part is.
    """
    values: list[dict[str, object]] = []
    for day, lower_count, upper_count in rows:
        counts = {"day": f"{day}", lower_name: lower_count, upper_name: upper_count}
        values += [
            {**counts, "from": 0, "to": lower_count, "colour": _ACCENT},
            {**counts, "from": lower_count, "to": lower_count + upper_count, "colour": _SECOND_ACCENT},
        ]
    layer: list[Spec] = [
        {
            "mark": "bar",
            "encoding": {
                "y": _count_encoding("from", y_title),
                "y2": {"field": "to"},
                "tooltip": _tooltip_encoding("day", lower_name, upper_name),
                "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
            },
        }
    ]
    for x, text, colour in ((0, lower_name, _ACCENT), (80, upper_name, _SECOND_ACCENT)):
        mark = {"type": "text", "x": x, "y": -12, "align": "left", "color": colour, "fontWeight": "bold"}
        layer.append({"data": {"values": [{}]}, "mark": mark, "encoding": {"x": None, "text": {"value": text}}})
    return {**_chart_spec(220, values, encoding={"x": _DAY_ENCODING}, layer=layer), "padding": {**_PADDING, "top": 24}}


def hourly_heatmap(scans_by_hour: Mapping[WeekdayHour, int], timezone: str) -> Spec:
    """Return a grid of weekdays and hours, in a stronger colour for more.

    Args:
        scans_by_hour: Scans by weekday and hour; those that are missing are not shown.
        timezone: The time zone.
    """
    largest = max(scans_by_hour.values(), default=1)
    values = []
    for weekday, weekday_name in enumerate(WEEKDAYS, 1):
        for hour in range(24):
            scans = scans_by_hour.get((weekday, hour), 0)
            values.append(
                {
                    "weekday": weekday_name,
                    "hour": hour,
                    "scans": scans,
                    "colour": HEAT_COLOURS[-(-scans * 5 // largest)],
                }
            )
    return _chart_spec(
        210,
        values,
        mark={"type": "rect", "stroke": _PAPER, "strokeWidth": 1.5, "cornerRadius": 2},
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
            "tooltip": _tooltip_encoding("weekday", "hour", "scans"),
        },
    )


def cohort_heatmap(rows: Sequence[tuple[str, int, float | None, str]]) -> Spec:
    """Return a grid of cohorts and weeks, with a label in each cell.

    Args:
        rows: Cohort, weeks later, retention from 0 to 1 if it is shown, and label.
    """
    values = [
        {
            "cohort": cohort,
            "week": week,
            "label": label,
            "colour": HEAT_COLOURS[0 if retention is None else min(3, 1 + int(retention * 4))],
        }
        for cohort, week, retention, label in rows
    ]
    return _chart_spec(
        28 * len({cohort for cohort, *_ in rows}) + 48,
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
                "mark": {"type": "rect", "stroke": _PAPER, "strokeWidth": 1.5, "cornerRadius": 2},
                "encoding": {"color": {"field": "colour", "type": "nominal", "scale": None, "legend": None}},
            },
            {"mark": {"type": "text", "fontSize": 12}, "encoding": {"text": {"field": "label"}}},
        ],
    )


_DAY_ENCODING: Final[Spec] = {
    "field": "day",
    "type": "temporal",
    "timeUnit": "utcyearmonthdate",
    "axis": _axis(None, format="%-d %b", tickCount=6, labelOverlap=True),
}


def _tooltip_encoding(*fields: str) -> list[Spec]:
    return [{"field": field} for field in fields]  # of an interactive chart


def _count_encoding(field: str, title: str) -> Spec:
    return {
        "field": field,
        "type": "quantitative",
        "axis": {"title": title, "tickCount": 4, "domain": False, "ticks": False},
    }


def _label_layer(day: date, value: float, text: str, colour: str, **mark_properties: object) -> Spec:
    """Return a text in a chart of days."""
    return {
        "data": {"values": [{"day": f"{day}", "value": value, "label": text}]},
        "mark": {"type": "text", "color": colour, "fontWeight": "bold", **mark_properties},
        "encoding": {"y": {"field": "value", "type": "quantitative"}, "text": {"field": "label"}},
    }
