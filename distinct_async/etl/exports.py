"""Into one file: Parquet, CSV or JSON lines; it appears when it is whole, with a manifest that proves it."""

from collections.abc import Callable
from contextlib import closing
from os import PathLike, fspath
from pathlib import Path
from typing import Literal

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import DistinctError, InvalidRequestError, StorageError
from distinct_async.etl.extras import extra
from distinct_async.etl.jobs import Job, OnHistory
from distinct_async.etl.plans import plan
from distinct_async.etl.results import Progress, Result
from distinct_async.etl.running import check, ending, in_thread, opened, patient, write_all
from distinct_async.models import VisitsType

Format = Literal["parquet", "csv", "jsonl"]
_SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@frozen(kw_only=True)
class ExportResult(Result):
    """What an export did; `rows` are those of the file, or of the parts where it is not whole.

    :ivar path: the file. :ivar manifest: the proof beside it, JSON.
    """

    path: Path
    manifest: Path


async def export(
    client: DistinctClient,
    experience_id: str,
    path: str | PathLike[str],
    *,
    visits_type: VisitsType | None = "TOTAL",
    format: Format | None = None,  # noqa: A002  # the word that everybody uses
    on_drift: OnHistory = "raise",
    page_size: int | None = None,
    prefetch: int = 4,
    on_progress: Callable[[Progress], object] | None = None,
) -> ExportResult:
    """Write an experience's visits to one file, and a manifest that proves what is in it (extra ``arrow``).

    Columns are those of `batches`; touchpoint by touchpoint, each list in its order. Until the end there is only the
    folder ``<path>.parts``: a half export never looks whole. Run again after a crash or an error, it does not ask for
    what is there. At the end the file takes the place of an older one in one step, with ``<path>.manifest.json`` beside
    it: the question, declared and written rows, completeness and checkpoint of each list, the version of this library.

    :param path: the file; its folder is made where it is not there. Of two exports to it at once, one ends in an error.
    :param visits_type: ``"TOTAL"`` or ``"UNIQUE"``; None for both.
    :param format: ``"parquet"``, ``"csv"`` or ``"jsonl"`` (JSON lines); None to go by the path's suffix, which must
        not say another one.
    :param on_drift: where rows have moved under a walk, or since the crash: ``"raise"`` `DriftError`, or
        ``"rebuild"``: walk that list anew.
    :param page_size: visits per request, 1 or more; the server's default is 50.
    :param prefetch: pages asked ahead in each list, 1 or more.
    :param on_progress: called with a `Progress` after each page.
    :raises InvalidRequestError: for options that cannot be meant, and where the parts are of another export; nothing
        was sent.
    :raises ConfigurationError: where the extra is missing.
    :raises StorageError: where the disk refuses.
    :raises DistinctError: where a list failed, once the others are finished; a refused key ends all at once. The
        error's `result` says what was done; the parts stand.
    """
    check(experience_id, visits_type, on_drift, page_size, prefetch)
    target = Path(fspath(path))
    named = _SUFFIXES.get(target.suffix.lower())
    form = format or named
    if form not in _SUFFIXES.values():
        raise InvalidRequestError(
            f"format must be 'parquet', 'csv' or 'jsonl' (or a suffix of {path!s}), got {format!r}"
        )
    if named not in {None, form}:
        raise InvalidRequestError(
            f"format is {form!r}, but {target.name!r} says {named!r}: leave out the one or the other"
        )
    with extra("arrow"):
        from distinct_async.etl.parts import Parts, Question, manifest_of
    client = patient(client)
    stopped: DistinctError | None = None
    async with opened(lambda: closing(Parts(target, Question(experience_id, visits_type)))) as (thread, parts):
        todo = await plan(client, experience_id, visits_type=visits_type)
        job = Job(
            client=client,
            plan=todo,
            standing=parts.standing,
            page_size=page_size,
            prefetch=prefetch,
            on_drift=on_drift,
            on_progress=on_progress,
        )
        try:
            await write_all(job, thread, parts.write)
        except DistinctError as error:
            stopped = error
        figures = job.figures()
        figures["complete"] &= stopped is None
        result = ExportResult(path=target, manifest=manifest_of(target), rows=parts.rows(todo), **figures)
        if stopped is None and not job.failures:
            try:
                await in_thread(thread, parts.join, todo, form, result.complete)
            except StorageError as error:
                stopped = error
    ending(job, stopped, result)
    return result
