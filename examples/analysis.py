"""An analysis: at which hours do people come, and how many for the first time? Visits into Polars, and a plot.

``python -m examples.analysis exp-1 visits.png``
"""

import asyncio
import sys
from pathlib import Path

import matplotlib as mpl
import polars as pl
from matplotlib import pyplot as plt

from distinct_async import DistinctClient, etl

mpl.use("agg")  # draws into a file, not a window


async def visits_of(client: DistinctClient, experience_id: str) -> pl.DataFrame:
    """Return every visit of an experience, with the columns of `etl.batches`."""
    async with etl.stream(client, experience_id, page_size=500) as stream:
        return await asyncio.to_thread(pl.DataFrame, stream)  # this thread's event loop makes the requests


def by_hour(visits: pl.DataFrame) -> pl.DataFrame:
    """Count visits and newcomers for each of the 24 hours of the day."""
    newcomer = pl.struct("touchpoint_id", "user_id").is_first_distinct()
    counted = (
        visits.sort("timestamp_utc")
        .with_columns(hour=pl.col("timestamp_utc").dt.hour().cast(pl.Int64), newcomer=newcomer)
        .group_by("hour")
        .agg(visits=pl.len(), newcomers=pl.col("newcomer").sum())
    )
    hours = pl.DataFrame({"hour": pl.int_range(24, eager=True)})
    return hours.join(counted, on="hour", how="left").fill_null(0).sort("hour")


def draw(hours: pl.DataFrame, picture: Path) -> None:
    """Draw the hours as bars, newcomers in front of all visits."""
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.bar(hours["hour"], hours["visits"], color="#9fd3d1", label="visits")
    axes.bar(hours["hour"], hours["newcomers"], color="#0b6e6e", label="first visits")
    axes.set(xlabel="hour of the day (UTC)", xticks=range(0, 24, 3))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=144)
    plt.close(figure)


async def main(experience_id: str, picture: str) -> None:
    """Print the table, and draw it."""
    async with DistinctClient() as client:
        visits = await visits_of(client, experience_id)
    hours = by_hour(visits)
    print(hours)
    draw(hours, Path(picture))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
