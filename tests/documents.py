"""The project's documents as the tests read them: blocks to run, and files to write into a folder."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parents[1]
SITE = ROOT / "docs"
# What a document's reader has installed beside the package and its `cli`; all others, and the README's Python, need
# nothing.
NEEDS = {
    "README.md": ("duckdb", "pyarrow", "pytz"),
    "docs/how-to/cookbook.md": ("duckdb", "pandas", "pyarrow", "pytz"),
    "docs/how-to/duckdb.md": ("duckdb", "pyarrow", "pytz"),
    "docs/how-to/fastapi.md": ("fastapi", "httpx", "uvicorn"),
    "docs/how-to/files.md": ("duckdb", "pandas", "polars", "pyarrow"),
    "docs/how-to/observability.md": ("opentelemetry", "prometheus_client", "structlog"),
    "docs/how-to/report.md": ("duckdb", "pyarrow", "pytz", "ua_parser", "vl_convert"),
    "docs/how-to/shell.md": ("duckdb", "pyarrow", "pytz"),
    "docs/how-to/uvloop.md": ("uvloop",),
    "docs/how-to/workers.md": ("celery",),
}
# These are run by tests/engines, as scripts.
ENGINES = ("docs/how-to/engines.md", "docs/how-to/warehouses.md")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```(bash|console|shell)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^```\w+ (\w+\.\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> Iterator[tuple[int, CodeType]]:
    """Yield line and code of each Python block without a name: scripts, or notebook cells with a bare ``await``."""
    text = document.read_text(encoding="utf-8")
    for fence in BLOCK.finditer(text):
        above = text.count("\n", 0, fence.start(1))
        # The empty lines make a traceback name the line of the document.
        code = compile("\n" * above + fence[1], document.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        yield above + 1, code


def lay_out(document: Path, folder: Path) -> list[str]:
    """Write the files that a document shows (blocks with a name) into a folder, and return their names."""
    files = FILE.findall(document.read_text(encoding="utf-8"))
    for name, content in files:
        (folder / name).write_text(content, encoding="utf-8")
    return [name for name, _ in files]


def commands(document: Path) -> Iterator[tuple[int, str, str | None]]:
    """Yield line, words and output of each shell line; None where the document shows no output."""
    text = document.read_text(encoding="utf-8")
    for fence in SHELL.finditer(text):
        line = text.count("\n", 0, fence.start(2)) + 1
        joined = fence[2].replace("\\\n", " ")
        lines = joined.splitlines() if fence[1] != "console" else joined.removeprefix("$ ").split("\n$ ")
        for each in lines:
            words, shows, output = each.partition("\n")
            if words and not words.startswith("#"):
                yield line, words.partition("  #")[0].strip(), output if shows else None
