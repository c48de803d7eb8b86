"""``distinct-async report``: an experience as one HTML file."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import fields, frozen

from distinct_async.cli import exits
from distinct_async.cli.client import make_client, read_key_file
from distinct_async.cli.console import Move, open_stderr
from distinct_async.cli.options import Common, Output
from distinct_async.cli.output import Shape, open_output
from distinct_async.cli.signals import run

if TYPE_CHECKING:
    from distinct_async.etl import ReportResult


@frozen
class ReportRow:
    """What was written."""

    file: str
    timezone: str
    visits: int
    visitors: int
    missing: int
    complete: bool


REPORT: Final = Shape("reports", tuple(each.name for each in fields(ReportRow)))


def write_report(experience_id: str, file: Path, options: Mapping[str, Any], output: Output, common: Common) -> int:
    """Write a report, and a row about it to stdout.

    Args:
        experience_id: What it is about.
        file: The HTML file.
        options: The other arguments of `etl.report`.
        output: How the row is written.
        common: The options of all commands.

    Returns:
        The exit code: PARTIAL if declared rows are missing.
    """
    from distinct_async import etl  # noqa: PLC0415  # --help does without

    with open_stderr(common, job=True) as stderr:
        client = None if options["offline"] else make_client(common, read_key_file(common, stderr))

        async def work(move: Move) -> "ReportResult":
            try:
                return await etl.report(
                    client,
                    experience_id,
                    file,
                    on_progress=lambda now: move(now.rows, now.expected, now.retries),
                    **options,
                )
            finally:
                if client is not None:
                    await client.close()

        with stderr.progress("visits", keep=True) as move:
            result = run(work(move))
        with open_output(REPORT, output, stderr) as writer:
            row = (result.timezone, result.visits, result.visitors, result.missing, result.complete)
            writer.write([ReportRow(str(file), *row)])
        if not result.complete:
            stderr.say("not complete: the vendor declares visits that were not listed; the report says how many")
    return exits.OK if result.complete else exits.PARTIAL
