"""The files that version 0.1.0 wrote (`written_by_0_1_0/make.py`), and the world that has grown since."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from distinct_async.testing import World

WRITTEN = Path(__file__).parent / "written_by_0_1_0"


def grown_world() -> World:
    """The world of the files, whose lists are longer now: 90, 45 and 15 visits instead of 60, 35 and 10."""
    return World.from_json((WRITTEN / "world.json").read_bytes())


def rearranged_world() -> World:
    """The same, but other scans come first in each list."""
    content: Any = json.loads((WRITTEN / "world.json").read_bytes())
    return World.from_json(json.dumps({**content, "scans": content["scans"][::-1]}))


def written(folder: Path) -> Path:
    """A copy of the files in `folder`, the database unpacked."""
    for path in WRITTEN.iterdir():
        if path.suffix == ".gz":
            (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        elif path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy(path, folder)
    return folder
