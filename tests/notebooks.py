"""``python -m tests.notebooks FOLDER``: each Python block of a document as a notebook, for basedpyright.

In a notebook ``await`` may stand outside a function, as in the documents.
"""

import json
import sys
from pathlib import Path

from .documents import BLOCK, ENGINES, FILE, NEEDS, ROOT, SITE

# Most packages that documents need besides have no types; and a loop written by hand is one.
LOOSE = {ROOT / name for name in (*NEEDS, *ENGINES, "docs/how-to/by-hand.md")} - {ROOT / "README.md"}


def write(folder: Path) -> None:
    """Write the notebooks, and the settings to check them as strictly as pyright can."""
    for document in sorted({ROOT / "README.md", *SITE.rglob("*.md")} - LOOSE):
        text = document.read_text(encoding="utf-8")
        scripts = [content for name, content in FILE.findall(text) if document.name == "README.md" and ".py" in name]
        for number, block in enumerate([*BLOCK.findall(text), *scripts], 1):
            cell = {"cell_type": "code", "source": block, "metadata": {}, "outputs": [], "execution_count": None}
            notebook = {"cells": [cell], "metadata": {"language_info": {"name": "python"}}, "nbformat": 4}
            (folder / f"{document.stem}-{number}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    (folder / "pyrightconfig.json").write_text('{"include": ["*.ipynb"], "typeCheckingMode": "strict"}')


if __name__ == "__main__":
    write(Path(sys.argv[1]))
