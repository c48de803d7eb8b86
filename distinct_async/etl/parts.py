"""The parts of an export that is under way, in a directory beside the target.

``journal.jsonl`` has a line for the question and one for each closed part: its slices, and the checkpoints behind them.
A part that the journal does not name, and a last line that is torn, never were. At the end the parts are joined. Of
two exports to one target, the one that finds the journal longer than it has left it ends. Every method blocks; all are
called in one and the same thread.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import uuid4

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from distinct_async.errors import CheckpointError, InvalidRequestError, StorageError
from distinct_async.etl.arrow import SCHEMA, record_batch
from distinct_async.etl.formats import WRITERS, parquet_writer
from distinct_async.etl.jobs import Chunk, Key, Standing
from distinct_async.etl.plans import Plan
from distinct_async.models import VisitsType
from distinct_async.sansio.pages import Checkpoint
from distinct_async.version import __version__

_JOINED_ROWS = 50_000  # at least, in a row group of the target
_OPEN = 4  # parts


class Question(msgspec.Struct, frozen=True):
    """What is exported: the first line of a journal."""

    experience_id: str
    visits_type: VisitsType | None
    journal: Literal[1] = 1


class _Slice(msgspec.Struct):
    """Rows of one list within a part, a row group of it (none where there are no rows)."""

    touchpoint_id: str
    visits_type: VisitsType
    start: int
    rows: int
    checkpoint: str
    declared: int
    complete: bool
    ascends: bool | None
    rebuild: bool


class _Part(msgspec.Struct):
    name: str
    slices: list[_Slice]


class _ListManifest(msgspec.Struct):
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
    experience_id: str
    visits_type: VisitsType | None
    complete: bool
    declared: int
    written: int
    lists: list[_ListManifest]
    finished_at: datetime
    distinct_async: str


class Parts:
    """An export under way. :exc:`StorageError` for whatever the disk refuses."""

    def __init__(self, target: Path, question: Question) -> None:
        self._target, self._question = target, question
        self._folder = target.with_name(f"{target.name}.parts")
        self._journal = self._folder / "journal.jsonl"
        self._standing: dict[Key, Standing] = {}
        self._groups: dict[Key, list[tuple[str, int]]] = {}  # part and row group of each slice, in order
        self._written: dict[Key, int] = {}
        self._count = self._length = 0  # lines of the journal that are parts; bytes
        self._token = uuid4().hex[:8]  # no other export has files of these names
        with self._ours():
            if target.exists() and not target.is_file():  # /dev/null, say, is not to be replaced
                raise StorageError(f"{target}: is there, and is no file")
            self._folder.mkdir(parents=True, exist_ok=True)
            self._recall()

    @property
    def standing(self) -> dict[Key, Standing]:
        """What the closed parts have."""
        return dict(self._standing)

    def _recall(self) -> None:
        begun = self._journal.exists()
        told = self._journal.read_bytes() if begun else b""
        lines = told.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            os.truncate(self._journal, len(told) - len(lines.pop()))  # torn
        self._length = sum(map(len, lines))
        try:
            asked = msgspec.json.decode(lines[0], type=Question) if lines else self._question
            for line in lines[1:]:
                self._count += 1
                self._note(msgspec.json.decode(line, type=_Part))
        except (msgspec.MsgspecError, UnicodeError, CheckpointError) as error:
            raise self._foreign(f"is not of this version ({error})") from None
        if asked != self._question:
            raise self._foreign(f"is an unfinished export of another question ({asked})")
        if not lines:
            if begun:
                self._journal.unlink(missing_ok=True)  # torn in its first line
            self._append(self._question)

    def _foreign(self, why: str) -> InvalidRequestError:
        return InvalidRequestError(f"{self._folder} {why}: finish that one, or delete the folder")

    def _append(self, line: msgspec.Struct) -> None:
        not_alone = StorageError(f"{self._target}: another export to this path is going on")
        try:
            journal = self._journal.open("ab" if self._length else "xb")
        except FileExistsError:
            raise not_alone from None
        with journal:
            if journal.tell() != self._length:
                raise not_alone
            self._length += journal.write(msgspec.json.encode(line) + b"\n")
            journal.flush()
            os.fsync(journal.fileno())

    def _note(self, part: _Part) -> None:
        group = 0
        for each in part.slices:
            key = each.touchpoint_id, each.visits_type
            if each.rebuild and each.start == 0:
                self._groups[key], self._written[key] = [], 0
            # Else of another export, in the moment before one of them ended
            if each.start == self._written.get(key, 0):
                if each.rows:
                    self._groups.setdefault(key, []).append((part.name, group))
                self._written[key] = each.start + each.rows
                checkpoint = Checkpoint.from_json(each.checkpoint)
                self._standing[key] = Standing(checkpoint, each.declared, each.complete, each.ascends)
            group += bool(each.rows)

    def write(self, chunks: Sequence[Chunk]) -> None:
        """Close a part with these rows, and put it on record."""
        if not chunks:
            return
        part = _Part(f"{self._count:06}-{self._token}.parquet", [])
        with self._ours():
            with (self._folder / part.name).open("wb") as file, parquet_writer(file) as writer:
                for chunk in chunks:
                    if chunk.visits:
                        writer.write_batch(record_batch(chunk), row_group_size=len(chunk.visits))
                    part.slices.append(self._slice(chunk))
                writer.close()
                os.fsync(file.fileno())
            self._append(part)
        self._count += 1
        self._note(part)

    def _slice(self, chunk: Chunk) -> _Slice:
        touchpoint_id, visits_type = chunk.work.key
        standing = chunk.standing(self._standing.get(chunk.work.key))
        return _Slice(
            touchpoint_id,
            visits_type,
            chunk.start,
            len(chunk.visits),
            chunk.checkpoint.to_json(),
            standing.declared,
            standing.complete,
            standing.ascends,
            chunk.rebuild,
        )

    def rows(self, plan: Plan) -> int:
        """How many rows of the plan's lists the parts have."""
        return sum(self._written.get(work.key, 0) for work in plan.works)

    def join(self, plan: Plan, form: str, complete: bool) -> None:  # noqa: FBT001  # called through a thread
        """Put the target in its place, list by list in the plan's order, then its manifest; then the parts go."""
        manifest = self._manifest(plan, form, complete=complete)
        path = manifest_of(self._target)
        with self._ours():
            with self._replacing(self._target) as file:
                WRITERS[form](file, self._tables(plan))
                path.unlink(missing_ok=True)  # an older one would not be of this file
            with self._replacing(path) as file:
                file.write(msgspec.json.format(msgspec.json.encode(manifest)))
            self._journal.unlink()  # before the parts that it names
            shutil.rmtree(self._folder)

    def close(self) -> None:
        """Leave the parts as they are; where there is none, leave nothing."""
        with suppress(OSError):
            if not self._count and self._journal.stat().st_size == self._length:
                self._journal.unlink()
                self._folder.rmdir()

    def _tables(self, plan: Plan) -> Iterator[pa.Table]:
        read = lru_cache(maxsize=_OPEN)(lambda name: pq.ParquetFile(self._folder / name))
        tables: list[pa.Table] = []
        for work in plan.works:
            for name, group in self._groups.get(work.key, ()):
                tables.append(read(name).read_row_group(group))
                if sum(map(len, tables)) >= _JOINED_ROWS:
                    yield pa.concat_tables(tables)
                    tables = []
                    pa.default_memory_pool().release_unused()  # it would grow with the file
        yield pa.concat_tables(tables) if tables else SCHEMA.empty_table()

    def _manifest(self, plan: Plan, form: str, *, complete: bool) -> _Manifest:
        lists = []
        for work in plan.works:
            standing = self._standing.get(work.key)
            checkpoint = standing.checkpoint if standing is not None else None
            written = self._written.get(work.key, 0)
            lists.append(
                _ListManifest(
                    *work.key,
                    name=work.touchpoint.name,
                    value=work.touchpoint.value,
                    declared=work.expected,
                    written=written,
                    complete=written >= work.expected and (standing is None or standing.complete),
                    checkpoint=checkpoint and msgspec.Raw(checkpoint.to_json().encode()),
                )
            )
        return _Manifest(
            file=self._target.name,
            format=form,
            experience_id=plan.experience_id,
            visits_type=self._question.visits_type,
            complete=complete,
            declared=plan.expected,
            written=self.rows(plan),
            lists=lists,
            finished_at=datetime.now(UTC),
            distinct_async=__version__,
        )

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[BinaryIO]:
        """A file that takes its place when it is whole."""
        temporary = self._folder / f"joined-{self._token}"
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            told = f"{self._target}: {error}"
        else:
            return
        raise StorageError(told) from None


def manifest_of(target: Path) -> Path:
    """Where the manifest of an export stands."""
    return target.with_name(f"{target.name}.manifest.json")
