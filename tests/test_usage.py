"""Every Python block of the README and of the how-tos runs, as it stands, against the fake vendors."""

import asyncio
import inspect
from pathlib import Path
from types import CodeType

import pytest

from distinct_async.testing import FakeServer

from .documents import ROOT, blocks

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(code, id=f"{document.name} line {line}") for document in DOCUMENTS for line, code in blocks(document)
]


def run(block: CodeType) -> None:
    result = eval(block, {"__name__": "__main__"})  # noqa: S307 - the documents are ours
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("block", BLOCKS)
async def test_a_block_of_a_document_runs(
    block: CodeType, fake: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("VANTIO_API_KEY", fake.vantio_api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    monkeypatch.setenv("VANTIO_BASE_URL", fake.url)

    await asyncio.to_thread(run, block)  # scripts bring a loop of their own
