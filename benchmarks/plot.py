"""Rows a second against latency and window, as a picture for the documentation: ``docs/benchmarks.svg``."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median

from benchmarks.server import Server
from benchmarks.walks import items, turn
from distinct_async import DistinctClient

_PICTURE = Path(__file__).parents[1] / "docs" / "benchmarks.svg"
_LATENCIES, _WINDOWS, _SIZE, _ROUNDS = (0, 1, 5, 20, 50), (1, 2, 4, 8, 16, 32), 50, 5
_INK = "#7a7a7a"  # like the lines' colours, to be read on white and on black
_COLOURS = ("#2f81d7", "#159a80", "#c47a1a", "#c8518a", "#8a6fdb")


async def measured(server: Server) -> Mapping[int, Sequence[float]]:
    """By latency, in milliseconds, the rows a second of each window: medians, the windows taking turns."""
    found = {}
    for latency in _LATENCIES:
        speeds: dict[int, list[float]] = {window: [] for window in _WINDOWS}
        async with DistinctClient("bench", base_url=server.url(latency), max_concurrency=max(_WINDOWS)) as client:
            for _ in range(_ROUNDS + 1):
                for window, seen in speeds.items():
                    # Long enough for the clock, short enough to wait for, and all pages in the server's cache
                    rows = _SIZE * (1 + (512 if latency < 5 else max(24, 16 * window)))
                    cost = await turn(partial(items, client, rows, _SIZE, window), rows)()
                    seen.append(rows / cost["time"])
        found[latency] = [median(seen[1:]) for seen in speeds.values()]  # the first was to warm up
        print(f"{latency:3} ms", *(f"{speed:9,.0f}" for speed in found[latency]), flush=True)
    return found


def draw(found: Mapping[int, Sequence[float]]) -> Path:
    """Draw the picture, and return where it is."""
    import_module("matplotlib").use("svg")
    pyplot = import_module("matplotlib.pyplot")
    style = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
        **{f"axes.spines.{side}": False for side in ("top", "right")},
        "font.size": 11,
        "svg.fonttype": "none",
        "svg.hashsalt": "benchmarks",
    }
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.8), layout="constrained")
        axes.set(xscale="log", yscale="log", xlabel="window: pages asked ahead (prefetch)", ylabel="rows a second")
        axes.set_title(f"Typed rows a second of one walk, {_SIZE} rows a page", loc="left", fontsize=11)
        for (latency, speeds), colour in zip(found.items(), _COLOURS, strict=True):
            axes.plot(_WINDOWS, speeds, color=colour, marker="o", markersize=4, label=f"{latency} ms")
        axes.legend(title="latency", loc="lower right", frameon=False, labelcolor="linecolor", title_fontsize=11)
        axes.set_xticks(_WINDOWS, map(str, _WINDOWS))
        axes.yaxis.set_major_formatter(lambda speed, _: f"{speed:,.0f}")
        axes.minorticks_off()
        axes.grid(color=_INK, alpha=0.25, linewidth=0.6)
        figure.savefig(_PICTURE, transparent=True, metadata={"Date": None})
    return _PICTURE
