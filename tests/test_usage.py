"""Every Python block of the README runs, as it stands, against the fake vendors."""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest
from _pytest.mark import ParameterSet

from distinct_async.testing import FakeServer

README = Path(__file__).parents[1] / "README.md"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> Iterator[ParameterSet]:
    """Yield the README's blocks, compiled as they stand: scripts, or notebook cells with a bare ``await``."""
    text = README.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        above = text.count("\n", 0, fence.start(1))
        # The empty lines make a traceback name the line of the README.
        code = compile("\n" * above + fence[1], README.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        yield pytest.param(code, id=f"line {above + 1}")


def run(block: CodeType) -> None:
    result = eval(block, {"__name__": "__main__"})  # noqa: S307 - the README is ours
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("block", [*blocks()])
async def test_a_block_of_the_readme_runs(
    block: CodeType, fake: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTINCT_API_KEY", fake.api_key)
    monkeypatch.setenv("VANTIO_API_KEY", fake.vantio_api_key)
    monkeypatch.setenv("DISTINCT_BASE_URL", fake.url)
    monkeypatch.setenv("VANTIO_BASE_URL", fake.url)

    await asyncio.to_thread(run, block)  # scripts bring a loop of their own
