"""The picture of the documentation, ``docs/benchmarks.svg``, drawn from the last table in ``README.md``."""

import re
from html import escape
from pathlib import Path

_PICTURE = Path(__file__).parents[1] / "docs" / "benchmarks.svg"
_SECTION = r"^httpx [\d.]+, pydantic [\d.]+, walk, 5 ms, {} a page,.*?\n\n"
_SPEED = r"^  {} +[\d.]+ +[\d.]+ +([\d.]+)"
_SIZES = (50, 1000)
_WAYS = (
    ("theirs, one after the other", "httpx and pydantic, one request at a time"),
    ("theirs, window 32", "httpx and pydantic, 32 requests at once"),
    ("by hand, one after the other", "aiohttp and plain dicts, one request at a time"),
    ("ours, window 8, items", "distinct-async, prefetch=8"),
    ("ours, window 32, items", "distinct-async, prefetch=32"),
)
_FLOOR = "by hand, one after the other"
# The variables are those of the site's theme; a picture in a page of its own, as on GitHub, has the values behind them.
_STYLE = """
    .speeds { width: 100%; max-width: 36rem; font: 12px system-ui, sans-serif;
      --ink: var(--color-foreground-primary, #1b1b1b); --soft: var(--color-foreground-muted, #5f6368);
      --ours: var(--color-brand-content, #0b6e6e); }
    @media (prefers-color-scheme: dark) {
      .speeds { --ink: var(--color-foreground-primary, #e6e6e6); --soft: var(--color-foreground-muted, #a8adb4);
        --ours: var(--color-brand-content, #5cc8c2); }
    }
    .speeds text { fill: var(--ink); }
    .speeds .title { font-weight: 600; font-size: 13px; }
    .speeds .value { font-weight: 600; }
    .speeds rect { fill: var(--soft); rx: 2px; }
    .speeds rect.ours { fill: var(--ours); }
"""


def speeds(readme: str, size: int) -> dict[str, float]:
    """How many times as fast as the floor each way is, by its name, for pages of so many rows."""
    section = re.search(_SECTION.format(size), readme, re.MULTILINE | re.DOTALL)
    if section is None:
        raise SystemExit(f"the last table in README.md has no walk of httpx and pydantic, 5 ms, {size} a page")
    return {name: float(re.findall(_SPEED.format(name), section[0], re.MULTILINE)[0]) for name, _ in _WAYS}


def drawn(readme: str) -> str:
    """Return the picture of a README's last table."""
    found = {size: speeds(readme, size) for size in _SIZES}
    scale = 300 / max(max(each.values()) for each in found.values())
    lines, y = [], 14
    for size, each in found.items():
        lines.append(f'<text class="title" x="2" y="{y}">5 ms of latency, {size:,} rows a page</text>')
        for name, label in _WAYS:
            kind, speed = ' class="ours"' if name.startswith("ours") else "", each[name]
            shown = f"{speed:.2g} x" + (": the baseline" if name == _FLOOR else "")
            lines += [
                f'<text x="2" y="{y + 22}">{escape(label)}</text>',
                f'<rect{kind} x="2" y="{y + 27}" width="{speed * scale:.1f}" height="12"/>',
                f'<text class="value" x="{speed * scale + 8:.1f}" y="{y + 37}">{shown}</text>',
            ]
            y += 36
        y += 30
    text = "Speed of one walk beside a loop over aiohttp: the figures are in benchmarks/README.md"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 360 {y - 16}" class="speeds" role="img"'
    body = "\n  ".join(lines)
    return f'{head} aria-label="{text}">\n  <style>{_STYLE}  </style>\n  {body}\n</svg>\n'


def draw(readme: str) -> Path:
    """Draw the picture, and return where it is."""
    _PICTURE.write_text(drawn(readme), encoding="utf-8")
    return _PICTURE
