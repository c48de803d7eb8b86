"""Paths are checked before anything is sent, files are replaced in one step, and errors are ours."""

import errno
import os
from pathlib import Path

import pytest

from distinct_async.errors import InvalidRequestError, RequestTimeoutError, StorageError
from distinct_async.files import atomic_replace, resolve_path, same_file, storage_errors


@pytest.mark.parametrize("name", ["exp:1.duckdb", "~x.duckdb", "nightly:eu.parquet", "what?.csv", "a b#c.csv", "ü.csv"])
def test_odd_names_are_files_in_the_working_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tmp_path / name == resolve_path(name) == resolve_path(Path(name))


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/v.parquet",
        Path("s3://bucket/v.parquet"),
        "gs://b/x.csv",
        "HTTPS://host/v.csv",
        "md+x://v",
        "file:/x",
    ],
)
def test_a_url_is_refused_with_the_way_to_go(path: str | Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"local path, not the URL .*how-to 'Export to Parquet'"):
        resolve_path(path)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "is empty"),
        ("a\0b", "NUL"),
        (os.fsdecode(b"caf\xe9.parquet"), "UTF-8"),
        ("\ud83d.csv", "UTF-8"),
        ("x" * 256, "longer than 255 bytes"),
        ("ü" * 128, "longer than 255 bytes"),
        ("x" * 250 + ".csv", r"longer than 255 bytes \(with '\.manifest\.json'"),
        (b"bytes", "got bytes"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(path: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"output.*{reason}"):
        resolve_path(path, "output", suffixes=[".manifest.json"])


def test_a_name_may_have_255_bytes(tmp_path: Path) -> None:
    resolve_path(tmp_path / ("x" * 255)).write_bytes(b"")


def test_what_cannot_become_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    wrong: dict[str | Path, str] = {
        tmp_path: "is a directory",
        f"{tmp_path}/new/": "is a directory",
        tmp_path / "file" / "x": "file is not a directory",
        tmp_path / "nowhere" / "x": "nowhere does not exist",
        tmp_path / "pipe": "is not a regular file",
        "/dev/null": "is not a regular file",
        tmp_path / "loop": "symbolic links",
    }
    for path, reason in wrong.items():
        with pytest.raises(StorageError, match=reason):
            resolve_path(path)
    assert tmp_path / "new" / "x" / "y" == resolve_path(tmp_path / "new" / "x" / "y", new_parent=True)
    with pytest.raises(StorageError, match="file is not a directory"):
        resolve_path(tmp_path / "file" / "x" / "y", new_parent=True)
    assert Path("/dev/null") == resolve_path("/dev/null", devices=True)


def test_the_target_of_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data/target")
    for text in (b"new", b"newer"):
        with atomic_replace(resolve_path(tmp_path / "link")) as file:
            file.write(text)
        assert text == (tmp_path / "data" / "target").read_bytes()
        assert (tmp_path / "link").is_symlink()


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")

    def write() -> None:
        with atomic_replace(target) as file:
            file.write(b"new")
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        write()
    assert ([target], b"old") == ([*tmp_path.iterdir()], target.read_bytes())


def test_the_same_file_is_known_by_every_path(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "one").write_bytes(b"")
    (tmp_path / "hard").hardlink_to(tmp_path / "one")
    (tmp_path / "soft").symlink_to("one")
    (tmp_path / "dangling").symlink_to("new")
    (tmp_path / "shortcut").symlink_to("folder")
    for one, other in [
        ("one", "hard"),
        ("one", "soft"),
        ("one", "folder/../one"),
        ("new", "dangling"),
        ("folder/new", "shortcut/new"),
    ]:
        assert same_file(tmp_path / one, tmp_path / other)
    assert not same_file(tmp_path / "one", tmp_path / "two")
    assert not same_file(tmp_path / "two", tmp_path / "three")


def test_what_the_system_refuses_is_a_storage_error_and_ours_pass() -> None:
    class LibraryError(Exception):
        pass

    for error, text in {
        OSError(errno.ENOSPC, "No space left on device"): "w.duckdb: No space left on device",
        LibraryError("bad page"): "w.duckdb: bad page",
    }.items():
        with pytest.raises(StorageError) as caught, storage_errors("w.duckdb", LibraryError):
            raise error
        assert (text, True) == (caught.value.message, caught.value.__suppress_context__)
    for passing in (RequestTimeoutError("slow"), BrokenPipeError(), KeyError()):
        with pytest.raises(type(passing)), storage_errors("w.duckdb"):
            raise passing
