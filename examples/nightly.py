"""A nightly job: an experience's visits and its program's impressions into DuckDB, with an exit code for cron.

``python -m examples.nightly exp-1 warehouse.duckdb [PROGRAM]``
"""

import asyncio
import logging
import sys
from pathlib import Path

from distinct_async import DistinctClient, etl
from distinct_async.errors import DistinctError

log = logging.getLogger("nightly")


async def nightly(client: DistinctClient, experience_id: str, database: Path, program_id: str | None = None) -> bool:
    """Return whether every declared row is in the database and nothing failed."""
    ok = True
    try:
        # A list whose history has changed is replaced, in one transaction, by what the server returns now
        result = await etl.sync(client, experience_id, database, on_drift="rebuild", page_size=500)
        log.info("%d new visits of %d in %.1f s", result.rows, result.expected, result.elapsed)
        ok = result.complete
    except DistinctError as error:
        for failure in error.result.failures if error.result is not None else ():
            log.error("%s: %s", failure.work, failure.error)
        log.error("visits: %s", error)
        ok = False
    if program_id is not None:
        try:
            found = await etl.sync_impressions(client, database, program_id=program_id, page_size=100)
            log.info("%d impressions in %.1f s", found.rows, found.elapsed)
        except DistinctError as error:
            log.error("impressions: %s", error)
            ok = False
    return ok


async def main(experience_id: str, database: str, program_id: str | None = None) -> int:
    """Return the exit code."""
    async with DistinctClient() as client:
        return 0 if await nightly(client, experience_id, Path(database), program_id) else 1


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.exit(asyncio.run(main(*sys.argv[1:])))
