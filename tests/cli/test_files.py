"""What stands in a file, and when."""

import sys
from pathlib import Path

import pytest

from distinct_async import Checkpoint
from distinct_async.cli.files import Target, told, write_checkpoint
from distinct_async.errors import RequestTimeoutError, StorageError


def test_a_part_ends_at_the_last_mark_and_what_was_marked_has_arrived(tmp_path: Path) -> None:
    target, part = Target(tmp_path / "rows"), tmp_path / "part"
    target.file.write(b"a page\n")
    target.mark()
    (beside,) = tmp_path.iterdir()
    assert b"a page\n" == beside.read_bytes()
    target.file.write(b"half of the ne")
    target.keep(part)
    assert (b"a page\n", [part]) == (part.read_bytes(), [*tmp_path.iterdir()])

    target = Target(tmp_path / "rows", part)
    target.file.write(b"the next\n")
    target.finish()
    assert b"a page\nthe next\n" == (tmp_path / "rows").read_bytes()
    assert b"a page\n" == part.read_bytes()  # still there for its checkpoint


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), StorageError),
        (BrokenPipeError(), BrokenPipeError),
        (RequestTimeoutError("x"), RequestTimeoutError),  # which is an OSError too
    ],
)
def test_only_a_failing_file_is_told_by_its_option(error: OSError, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught, told("--output x"):
        raise error
    assert expected is not StorageError or "--output x: No space left on device" == str(caught.value)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    checkpoint = Checkpoint.from_json('{"version":1,"endpoint":"e","ids":{},"position":7,"last":null}')
    with pytest.raises(StorageError, match="--checkpoint"):
        write_checkpoint(folder, checkpoint)
    assert [folder] == [*tmp_path.iterdir()]


@pytest.mark.skipif(sys.platform == "win32", reason="links as POSIX has them")
def test_a_link_stays_one_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to(tmp_path / "rows")
    target = Target(link)
    target.file.write(b"a page\n")
    target.finish()
    assert (True, b"a page\n") == (link.is_symlink(), (tmp_path / "rows").read_bytes())
