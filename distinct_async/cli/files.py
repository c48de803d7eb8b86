"""Files that are there only when they are whole: data, its parts, and checkpoints."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from distinct_async import Checkpoint
from distinct_async.errors import DistinctError, StorageError


@contextmanager
def told(option: str) -> Iterator[None]:
    """:exc:`StorageError` naming the option whose file fails; an error of ours and a reader who left pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DistinctError | BrokenPipeError):
            raise
        raise StorageError(f"{option}: {error.strerror or error}") from None


class Target:
    """Where data goes: stdout, or a file beside the one that it will become.

    :param path: the file to be; None for stdout.
    :param part: what an earlier run has left of it, to begin with.
    """

    def __init__(self, path: Path | None, part: Path | None = None) -> None:
        self._path = None if path is None else path.resolve()
        self._beside: Path | None = None
        self._whole = 0  # bytes up to the last mark
        self.option: str = "stdout" if path is None else f"--output {path}"
        if self._path is None:
            sys.stdout.flush()
            self.file: BinaryIO = sys.stdout.buffer
            return
        with told(self.option):
            if self._path.exists() and not self._path.is_file():  # /dev/null, a named pipe: not to be replaced
                self.file = self._path.open("wb")
                return
            self._beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            if part is not None:
                shutil.copyfile(part, self._beside)  # not moved: killed now, the part still fits its checkpoint
            self.file = self._beside.open("ab" if part is not None else "wb")

    def mark(self) -> None:
        """Let what was written arrive; up to here it is whole."""
        with told(self.option):
            self.file.flush()
            if self._beside is not None:
                self._whole = self.file.tell()

    def finish(self) -> None:
        """All is written: the file takes its name."""
        self.mark()
        if self._path is not None:
            self._become(self._path)

    def keep(self, part: Path) -> None:
        """Leave what was written up to the mark as a part."""
        with suppress(OSError):  # the disk may be full, and what is not written stands behind the mark
            self.file.close()
        if self._beside is not None:
            with told(self.option):
                self.file = self._beside.open("r+b")
                self.file.truncate(self._whole)
            self._become(part)

    def drop(self) -> None:
        """Leave nothing, where it is a file that is not finished."""
        if self._path is not None:
            with suppress(OSError):  # the disk may be full: what is not written is not wanted either
                self.file.close()
        if self._beside is not None:
            self._beside.unlink(missing_ok=True)

    def _become(self, path: Path) -> None:
        with told(self.option):
            if self._beside is not None:
                os.fsync(self.file.fileno())
            self.file.close()
            if self._beside is not None:
                self._beside.replace(path)


def read_checkpoint(path: Path | None) -> Checkpoint | None:
    """The checkpoint in a file, None where there is none.

    :raises StorageError: for a file that cannot be read, or a folder in which none could be written.
    :raises CheckpointError: for another file.
    """
    if path is None:
        return None
    with told(f"--checkpoint {path}"):
        if not os.access(path.resolve().parent, os.W_OK):
            raise StorageError(f"--checkpoint {path}: no file can be written there")
        try:
            return Checkpoint.from_json(path.read_bytes())
        except FileNotFoundError:
            return None


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the file by this checkpoint, in one step."""
    path = path.resolve()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with told(f"--checkpoint {path}"):
        try:
            with beside.open("wb") as file:
                file.write(f"{checkpoint.to_json()}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
