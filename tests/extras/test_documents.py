"""The documents whose readers have more installed, read as tests/test_usage.py reads the others."""

import asyncio
from pathlib import Path
from types import CodeType

import pytest

from tests.documents import NEEDS, ROOT
from tests.reader import READABLE, Reader, blocks_of, run

DOCUMENTS = [ROOT / name for name in NEEDS]


@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("block", blocks_of(DOCUMENTS))
async def test_a_block_of_a_document_runs(block: CodeType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    await asyncio.to_thread(run, block)


@pytest.mark.timeout(240)  # a process for each line
@pytest.mark.skipif(not READABLE, reason="there is no bash, or no curl")
@pytest.mark.usefixtures("distinct_env")
@pytest.mark.parametrize("document", [pytest.param(each, id=each.name) for each in DOCUMENTS])
def test_the_shell_lines_of_a_document_do_what_it_says(document: Path, tmp_path: Path) -> None:
    with Reader(document, tmp_path) as reader:
        reader.read()
