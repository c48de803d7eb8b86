"""Every Python block and shell line of the README and of the site runs unchanged against the fake vendors."""

import asyncio
from pathlib import Path
from types import CodeType

import pytest

from .documents import ENGINES, NEEDS, ROOT, SITE, commands
from .reader import READABLE, Reader, blocks_of, run

ELSEWHERE = {ROOT / name for name in (*NEEDS, *ENGINES)}  # tests/extras and tests/engines read these
DOCUMENTS = sorted({*SITE.rglob("*.md")} - ELSEWHERE)


@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("block", blocks_of([ROOT / "README.md", *DOCUMENTS]))
async def test_a_block_of_a_document_runs(block: CodeType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    await asyncio.to_thread(run, block)  # scripts bring a loop of their own


@pytest.mark.timeout(240)  # a process for each line
@pytest.mark.skipif(not READABLE, reason="there is no bash, or no curl")
@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("document", [pytest.param(each, id=each.name) for each in DOCUMENTS if any(commands(each))])
def test_the_shell_lines_of_a_document_do_what_it_says(document: Path, tmp_path: Path) -> None:
    with Reader(document, tmp_path) as reader:
        reader.read()
