"""A service that follows a touchpoint: every new visit, across restarts and outages, until SIGTERM.

If it is killed in the middle of a page, it prints that page again.
``python -m examples.watch tp-1 tp-1.checkpoint`` prints a line for each visit.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from distinct_async import Checkpoint, DistinctClient, Page
from distinct_async.errors import ServerError, TransportError
from distinct_async.models import Visit

PAUSE = 60.0  # seconds between two walks


async def new_pages(
    client: DistinctClient, touchpoint_id: str, saved: Path, pause: float = PAUSE
) -> AsyncGenerator[Page[Visit], None]:
    """Yield new pages without end. A page's checkpoint is saved when the next page is requested."""
    while True:
        walk = client.metrics.total_visits(touchpoint_id, page_size=500)
        if (checkpoint := load(saved)) is not None:
            walk = walk.resume(checkpoint)
        try:
            async with walk.run() as run:
                async for page in run.pages():
                    if page.items:
                        yield page
                    save(page.checkpoint, saved)
        except (TransportError, ServerError) as error:  # an outage: the next walk resumes here
            print(f"retrying later: {error}", file=sys.stderr)
        await asyncio.sleep(pause)


def load(saved: Path) -> Checkpoint | None:
    """Read the checkpoint of the last run, if there was one."""
    return Checkpoint.from_json(saved.read_text(encoding="utf-8")) if saved.exists() else None


def save(checkpoint: Checkpoint, saved: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    new = saved.with_suffix(".new")
    new.write_text(checkpoint.to_json(), encoding="utf-8")
    new.replace(saved)


async def main(touchpoint_id: str, saved: Path) -> None:
    """Print every new visit until SIGTERM or Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with DistinctClient() as client, aclosing(new_pages(client, touchpoint_id, saved)) as pages:
        async for page in pages:
            for visit in page:
                print(visit.timestamp_utc.isoformat(), visit.user_id, flush=True)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
    except asyncio.CancelledError:
        sys.exit(0)
