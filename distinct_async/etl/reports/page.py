"""A report as one HTML file that loads nothing: readable in light and dark, on a telephone and on paper."""

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

from distinct_async.etl.reports.charts import DARK_COLOURS, render_svg, replace_invalid_characters, vega_bundle
from distinct_async.etl.reports.figures import Figures
from distinct_async.etl.reports.sections import Section, format_day, plural
from distinct_async.version import __version__

_DARK_RULES: Final = "".join(
    f'svg [{attribute}="{light}"]{{{attribute}:{dark}}}'
    for light, dark in DARK_COLOURS.items()
    for attribute in ("fill", "stroke")
)
_STYLE: Final = f"""
:root{{color-scheme:light dark;--paper:#fff;--ink:#1d2530;--muted:#5a6573;--line:#e4e8ed;--bad:#b3261e;--good:#1c7a3e}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink)}}
body{{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}}
header,main,footer{{max-width:1240px;margin:auto;padding:0 16px}}
header{{padding-top:28px}}
h1{{font-size:26px;line-height:1.2;margin:0;overflow-wrap:anywhere}}
h2{{font-size:17px;line-height:1.3;margin:0 0 2px;overflow-wrap:anywhere}}
p{{margin:0 0 8px}}
.muted,footer{{color:var(--muted);font-size:13px}}
.totals{{display:flex;flex-wrap:wrap;gap:6px 32px;margin:16px 0;padding:0;list-style:none}}
.totals b{{display:block;font-size:22px;line-height:1.2}}
.good{{color:var(--good)}} .bad{{color:var(--bad)}}
main{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:16px}}
section{{border:1px solid var(--line);border-radius:10px;padding:16px;min-width:0;break-inside:avoid}}
figure{{margin:10px 0}}
figure.vega-embed{{display:block;padding:0}}
svg{{display:block;width:100%;height:auto;overflow:visible}}
summary{{cursor:pointer;color:var(--muted);font-size:13px}}
.scroll{{overflow-x:auto;max-height:420px}}
table{{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;width:100%}}
th,td{{padding:3px 8px;border-bottom:1px solid var(--line);text-align:right;font-weight:normal}}
th:first-child,td:first-child{{text-align:left;overflow-wrap:anywhere}}
thead th{{color:var(--muted)}}
footer{{padding-top:16px;padding-bottom:32px}}
@media screen and (prefers-color-scheme:dark){{
:root{{--paper:#12171e;--ink:#e8ecf1;--muted:#9fabba;--line:#2a323d;--bad:#ff8a80;--good:#6fd08c}}
{_DARK_RULES}
}}
@media print{{
@page{{size:A4;margin:12mm}}
body{{font-size:12px;print-color-adjust:exact;-webkit-print-color-adjust:exact}}
main{{grid-template-columns:1fr 1fr;gap:8px}}
h2{{font-size:13px}} .muted{{font-size:10px}} p{{margin-bottom:4px}}
header{{padding-top:0}} section{{padding:10px}} figure{{margin:4px 0}}
details{{display:none}}
}}
"""


def render(figures: Figures, sections: Sequence[Section], *, interactive: bool = False) -> bytes:
    """Return the file.

    Args:
        figures: For the heading.
        sections: The findings.
        interactive: Whether a script in the file draws the charts again, with details under the mouse.
    """
    policy, script = f"default-src 'none'; style-src {_csp_hash(_STYLE)}; base-uri 'none'; form-action 'none'", ""
    if interactive:
        bundle_script = vega_bundle()
        # Vega compiles its expressions, and its tooltips bring a style of their own
        policy = f"{policy}; script-src {_csp_hash(bundle_script)} 'unsafe-eval'".replace(
            _csp_hash(_STYLE), "'unsafe-inline'"
        )
        specs = {f"f{number}": each.chart for number, each in enumerate(sections) if each.chart is not None}
        specs_json = msgspec.json.encode(specs).decode().replace("<", "\\u003c")
        script = f'<script type="application/json" id="charts">{specs_json}</script><script>{bundle_script}</script>'
    title = f"Experience {figures.selection.experience_id}"
    fragments = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{_escape(title)}</title><style>{_STYLE}</style></head><body>",
        _render_header(figures, title),
        "<main>",
        *(_render_section(each, number) for number, each in enumerate(sections)),
        "</main>",
        f"<footer>Made by distinct-async {_escape(__version__)}. People are counted, never listed.</footer>",
        f"{script}</body></html>\n",
    ]
    return "".join(fragments).encode()


def _csp_hash(text: str) -> str:
    """Return the source of a Content-Security-Policy that allows a text of this page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _escape(value: object) -> str:
    """Return a text for HTML."""
    return escape(str(replace_invalid_characters(f"{value:,}" if isinstance(value, int) else str(value))))


def _render_header(figures: Figures, title: str) -> str:
    selection = figures.selection
    if figures.first is None or figures.last is None:
        period = "No scans" + (" in these days" if selection.since or selection.until else "")
    else:
        first, last = selection.since or figures.first.date(), selection.until or figures.last.date()
        period = format_day(first) if first == last else f"{format_day(first)} to {format_day(last)}"
    totals = [
        (f"{figures.visits:,}", "scan" if figures.visits == 1 else "scans"),
        (f"{figures.visitors:,}", "person" if figures.visitors == 1 else "people"),
        (f"{figures.touchpoints:,}", "touchpoint" if figures.touchpoints == 1 else "touchpoints"),
    ]
    css_class, status = ("good", "Complete") if figures.complete else ("bad", "Not complete")
    completeness = (
        f"{status}: {figures.declared:,} declared by the vendor, {figures.stored:,} stored, {figures.missing:,} missing"
    )
    made_at = f"{figures.made_at:%H:%M} on {format_day(figures.made_at.date())}"
    return (
        f'<header><h1>{_escape(title)}</h1><p class="muted">{_escape(period)}. All times are '
        f'{_escape(selection.timezone)} time. Made at {_escape(made_at)}.</p><ul class="totals">'
        + "".join(f"<li><b>{number}</b> {name}</li>" for number, name in totals)
        + f'</ul><p class="{css_class}">{_escape(completeness)}</p></header>'
    )


def _render_section(section: Section, number: int) -> str:
    fragments = [f'<section aria-labelledby="s{number}"><h2 id="s{number}">{_escape(section.title)}</h2>']
    fragments.append(f'<p class="muted">{_escape(section.about)}</p>')
    if section.chart is not None:
        fragments.append(f'<figure id="f{number}">{_render_chart(section, number)}</figure>')
    fragments += [f'<p class="muted">{_escape(note)}</p>' for note in section.notes]
    if section.rows:
        head = "".join(f'<th scope="col">{_escape(name)}</th>' for name in section.columns)
        rows = "".join(
            f'<tr><th scope="row">{_escape(first)}</th>{"".join(f"<td>{_escape(value)}</td>" for value in rest)}</tr>'
            for first, *rest in section.rows
        )
        fragments.append(
            f'<details><summary>{_escape(plural(len(section.rows), "row"))} as a table</summary><div class="scroll">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
        )
    return "".join([*fragments, "</section>"])


def _render_chart(section: Section, number: int) -> str:
    """Return the chart as one image with a text alternative; its parts are in the table."""
    svg = render_svg(section.chart or {}, f"c{number}")
    attributes = (
        f'role="img" aria-label="{_escape(section.title)}. {_escape(section.about)} The numbers are in the table."'
    )
    return re.sub(r'^<svg [^>]*?width="[^"]*" height="[^"]*"', f"<svg {attributes}", svg, count=1)
