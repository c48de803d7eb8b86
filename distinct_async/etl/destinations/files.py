"""One file, by way of a folder of parts beside it: ``<file>.parts``.

``journal.jsonl`` in the folder has a line for what is exported, one for each run, and one for each closed part: its
slices, and the checkpoints behind them. A part that the journal does not name, and a last line that is torn, do not
count. At the end the parts are joined. Of two exports to one file, the one that finds the journal longer than it has
left it ends. Every method blocks; all are called from one thread.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from distinct_async.errors import CheckpointError, InvalidRequestError, StorageError
from distinct_async.etl.arrow import SCHEMA, complete_columns, group_chunks, record_batch
from distinct_async.etl.destinations import Chunk, ListState
from distinct_async.etl.destinations.formats import WRITERS, parquet_writer
from distinct_async.etl.plans import ListKey, Plan, VisitList
from distinct_async.etl.results import Result
from distinct_async.files import atomic_replace, storage_errors, sync_file
from distinct_async.models import VisitsType
from distinct_async.sansio.pages import Checkpoint
from distinct_async.version import __version__

SUFFIXES = (".parts", ".manifest.json")  # of what is beside the file

_MIN_GROUP_ROWS = 50_000  # in a row group of the file
_OPEN_PARTS, _CACHED_GROUPS = 32, 8
_PARQUET_MAGIC = b"PAR1"
_PART_NAME = re.compile(r"\d{6,}-([0-9a-f]{8})\.parquet")
_JOINED_NAME = re.compile(r"joined-([0-9a-f]{8})")
_PART_COLUMNS = ("touchpoint_id", "visits_type", "position", "user_id", "timestamp_utc")  # those of 0.1.0
_PART_SCHEMA = pa.schema([SCHEMA.field(name) for name in _PART_COLUMNS])


class _JournalHeader(msgspec.Struct, frozen=True):
    """The first line of a journal: what is exported."""

    experience_id: str | tuple[str, ...]  # several if it is a tuple
    visits_type: VisitsType | None  # None for both
    journal: Literal[1] = 1
    touchpoint_ids: tuple[str, ...] | None = None


class _Slice(msgspec.Struct):
    """Rows of one list within a part."""

    touchpoint_id: str
    visits_type: VisitsType
    start: int
    rows: int
    checkpoint: str
    declared: int
    complete: bool
    ascends: bool | None
    rebuild: bool
    # Where in the part; 0.1.0, which did not say so, wrote each slice with rows as a row group of its own
    group: int | None = None
    offset: int = 0
    experience_id: str | None = None  # None if the header names only one


class _PartEntry(msgspec.Struct):
    """A line of a journal: a closed part; without slices, how a run names its parts: ``<number>-<token>.parquet``."""

    name: str
    slices: list[_Slice]


class _ListManifest(msgspec.Struct):
    experience_id: str
    touchpoint_id: str
    visits_type: VisitsType
    name: str | None
    value: str | None
    declared: int
    written: int
    complete: bool
    checkpoint: object


class _Manifest(msgspec.Struct):
    file: str
    format: str
    experience_id: str | tuple[str, ...]
    visits_type: VisitsType | None
    complete: bool
    declared: int
    written: int
    lists: list[_ListManifest]
    finished_at: datetime
    distinct_async: str
    schema_version: int = 2  # of the columns; 1, in 0.1.0, had neither experience_id nor touchpoint_name


class FileDestination:
    """Visits on their way into one file.

    Args:
        target: The file; absolute, with links followed.
        file_format: ``"parquet"``, ``"csv"`` or ``"jsonl"``.
        experience_ids: The experiences.
        visits_type: ``"TOTAL"``, ``"UNIQUE"``, or None for both.
        touchpoint_ids: Only these touchpoints; None for all.
        safe_cells: Whether text that a spreadsheet would run as a formula is defused in CSV.

    Raises:
        StorageError: The file system refuses, or a part is damaged.
        InvalidRequestError: The folder holds parts of another export.
    """

    def __init__(
        self,
        target: Path,
        file_format: str,
        experience_ids: tuple[str, ...],
        visits_type: VisitsType | None,
        *,
        touchpoint_ids: frozenset[str] | None = None,
        safe_cells: bool = False,
    ) -> None:
        self._target, self._format, self._safe_cells = target, file_format, safe_cells
        selected = None if touchpoint_ids is None else tuple(sorted(touchpoint_ids))
        self._experience_ids = experience_ids
        ids = experience_ids[0] if len(experience_ids) == 1 else tuple(sorted(experience_ids))
        self._header = _JournalHeader(ids, visits_type, touchpoint_ids=selected)
        self._folder = target.with_name(f"{target.name}.parts")
        self._journal_file = self._folder / "journal.jsonl"
        # The journal of an export that was killed while tidying up
        self._finished_journal = self._folder / "finished.jsonl"
        self._plans: dict[str, Plan] = {}
        self._list_states: dict[ListKey, ListState] = {}
        self._slices: dict[ListKey, list[tuple[str, _Slice]]] = {}  # the name of the part and the slice, in order
        self._written_rows: dict[ListKey, int] = {}
        self._part_names: list[str] = []
        self._default_experience_id: str | None = None  # the experience of slices that name none
        self._journal_size = 0  # bytes
        self._part_numbers = count()  # of this run
        self._token = secrets.token_hex(4)  # no other export has files of these names
        self._known_tokens = {self._token}
        with self._storage_errors():
            for path in (self._folder, self._journal_file, self._finished_journal):
                if path.is_symlink():
                    raise StorageError(f"{path} is a symbolic link; delete it, an export keeps its own files there")
            if self._folder.is_file():
                raise StorageError(f"{self._folder} is a file; delete or move it, an export keeps its parts there")
            self._new_folders = [each for each in target.parents if not each.is_dir()]
            self._folder.mkdir(parents=True, exist_ok=True)
            if self._finished_journal.exists():
                self._known_tokens.update(_PART_NAME.findall(self._finished_journal.read_text()))
            self._read_journal()

    @property
    def manifest(self) -> Path:
        """The path of the manifest."""
        return manifest_of(self._target)

    def rows(self, experience_id: str) -> int:
        """Return how many rows of an experience's lists the parts have."""
        return sum(self._written_rows.get(each.key, 0) for each in self._plans[experience_id].works)

    @property
    def _lists(self) -> Iterator[VisitList]:
        """The lists, in the order of the file."""
        return (each for experience_id in self._experience_ids for each in self._plans[experience_id].works)

    def _read_journal(self) -> None:
        exists = self._journal_file.exists()
        text = self._journal_file.read_bytes() if exists else b""
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            os.truncate(self._journal_file, len(text) - len(lines.pop()))  # torn
        self._journal_size = sum(map(len, lines))
        try:
            header = msgspec.json.decode(lines[0], type=_JournalHeader) if lines else self._header
            self._default_experience_id = header.experience_id if isinstance(header.experience_id, str) else None
            for line in lines[1:]:
                self._apply_entry(msgspec.json.decode(line, type=_PartEntry))
        except (msgspec.MsgspecError, UnicodeError, CheckpointError) as error:
            raise InvalidRequestError(
                f"{self._folder} was written by another version ({error}); finish it with that version or delete the "
                "folder"
            ) from None
        if not self._is_same_export(header):
            raise InvalidRequestError(
                f"{self._folder} is an unfinished export of {_describe_export(header)}; finish that one or delete the "
                "folder"
            )
        for name in self._part_names:
            self._check_part(name)
        if not lines:
            if exists:
                self._journal_file.unlink(missing_ok=True)  # torn in its first line
            self._append_to_journal(self._header)

    def _is_same_export(self, header: _JournalHeader) -> bool:
        """Return whether the parts of a journal are of this export, and none is of an experience that it leaves out."""
        same_rows = msgspec.structs.replace(header, experience_id=self._header.experience_id) == self._header
        return same_rows and {key.experience_id for key in self._written_rows} <= set(self._experience_ids)

    def _check_part(self, name: str) -> None:
        path = self._folder / name
        try:
            with path.open("rb") as part:
                part.seek(-len(_PARQUET_MAGIC), os.SEEK_END)
                if part.read() == _PARQUET_MAGIC:
                    return
        except OSError:
            pass  # missing, or shorter than that
        raise self._damaged_error(name)

    def _damaged_error(self, name: str) -> StorageError:
        return StorageError(f"{self._folder / name} is damaged or missing; delete {self._folder} and export again")

    def _append_to_journal(self, record: msgspec.Struct) -> None:
        concurrent_export = StorageError(f"{self._target}: another export to this file is running")
        try:
            journal = self._journal_file.open("ab" if self._journal_size else "xb")
        except FileExistsError:
            raise concurrent_export from None
        with journal:
            if journal.tell() != self._journal_size:
                raise concurrent_export
            self._journal_size += journal.write(msgspec.json.encode(record) + b"\n")
            sync_file(journal)

    def _apply_entry(self, entry: _PartEntry) -> None:
        match = _PART_NAME.fullmatch(entry.name)
        if match is None:
            raise CheckpointError(f"{entry.name!r} is not the name of a part")
        self._known_tokens.add(match[1])
        if not entry.slices:
            return
        self._part_names.append(entry.name)
        group_number = 0
        for each in entry.slices:
            experience_id = each.experience_id or self._default_experience_id or ""
            key = ListKey(experience_id, each.touchpoint_id, each.visits_type)
            if each.group is None:
                each.group, group_number = group_number, group_number + bool(each.rows)
            if each.rebuild and each.start == 0:
                self._slices[key], self._written_rows[key] = [], 0
            # Else of another export, in the moment before one of them ended
            if each.start == self._written_rows.get(key, 0):
                if each.rows:
                    self._slices.setdefault(key, []).append((entry.name, each))
                self._written_rows[key] = each.start + each.rows
                checkpoint = Checkpoint.from_json(each.checkpoint)
                self._list_states[key] = ListState(checkpoint, each.declared, each.complete, each.ascends)

    def begin(self, plan: Plan) -> Mapping[ListKey, ListState]:
        """Remember the plan; return the states that the closed parts prove."""
        self._plans[plan.experience_id] = plan
        return {key: state for key, state in self._list_states.items() if key.experience_id == plan.experience_id}

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Close a part with these rows, and name it in the journal."""
        if not chunks:
            return
        with self._storage_errors():
            number = next(self._part_numbers)  # never again: the journal may name a part that failed
            entry = _PartEntry(f"{number:06}-{self._token}.parquet", slices=[])
            if not number:
                self._append_to_journal(entry)  # so that files of a killed run are recognised
            with (self._folder / entry.name).open("wb") as file:
                with parquet_writer(file, _PART_SCHEMA, statistics=False) as writer:
                    # A row group for each long list: it is read without the others
                    for group_number, row_group in enumerate(group_chunks(chunks)):
                        offset = 0
                        for chunk in row_group:
                            entry.slices.append(self._make_slice(chunk, group_number, offset))
                            offset += len(chunk.visits)
                        batch = record_batch(row_group).select(_PART_COLUMNS)
                        writer.write_batch(batch, row_group_size=max(1, offset))
                sync_file(file)
            self._append_to_journal(entry)
        self._apply_entry(entry)

    def _make_slice(self, chunk: Chunk, group_number: int, offset: int) -> _Slice:
        state = chunk.state(self._list_states.get(chunk.visit_list.key))
        experience_id, touchpoint_id, visits_type = chunk.visit_list.key
        return _Slice(
            touchpoint_id,
            visits_type,
            chunk.start,
            len(chunk.visits),
            chunk.checkpoint.to_json(),
            state.declared,
            state.complete,
            state.ascends,
            chunk.rebuild,
            group_number,
            offset,
            None if experience_id == self._default_experience_id else experience_id,
        )

    def finish(self, result: Result) -> None:
        """Replace the file by the joined parts, in the order of the plans, then its manifest; then the parts go."""
        if result.error is not None:
            return
        manifest = self._manifest(complete=result.complete)
        with self._storage_errors():
            joined = self._folder / f"joined-{self._token}"
            with atomic_replace(self._target, joined) as file:
                WRITERS[self._format](file, self._joined_tables(), safe_cells=self._safe_cells)
                self.manifest.unlink(missing_ok=True)  # an older one would not be of this file
            with atomic_replace(self.manifest, joined) as file:
                file.write(msgspec.json.format(msgspec.json.encode(manifest)))
            # No run reads it any more, and it still names what to delete
            self._journal_file.replace(self._finished_journal)
            self._delete_parts()

    def _delete_parts(self) -> None:
        """Delete what the journal named; what somebody else has put into the folder stays, and the folder with it."""
        for path in list(self._folder.iterdir()):
            match = _PART_NAME.fullmatch(path.name) or _JOINED_NAME.fullmatch(path.name)
            if match is not None and match[1] in self._known_tokens:
                path.unlink()
        self._finished_journal.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def close(self) -> None:
        """Leave the parts as they are; if there is none, leave nothing."""
        with suppress(OSError):
            if not self._part_names and self._journal_file.stat().st_size == self._journal_size:
                self._journal_file.unlink()
                self._delete_parts()
                for folder in self._new_folders:
                    folder.rmdir()

    def _joined_tables(self) -> Iterator[pa.Table]:
        """Yield the rows, list by list, in tables of at least `_MIN_GROUP_ROWS`, but for the last."""
        read_group, tables, rows = self._group_reader(), list[pa.Table](), 0
        for visit_list in self._lists:
            for name, part_slice in self._slices.get(visit_list.key, ()):
                slice_rows = read_group(name, part_slice.group or 0).slice(part_slice.offset, part_slice.rows)
                if not _matches_slice(slice_rows, part_slice):
                    raise self._damaged_error(name)
                tables.append(complete_columns(slice_rows, visit_list))
                rows += part_slice.rows
                if rows >= _MIN_GROUP_ROWS:
                    yield pa.concat_tables(tables)
                    tables, rows = [], 0
                    pa.default_memory_pool().release_unused()  # it would grow with the file
        yield pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def _group_reader(self) -> Callable[[str, int], pa.Table]:
        """Return what reads a row group of a part."""

        @lru_cache(maxsize=_OPEN_PARTS)
        def open_part(name: str) -> pq.ParquetFile:
            return pq.ParquetFile(self._folder / name)

        @lru_cache(maxsize=_CACHED_GROUPS)
        def read_group(name: str, group_number: int) -> pa.Table:
            try:
                return open_part(name).read_row_group(group_number, use_threads=False)
            except (pa.ArrowException, OSError):
                raise self._damaged_error(name) from None

        return read_group

    def _manifest(self, *, complete: bool) -> _Manifest:
        lists = []
        for each in self._lists:
            state = self._list_states.get(each.key)
            checkpoint = state.checkpoint if state is not None else None
            written = self._written_rows.get(each.key, 0)
            lists.append(
                _ListManifest(
                    *each.key,
                    name=each.touchpoint.name,
                    value=each.touchpoint.value,
                    declared=each.expected,
                    written=written,
                    complete=written >= each.expected and (state is None or state.complete),
                    checkpoint=checkpoint and msgspec.Raw(checkpoint.to_json().encode()),
                )
            )
        return _Manifest(
            file=self._target.name,
            format=self._format,
            experience_id=self._experience_ids[0] if len(self._experience_ids) == 1 else self._experience_ids,
            visits_type=self._header.visits_type,
            complete=complete,
            declared=sum(each.declared for each in lists),
            written=sum(each.written for each in lists),
            lists=lists,
            finished_at=datetime.now(UTC),
            distinct_async=__version__,
        )

    def _storage_errors(self) -> AbstractContextManager[None]:
        return storage_errors(self._target, pa.ArrowException)


def _matches_slice(rows: pa.Table, part_slice: _Slice) -> bool:
    """Return whether the first row and their number are those of the slice: a part may have been exchanged."""
    first = (rows[name][0].as_py() for name in ("touchpoint_id", "position")) if len(rows) else ()
    return (part_slice.rows, part_slice.touchpoint_id, part_slice.start) == (len(rows), *first)


def _describe_export(header: _JournalHeader) -> str:
    ids = header.experience_id
    first_id, *further_ids = map(repr, (ids,) if isinstance(ids, str) else ids)
    more_text = f" and {len(further_ids)} more" if further_ids else ""
    touchpoints_text = "" if header.touchpoint_ids is None else f", touchpoint_ids={header.touchpoint_ids}"
    return f"experience {first_id}{more_text}, visits_type={header.visits_type!r}{touchpoints_text}"


def manifest_of(target: Path) -> Path:
    """Return the path of an export's manifest."""
    return target.with_name(f"{target.name}.manifest.json")
