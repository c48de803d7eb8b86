"""``distinct-async export`` and ``sync``: the jobs of `distinct_async.etl`, with progress and a summary."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from distinct_async import DistinctClient
from distinct_async.cli import exits
from distinct_async.cli.aside import Aside
from distinct_async.cli.delivery import Delivery, Shape
from distinct_async.cli.keys import client_of
from distinct_async.cli.options import Common, Output
from distinct_async.cli.stopping import run
from distinct_async.errors import DistinctError

if TYPE_CHECKING:
    from distinct_async.etl import Progress, Result

_STANDS: Final = "what is written stands, and the same command goes on from there"

Job = Callable[[DistinctClient, "Callable[[Progress], object]"], "Awaitable[Result]"]


@frozen
class Summary:
    """What a job did, as a row."""

    file: str
    rows: int
    expected: int
    complete: bool
    failures: int
    requests: int
    retries: int
    elapsed: float


SUMMARY: Final = Shape(
    "jobs", ("file", "rows", "expected", "complete", "failures", "requests", "retries", "elapsed"), wide=("requests",)
)


def done(job: Job, file: Path, output: Output, common: Common) -> int:
    """Do the job, and write its summary; the exit code is 8 where rows that were declared did not come.

    :raises PartialError: where an error ended it, and something was written.
    """
    with Aside(common) as aside, Delivery(SUMMARY, output) as delivery:
        try:
            with aside.progress("visits", streams=False) as moved:
                result = run(_ran(job, client_of(common, aside), moved))
        except DistinctError as error:
            if error.result is None:
                raise
            _tell(error.result, file, delivery)
            for failure in error.result.failures:
                if failure.error is not error:
                    aside.say(f"{failure.work.touchpoint.id}: {exits.line(failure.error)}")
            if error.result.rows:
                raise exits.PartialError(_STANDS) from error
            raise
        except (KeyboardInterrupt, SystemExit):
            aside.say(f"interrupted; {_STANDS}")
            raise
        _tell(result, file, delivery)
        if not result.complete:
            aside.say(f"not complete: the experience declares {result.expected:,} visits, and some were not listed")
            return exits.PARTIAL
    return exits.FINE


async def _ran(job: Job, client: DistinctClient, moved: Callable[[int, int | None, int], None]) -> "Result":
    def move(progress: "Progress") -> None:
        moved(progress.rows, progress.expected, progress.retries)

    async with client:
        return await job(client, move)


def _tell(result: "Result", file: Path, delivery: Delivery) -> None:
    row = Summary(
        str(file),
        result.rows,
        result.expected,
        result.complete,
        len(result.failures),
        result.requests,
        result.retries,
        round(result.elapsed, 3),
    )
    delivery.put([row])
    delivery.finish()
