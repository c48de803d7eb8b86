"""Paths, files and what can go wrong with them, for jobs and the command.

A path is data: it is checked and resolved once, before anything is sent, and means the same to every library from
there on.
"""

import os
import re
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from distinct_async.errors import ConfigurationError, DistinctError, InvalidRequestError, StorageError
from distinct_async.vendors import VENDORS

_LONGEST_NAME = 255  # bytes; the limit of ext4, XFS, APFS and NTFS
# A URL, or one that `Path` has already robbed of a slash; a drive (C:/) and a name with a colon (nightly:eu) are paths.
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|(?:s3a?|gs|gcs|az|abfss?|adls?|hdfs|https?|ftp|file):/", re.IGNORECASE)


def resolve_path(
    path: str | PathLike[str],
    name: str = "path",
    *,
    suffixes: Sequence[str] = (),
    new_parent: bool = False,
    devices: bool = False,
) -> Path:
    """Return the absolute path of a file to write, with every link followed, if a file can be there.

    Args:
        path: The path as the user gave it. ``~``, ``?`` and ``:`` in it are ordinary characters.
        name: What the user calls it, for messages: an argument, or an option of the command.
        suffixes: What will be appended to the file's name for files beside it, for example ``.manifest.json``.
        new_parent: Whether a missing folder will be created.
        devices: Whether it may be a device or a named pipe.

    Raises:
        InvalidRequestError: It is a URL, or no file can have this name.
        StorageError: Something else is there, or its folder is missing.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise InvalidRequestError(f"{name} must be a str or a PathLike[str], got {type(path).__name__}")
    if not text:
        raise InvalidRequestError(f"{name} is empty")
    if _URL.match(text):
        hint = "write a local file and copy it, as the how-to 'Export to Parquet' shows"
        raise InvalidRequestError(f"{name} must be a local path, not the URL {text!r}; {hint}")
    if "\0" in text:
        raise InvalidRequestError(f"{name} {text!r} contains a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{name} {text!r} is not valid UTF-8") from None
    resolved = Path(os.path.realpath(text))
    for suffix in ("", *suffixes):
        if len(os.fsencode(resolved.name + suffix)) > _LONGEST_NAME:
            beside = f" (with {suffix!r} for the file beside it)" if suffix else ""
            raise InvalidRequestError(f"{name} {text!r}: the file name is longer than {_LONGEST_NAME} bytes{beside}")
    with storage_errors(f"{name} {text}"):
        _check_location(resolved, f"{name} {text}", new_parent=new_parent, devices=devices)
    return resolved


def _check_location(path: Path, text: str, *, new_parent: bool, devices: bool) -> None:
    parent = path.parent
    while new_parent and not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise StorageError(f"{text}: {parent} {'is not a directory' if parent.exists() else 'does not exist'}")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if text.endswith(("/", os.sep)):
            raise StorageError(f"{text} is a directory") from None
        return
    if stat.S_ISDIR(mode):
        raise StorageError(f"{text} is a directory")
    if not stat.S_ISREG(mode) and not devices:
        raise StorageError(f"{text} exists and is not a regular file")


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to the same file, also before it exists."""
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist yet
        first, second = (os.path.normcase(os.path.realpath(path)) for path in (one, other))
        return first == second


@contextmanager
def atomic_replace(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` in one step when the block ends, and vanishes if it raises.

    Args:
        path: What to replace; absolute, with links followed, else a link would be replaced.
        temporary: Where to write until then, on the same file system; by default a hidden file beside `path`.
    """
    temporary = temporary or path.parent / f".distinct-async-{secrets.token_hex(4)}"
    try:
        with temporary.open("wb") as file:
            yield file
            sync_file(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_file(file: BinaryIO) -> None:
    """Return when everything that was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def storage_errors(subject: object, *more: type[Exception]) -> Iterator[None]:
    """Raise what the operating system refuses in this block as `StorageError`.

    Args:
        subject: The file or database, for the message.
        more: Exceptions of a storage library to translate too.

    Raises:
        StorageError: With the system's or the library's reason. Errors of this package and a reader who has left
            (BrokenPipeError) pass unchanged.
    """
    try:
        yield
    except (OSError, *more) as error:  # type: ignore[misc]  # mypy 2.4 does not see through the tuple
        if isinstance(error, DistinctError | BrokenPipeError):
            raise
        reason = getattr(error, "strerror", None) or error
        message = f"{subject}: {reason}"
    else:
        return
    raise StorageError(message) from None


def read_lines(path: Path, subject: object) -> list[str]:
    """Return the lines of a text, without spaces around them and without empty ones.

    Args:
        path: The file.
        subject: What the message calls it.

    Raises:
        StorageError: It cannot be read, or is not UTF-8.
    """
    with storage_errors(subject, UnicodeError):
        text = path.read_text(encoding="utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_key_file(path: Path, name: str) -> dict[str, str]:
    """Return what a key file sets, by the names of the variables: lines like ``DISTINCT_API_KEY=...``, or one key.

    Args:
        path: The file.
        name: What the user calls it: an option. The path is not shown: it may be the key, put in the wrong place.

    Raises:
        ConfigurationError: It cannot be read, or sets nothing.
    """
    try:
        settings = _parse_settings(path.read_text(encoding="utf-8-sig"))
        problem = "" if settings else f"sets none of {', '.join(_variable_names())} and is not a single key"
    except (OSError, UnicodeError) as error:
        settings, problem = {}, f"cannot be read: {getattr(error, 'strerror', None) or 'it is not a text'}"
    if problem:
        raise ConfigurationError(f"{name}: the file {problem}", setting="key_file")
    return settings


def _variable_names() -> list[str]:
    return [name for each in VENDORS.values() for name in (each.key_variable, each.url_variable)]


def _parse_settings(text: str) -> dict[str, str]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) == 1 and "=" not in lines[0]:
        return {"VANTIO_API_KEY" if lines[0].startswith("sk_") else "DISTINCT_API_KEY": lines[0]}
    assignments = (line.removeprefix("export ").partition("=") for line in lines)
    values = {name.strip(): _unquote(value.strip()) for name, _, value in assignments}
    return {name: values[name] for name in _variable_names() if values.get(name)}


def _unquote(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
