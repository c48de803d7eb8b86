"""``distinct-async export``, ``sync`` and ``report``: jobs of `distinct_async.etl`, with progress and a summary."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distinct_async.cli import exits
from distinct_async.cli.console import Move, Stderr, count, open_stderr
from distinct_async.cli.options import Common, JobRows, Output, open_client
from distinct_async.cli.output import Shape, open_output
from distinct_async.errors import DistinctError, DriftError

if TYPE_CHECKING:
    from distinct_async.etl import Progress, ReportResult, Result

_KEPT: Final = "rows written so far are kept; run the same command to continue"

JobFunction = Callable[..., "Awaitable[Result]"]


# What a job did with an experience; `requests` are all, also the one that lists the touchpoints
SUMMARY: Final = Shape(
    "jobs", ("file", "rows", "expected", "complete", "failures", "requests", "retries", "elapsed", "experience_id")
)
REPORT: Final = Shape("reports", ("file", "timezone", "visits", "visitors", "missing", "complete"))


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
        client = open_client(common, stderr.say)
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
                    on_progress=_show(move),
                )

        try:
            with stderr.progress("visits", keep=True) as move:
                result = exits.run(work(move))
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
    rows = []
    for experience_id, each in results.items():
        read = (each.rows, each.expected, each.complete, len(each.failures))
        spent = (each.requests + 1, each.retries, round(each.elapsed, 3))
        rows.append(SUMMARY.row(str(file), *read, *spent, experience_id))
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


def write_report(experience_id: str, file: Path, given: Mapping[str, Any], output: Output, common: Common) -> int:
    """Write a report, and a row about it to stdout.

    Args:
        experience_id: What it is about.
        file: The HTML file.
        given: The other arguments of `etl.report`.
        output: How the row is written.
        common: The options of all commands.

    Returns:
        The exit code: PARTIAL if declared rows are missing.
    """
    from distinct_async import etl  # noqa: PLC0415  # --help does without

    with open_stderr(common, job=True) as stderr:
        client = None if given["offline"] else open_client(common, stderr.say)

        async def work(move: Move) -> "ReportResult":
            async with client or nullcontext():
                return await etl.report(client, experience_id, file, on_progress=_show(move), **given)

        with stderr.progress("visits", keep=True, shown=client is not None) as move:
            result = exits.run(work(move))
        with open_output(REPORT, output, stderr) as writer:
            counts = (result.visits, result.visitors, result.missing)
            writer.write([REPORT.row(str(file), result.timezone, *counts, result.complete)])
        if not result.complete:
            stderr.say("not complete: the vendor declares visits that were not listed; the report says how many")
    return exits.OK if result.complete else exits.PARTIAL


def _show(move: Move) -> "Callable[[Progress], None]":
    return lambda now: move(now.rows, now.expected, now.retries)
