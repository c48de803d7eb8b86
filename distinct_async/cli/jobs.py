"""``distinct-async export`` and ``sync``: the jobs of `distinct_async.etl`, with progress and a summary on stdout."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import fields, frozen

from distinct_async.cli import exits
from distinct_async.cli.client import make_client, read_key_file
from distinct_async.cli.console import Move, Stderr, count, open_stderr
from distinct_async.cli.options import Common, JobRows, Output
from distinct_async.cli.output import Shape, open_output
from distinct_async.cli.signals import run
from distinct_async.errors import DistinctError, DriftError

if TYPE_CHECKING:
    from distinct_async.etl import Result

_KEPT: Final = "rows written so far are kept; run the same command to continue"

JobFunction = Callable[..., "Awaitable[Result]"]


@frozen
class Summary:
    """What a job did with an experience, as a row; `requests` are all, also the one that lists the touchpoints."""

    file: str
    rows: int
    expected: int
    complete: bool
    failures: int
    requests: int
    retries: int
    elapsed: float
    experience_id: str


SUMMARY: Final = Shape("jobs", tuple(each.name for each in fields(Summary)))


def run_job(
    job: JobFunction, experience_ids: Sequence[str], file: Path, rows: JobRows, output: Output, common: Common
) -> int:
    """Run a job and write its summary, a row for each experience.

    Args:
        job: The job: a function of `distinct_async.etl`.
        experience_ids: What it reads.
        file: What it writes.
        rows: Which rows, and how.
        output: How the summary is written.
        common: The options of all commands.

    Returns:
        The exit code: PARTIAL if declared rows did not come.

    Raises:
        PartialError: An error ended it after something was written.
    """
    with open_stderr(common, job=True) as stderr:
        client = make_client(common, read_key_file(common, stderr))
        error: DistinctError | None = None

        async def work(move: Move) -> "Result":
            async with client:
                return await job(
                    client,
                    experience_ids if len(experience_ids) > 1 else experience_ids[0],
                    file,
                    visits_type=rows.visits_type,
                    on_drift="rebuild" if rows.rebuild else "raise",
                    page_size=rows.page_size,
                    prefetch=rows.prefetch,
                    on_progress=lambda now: move(now.rows, now.expected, now.retries),
                )

        try:
            with stderr.progress("visits", keep=True) as move:
                result = run(work(move))
        except DistinctError as failed:
            if failed.result is None:
                raise
            result, error = failed.result, failed
        except (KeyboardInterrupt, SystemExit):
            stderr.say(f"interrupted; {_KEPT}")
            raise
        _summarize(result, experience_ids, file, output, stderr)
        if error is not None:
            raise _failure(error, result, stderr)
        _explain(result, stderr)
    return exits.OK if result.complete else exits.PARTIAL


def _summarize(result: "Result", experience_ids: Sequence[str], file: Path, output: Output, stderr: Stderr) -> None:
    results = result.experiences if len(experience_ids) > 1 else {experience_ids[0]: result}
    rows = [
        Summary(
            str(file),
            each.rows,
            each.expected,
            each.complete,
            len(each.failures),
            each.requests + 1,
            each.retries,
            round(each.elapsed, 3),
            experience_id,
        )
        for experience_id, each in results.items()
    ]
    with open_output(SUMMARY, output, stderr) as writer:
        writer.write(rows)


def _explain(result: "Result", stderr: Stderr) -> None:
    """Say what the figures of the summary do not say by themselves."""
    if not result.rows:
        stderr.note(f"no new rows: {count(result.requests + 1, 'request')} in {result.elapsed:.2f} s")
    if result.rows > result.expected:
        stderr.note("rows is above expected: visits were added after the job had read the totals")
    for problem in result.problems:
        stderr.say(f"not complete: {problem}; run the same command again later")


def _failure(error: DistinctError, result: "Result", stderr: Stderr) -> exits.PartialError:
    """Report each list that failed in a line, and return the error that ends the command."""
    kept = _KEPT if result.rows else ""
    failures = [failure.error for failure in result.failures]
    for failure in result.failures:
        where = f"{failure.work.experience_id}, " if len(result.experiences) > 1 else ""
        stderr.say(f"{where}{failure.work}: {exits.summary(failure.error).removeprefix(f'{failure.work}: ')}")
    if error not in failures:  # it stopped the whole job
        ending = exits.PartialError(kept, kept=bool(kept))
    else:
        error = next((each for each in failures if isinstance(each, DriftError)), error)
        text = "; ".join(filter(None, (f"{count(len(failures), 'list')} failed", exits.hint(error), kept)))
        ending = exits.PartialError(text, kept=bool(kept), reported=True)
    ending.__cause__ = error
    return ending
