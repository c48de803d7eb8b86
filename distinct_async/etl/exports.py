"""Into one file: Parquet, CSV or JSON lines, written atomically, with a manifest that proves what is in it."""

from collections.abc import Callable, Iterable
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

from attrs import frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.etl.extras import requires_extra
from distinct_async.etl.options import JobOptions, OnJobDrift
from distinct_async.etl.results import Progress, Result
from distinct_async.etl.runner import run_job
from distinct_async.files import resolve_path
from distinct_async.models import VisitsType

FileFormat = Literal["parquet", "csv", "jsonl"]
_SUFFIX_FORMATS: dict[str, FileFormat] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


@frozen(kw_only=True)
class ExportResult(Result):
    """What an export did; `rows` are those of the file, or of the parts if the file is not complete.

    Attributes:
        path: The absolute path of the file.
        manifest: The path of the JSON document that proves what is in it.
    """

    path: Path
    manifest: Path


async def export(
    client: DistinctClient,
    experience_id: str | Iterable[str],
    path: str | PathLike[str],
    *,
    visits_type: VisitsType | None = "TOTAL",
    touchpoint_ids: Iterable[str] | None = None,
    format: FileFormat | None = None,  # noqa: A002  # the word that everybody uses
    on_drift: OnJobDrift = "raise",
    page_size: int | None = 500,
    prefetch: int = 4,
    batch_rows: int = 50_000,
    safe_cells: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
) -> ExportResult:
    """Write an experience's visits to one file, and a manifest that proves what is in it (extra ``arrow``).

    Columns are those of `batches`; touchpoint by touchpoint, each list in its order. Until the end there is only the
    folder ``<path>.parts``: an unfinished export never looks complete. Run again after a crash or an error, it does not
    request what the folder holds. At the end the file replaces an older one atomically, with ``<path>.manifest.json``
    beside it: the question, declared and written rows, completeness and checkpoint of each list, the version of this
    library.

    Args:
        client: A client with a Distinct key.
        experience_id: The experience's id, as in your Distinct account; or several ids, read at once.
        path: The file; its folder is created if it is missing. If it is a link, the file that it leads to is replaced.
            Of two exports to it at once, one ends with an error.
        visits_type: ``"TOTAL"`` (every scan) or ``"UNIQUE"`` (each user's first); None for both.
        touchpoint_ids: Only these touchpoints, of one experience; None for all.
        format: ``"parquet"``, ``"csv"`` or ``"jsonl"`` (JSON lines); None for the one that the path's suffix names.
            If the suffix names another, that is an error.
        on_drift: What to do if rows have moved during a walk, or since a crash: ``"raise"`` a `DriftError`, or
            ``"rebuild"``: read that list from its start.
        page_size: Visits per request, 1 or more; None for the server's default, 50. A server may cap it silently.
        prefetch: Pages requested ahead in each list, 1 or more.
        batch_rows: Rows in a part, about; 1 or more.
        safe_cells: Put an apostrophe before each CSV text that a spreadsheet would run as a formula (``=``, ``+``,
            ``-``, ``@``). The texts are then no longer the vendor's.
        on_progress: Called with a `Progress` after each page.

    Returns:
        What was done.

    Raises:
        InvalidRequestError: An option is invalid, or the folder holds parts of another export; nothing was sent.
        ConfigurationError: The extra is missing.
        StorageError: The file system refuses, or a part is damaged.
        DistinctError: A list failed; raised after the others are finished (a refused key ends all at once), with what
            was done in its `result`. The parts stay.
    """
    options = JobOptions(
        ids_or_plan=experience_id,
        visits_type=visits_type,
        touchpoint_ids=touchpoint_ids,
        on_drift=on_drift,
        page_size=page_size,
        prefetch=prefetch,
        on_progress=on_progress,
        batch_rows=batch_rows,
    )
    return await export_with(client, options, path, format, safe_cells=safe_cells)


async def export_with(
    client: DistinctClient,
    options: JobOptions,
    path: str | PathLike[str],
    file_format: FileFormat | None,
    *,
    safe_cells: bool = False,
) -> ExportResult:
    """Export, as `export` does, with validated options."""
    with requires_extra("arrow"):
        from distinct_async.etl.destinations.files import SUFFIXES, FileDestination, manifest_of
    target = resolve_path(path, suffixes=SUFFIXES, new_parent=True)
    resolved_format = resolve_format(Path(path), file_format)
    if safe_cells and resolved_format != "csv":
        raise InvalidRequestError(f"safe_cells is an option of CSV, and the format is {resolved_format!r}")
    destination = partial(
        FileDestination,
        target,
        resolved_format,
        options.experience_ids,
        options.visits_type,
        touchpoint_ids=options.touchpoint_ids,
        safe_cells=safe_cells,
    )
    make_result = partial(ExportResult, path=target, manifest=manifest_of(target))
    return await run_job(client, options, destination, make_result)


def resolve_format(path: Path, file_format: str | None) -> FileFormat:
    """Return the format that the file name and the option agree on.

    Args:
        path: The file.
        file_format: The option; None if it was not given.

    Raises:
        InvalidRequestError: They contradict each other, or neither names a format.
    """
    suffix_format = _SUFFIX_FORMATS.get(path.suffix.lower())
    if file_format is None:
        if suffix_format is None:
            formats = "'parquet', 'csv' or 'jsonl'"
            raise InvalidRequestError(f"cannot infer the format from {path.name!r}; pass format={formats}")
        return suffix_format
    for each in _SUFFIX_FORMATS.values():
        if each == file_format:
            if suffix_format not in {None, each}:
                raise InvalidRequestError(
                    f"format={file_format!r} contradicts the file name {path.name!r}; drop one of them"
                )
            return each
    raise InvalidRequestError(f"format must be 'parquet', 'csv' or 'jsonl', got {file_format!r}")
