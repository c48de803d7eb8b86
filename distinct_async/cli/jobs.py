"""``distinct-async export``, ``sync`` and ``report``: jobs of `distinct_async.etl`, with progress and a summary."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distinct_async.cli import exits
from distinct_async.cli.console import Stderr, UpdateProgress, open_stderr, plural
from distinct_async.cli.options import CommonOptions, JobReadOptions, OutputOptions, open_client
from distinct_async.cli.output import RowLayout, open_output
from distinct_async.errors import DistinctError, DriftError

if TYPE_CHECKING:
    from distinct_async.etl import Progress, ReportResult, Result

_RESUME_HINT: Final = "rows written so far are kept; run the same command to continue"

JobFunction = Callable[..., "Awaitable[Result]"]


# What a job did with an experience; `requests` are all, also the one that lists the touchpoints
SUMMARY_LAYOUT: Final = RowLayout(
    "jobs", ("file", "rows", "expected", "complete", "failures", "requests", "retries", "elapsed", "experience_id")
)
REPORT_LAYOUT: Final = RowLayout("reports", ("file", "timezone", "visits", "visitors", "missing", "complete"))


def run_job(
    job: JobFunction,
    experience_ids: Sequence[str],
    file: Path,
    read_options: JobReadOptions,
    output: OutputOptions,
    common_options: CommonOptions,
) -> int:
    """Run a job and write its summary, a row for each experience.

    Args:
        job: The job: a function of `distinct_async.etl`.
        experience_ids: What it reads.
        file: What it writes.
        read_options: Which rows, and how.
        output: How the summary is written.
        common_options: The options of all commands.

    Returns:
        The exit code: PARTIAL if declared rows did not come.

    Raises:
        PartialError: An error ended it after something was written.
    """
    with open_stderr(common_options, job=True) as stderr:
        client = open_client(common_options, stderr.say)
        error: DistinctError | None = None

        async def run_with_client(update_progress: UpdateProgress) -> "Result":
            async with client:
                return await job(
                    client,
                    experience_ids if len(experience_ids) > 1 else experience_ids[0],
                    file,
                    visits_type=read_options.visits_type,
                    on_drift="rebuild" if read_options.rebuild else "raise",
                    page_size=read_options.page_size,
                    prefetch=read_options.prefetch,
                    on_progress=_make_callback(update_progress),
                )

        try:
            with stderr.progress("visits", keep=True) as update_progress:
                result = exits.run(run_with_client(update_progress))
        except DistinctError as job_error:
            if job_error.result is None:
                raise
            result, error = job_error.result, job_error
        except (KeyboardInterrupt, SystemExit):
            stderr.say(f"interrupted; {_RESUME_HINT}")
            raise
        _write_summary(result, experience_ids, file, output, stderr)
        if error is not None:
            raise _report_failures(error, result, stderr)
        _print_explanations(result, stderr)
    return exits.OK if result.complete else exits.PARTIAL


def _write_summary(
    result: "Result", experience_ids: Sequence[str], file: Path, output: OutputOptions, stderr: Stderr
) -> None:
    results = result.experiences if len(experience_ids) > 1 else {experience_ids[0]: result}
    rows = []
    for experience_id, each in results.items():
        row_figures = (each.rows, each.expected, each.complete, len(each.failures))
        cost_figures = (each.requests + 1, each.retries, round(each.elapsed, 3))
        rows.append(SUMMARY_LAYOUT.row(str(file), *row_figures, *cost_figures, experience_id))
    with open_output(SUMMARY_LAYOUT, output, stderr) as writer:
        writer.write(rows)


def _print_explanations(result: "Result", stderr: Stderr) -> None:
    """Say what the figures of the summary do not say by themselves."""
    if not result.rows:
        stderr.note(f"no new rows: {plural(result.requests + 1, 'request')} in {result.elapsed:.2f} s")
    if result.rows > result.expected:
        stderr.note("rows is above expected: visits were added after the job had read the totals")
    for problem in result.problems:
        stderr.say(f"not complete: {problem}; run the same command again later")


def _report_failures(error: DistinctError, result: "Result", stderr: Stderr) -> exits.PartialError:
    """Report each list that failed in a line, and return the error that ends the command."""
    resume_hint = _RESUME_HINT if result.rows else ""
    failures = [failure.error for failure in result.failures]
    for failure in result.failures:
        where = f"{failure.work.experience_id}, " if len(result.experiences) > 1 else ""
        stderr.say(f"{where}{failure.work}: {exits.error_summary(failure.error).removeprefix(f'{failure.work}: ')}")
    if error not in failures:  # it stopped the whole job
        partial_error = exits.PartialError(resume_hint, kept=bool(resume_hint))
    else:
        error = next((each for each in failures if isinstance(each, DriftError)), error)
        text = "; ".join(
            filter(None, (f"{plural(len(failures), 'list')} failed", exits.error_hint(error), resume_hint))
        )
        partial_error = exits.PartialError(text, kept=bool(resume_hint), reported=True)
    partial_error.__cause__ = error
    return partial_error


def write_report(
    experience_id: str,
    file: Path,
    report_arguments: Mapping[str, Any],
    output: OutputOptions,
    common_options: CommonOptions,
) -> int:
    """Write a report, and a row about it to stdout.

    Args:
        experience_id: What it is about.
        file: The HTML file.
        report_arguments: The other arguments of `etl.report`.
        output: How the row is written.
        common_options: The options of all commands.

    Returns:
        The exit code: PARTIAL if declared rows are missing.
    """
    from distinct_async import etl  # noqa: PLC0415  # --help does without

    with open_stderr(common_options, job=True) as stderr:
        client = None if report_arguments["offline"] else open_client(common_options, stderr.say)

        async def run_with_client(update_progress: UpdateProgress) -> "ReportResult":
            async with client or nullcontext():
                return await etl.report(
                    client, experience_id, file, on_progress=_make_callback(update_progress), **report_arguments
                )

        with stderr.progress("visits", keep=True, shown=client is not None) as update_progress:
            result = exits.run(run_with_client(update_progress))
        with open_output(REPORT_LAYOUT, output, stderr) as writer:
            counts = (result.visits, result.visitors, result.missing)
            writer.write([REPORT_LAYOUT.row(str(file), result.timezone, *counts, result.complete)])
        if not result.complete:
            stderr.say("not complete: the vendor declares visits that were not listed; the report says how many")
    return exits.OK if result.complete else exits.PARTIAL


def _make_callback(update_progress: UpdateProgress) -> "Callable[[Progress], None]":
    return lambda progress: update_progress(progress.rows, progress.expected, progress.retries)
