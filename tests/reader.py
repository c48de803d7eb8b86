"""A reader of a document, who types its shell lines, one after the other, in an empty folder."""

import asyncio
import doctest
import inspect
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from itertools import chain
from pathlib import Path
from types import CodeType, TracebackType
from typing import Self

import pytest
from _pytest.mark.structures import ParameterSet
from packaging.requirements import Requirement

from .documents import ROOT, blocks, commands, lay_out

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {"", *PYPROJECT["project"]["optional-dependencies"]}
SERVERS = ("distinct-async serve", "uvicorn ", "python -m aiohttp.web ", "python -m examples.fastapi_app")
PORT = re.compile(r"(?<=127\.0\.0\.1:)80[08]0\b|(?<=--port )80[08]0\b")  # here it is a free one
# Documents speak to a POSIX shell.
READABLE = sys.platform != "win32" and all(map(shutil.which, ("bash", "curl")))
PATIENCE = 120  # seconds, for a machine that has much else to do


def known_packages() -> set[str]:
    """The packages that pyproject.toml names for users and tests; what a document installs is one of them."""
    project = PYPROJECT["project"]
    lists = [*project["optional-dependencies"].values(), *PYPROJECT["dependency-groups"].values()]
    texts = chain(project["dependencies"], *lists)
    return {Requirement(text).name for text in texts if isinstance(text, str)} | {"nox"}


def blocks_of(documents: Iterable[Path]) -> list[ParameterSet]:
    """The unnamed Python blocks, as parameters of a test."""
    posix = pytest.mark.skipif(sys.platform == "win32", reason="fcntl is POSIX")
    return [
        pytest.param(code, id=f"{each.name} line {line}", marks=[posix] if "fcntl" in code.co_names else [])
        for each in documents
        for line, code in blocks(each)
    ]


def run(block: CodeType) -> None:
    """Run a block as a script, or as a notebook's cell."""
    result = eval(block, {"__name__": "__main__"})  # noqa: S307 - the documents of this repository
    if inspect.iscoroutine(result):
        asyncio.run(result)


class Reader(AbstractContextManager["Reader"]):
    """Someone who has the document's files in a folder, and the keys of the fake vendors in the environment."""

    def __init__(self, document: Path, folder: Path) -> None:
        self.document, self.folder = document, folder
        self._port, self._servers = free_port(), ExitStack()
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST", "FORCE_COLOR"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
        self._environment = kept | {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
        for name in lay_out(document, folder):
            file = folder / name
            file.write_text(self._here(file.read_text(encoding="utf-8")), encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._servers.close()

    def read(self) -> None:
        """Type every line, and see what the document says one would see."""
        for line, words, shown in commands(self.document):
            where, expected = f"{self.document.name} line {line}: {words}", self._here(shown or "...")
            if words.startswith(SERVERS):
                self._serves(words, expected)
                continue
            output = "".join(self._types(step, where) for step in words.split(" && "))
            assert same(expected, output), f"{where}\n{output}"

    def _here(self, text: str) -> str:
        return PORT.sub(str(self._port), text)

    def _types(self, words: str, where: str) -> str:
        match words.split():
            case ["python", "-m", "venv", *_] | [".", *_]:
                return ""
            case ["python", "-m", "pip", "install", *requirements]:
                check(shlex.split(" ".join(requirements)), where)
                return ""
            case ["nox", *rest]:
                sessions = (ROOT / "noxfile.py").read_text(encoding="utf-8")
                for name in rest[rest.index("-s") + 1 :] if "-s" in rest else ():
                    assert re.search(rf"def {name}\(|name=\"{name}\"", sessions), where
                return ""
            case ["export", *_]:
                given = dict(each.split("=", 1) for each in shlex.split(self._here(words))[1:])
                self._environment |= {name: text for name, text in given.items() if not text.endswith("...")}
                return ""
        return self._runs(words, where)

    def _runs(self, words: str, where: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self._here(words)],  # noqa: S607 - the reader's own, wherever it is
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0 or "echo $?" in words, f"{where}\n{done.stdout}"
        return done.stdout

    def _serves(self, words: str, expected: str) -> None:
        """Start a server in another terminal, in place of the one before, and wait until it listens and says so."""
        self._servers.close()
        log = self.folder / f"server-{self._port}.log"
        with log.open("wb") as out:
            command = shlex.split(self._here(words))
            process = subprocess.Popen(command, cwd=self.folder, env=self._environment, stdout=out, stderr=out)
        self._servers.callback(process.wait, PATIENCE)
        self._servers.callback(process.terminate)
        ends, output = time.monotonic() + PATIENCE, ""
        while not (listens(self._port) and same(expected, output := log.read_text(encoding="utf-8"))):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < ends, f"{words} does not listen, or says: {output}"
            time.sleep(0.05)


def check(requirements: list[str], where: str) -> None:
    """See that what a document installs is there to be installed."""
    name = PYPROJECT["project"]["name"]
    for text in requirements:
        requirement = Requirement(re.sub(r"^\.", name, text))
        if requirement.name == name:
            assert requirement.extras <= EXTRAS, where
        else:
            assert requirement.name in known_packages(), where


def same(expected: str, output: str) -> bool:
    """Whether the output is what a document shows; "..." matches anything."""
    return doctest.OutputChecker().check_output(expected, output, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
