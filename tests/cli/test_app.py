"""The command's words and its exit codes."""

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from distinct_async.testing import World
from tests.cli.command import SMALL, called, changed, environment, installed, piped, through

posix = pytest.mark.skipif(sys.platform == "win32", reason="a shell and devices as POSIX has them")


def test_version_is_the_installed_one() -> None:
    done = piped(installed(), "--version")
    assert (0, version("distinct-async") + "\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_names_the_demo(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert 0 == called(monkeypatch, *words)
    shown = capsys.readouterr()
    assert "" == shown.err
    assert "demo" in shown.out
    assert 80 >= max(map(len, shown.out.splitlines()))


def test_help_of_a_command_is_its_help_and_of_none_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = dict[tuple[str, ...], str]()
    for words in (("help", "visits"), ("visits", "--help"), ("help",), ("--help",)):
        assert 0 == called(monkeypatch, *words)
        shown[words] = capsys.readouterr().out
    assert shown["visits", "--help"] == shown["help", "visits"]
    assert shown[("--help",)] == shown[("help",)]
    assert 2 == called(monkeypatch, "help", "nonsense")
    assert "nonsense" in capsys.readouterr().err


def test_the_module_runs_as_the_command() -> None:
    done = piped([sys.executable, "-m", "distinct_async"], "--version")
    assert (0, version("distinct-async") + "\n", "") == (done.returncode, done.stdout, done.stderr)


STARTUP = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/completions/distinct-async.fish"}


@posix
@pytest.mark.parametrize(("shell", "startup"), [*STARTUP.items()])
def test_completion_is_installed_for_the_shell_and_knows_the_commands(shell: str, startup: str, tmp_path: Path) -> None:
    done = piped(installed(), "--install-completion", HOME=str(tmp_path), SHELL=f"/bin/{shell}")
    assert 0 == done.returncode, done.stderr
    written = "".join(each.read_text() for each in tmp_path.rglob("*") if each.is_file())
    assert (tmp_path / startup).exists()
    assert {"touchpoints", "--checkpoint", "--visits-type"} <= {*re.findall(r"[-\w]+", written)}


def test_help_loads_neither_aiohttp_nor_the_fake_vendors() -> None:
    program = "import atexit, sys; atexit.register(lambda: print(*sys.modules))"
    loaded = {*piped(changed(program), "--help").stdout.split()}
    late = {"aiohttp", "distinct_async.testing", "distinct_async.cli.demo", "distinct_async.etl", "pyarrow", "duckdb"}
    assert {"cyclopts"} == {"cyclopts", *late} & loaded


def test_the_help_of_an_option_is_one_paragraph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == called(monkeypatch, "visits", "--help")
    text = " ".join(line.strip("│ ") for line in capsys.readouterr().out.splitlines())
    assert "after an error and after Ctrl-C it holds the position that was reached." in text
    assert 0 == called(monkeypatch, "serve", "--help")
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    (first,) = [number for number, line in enumerate(lines) if "A status, or" in line]
    (last,) = [number for number, line in enumerate(lines) if line.endswith("May be repeated.")]
    assert "after a colon its probability: 503:0.1 rejects one " in " ".join(lines[first : last + 1])
    indent = lines[first].index("A status")
    lengths = [len(lines[first]), *(indent + len(line) for line in lines[first + 1 : last])]
    words = [line.split()[0] for line in lines[first + 1 : last + 1]]
    # Each line is full: the next one's first word has no room in it, between the borders of 80 columns
    assert all(length + len(f" {word}") > 76 for length, word in zip(lengths, words, strict=True))


@pytest.mark.parametrize(
    ("words", "known"), [(("demo", "--bad"), " demo"), (("demo", "bad"), " demo"), (("bad",), ""), (("--bad",), "")]
)
def test_a_wrong_word_is_named_and_exits_2(
    words: tuple[str, ...], known: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == called(monkeypatch, *words)
    shown = capsys.readouterr()
    said, hint = shown.err.splitlines()
    assert "" == shown.out
    assert said.startswith("distinct-async: ")
    assert words[-1] in said
    assert f"Try: distinct-async{known} --help" == hint


@pytest.mark.parametrize(("module", "word"), [("cyclopts", "demo"), ("rich", "--help")])
def test_without_the_extra_one_line_says_what_to_install(module: str, word: str) -> None:
    done = piped(changed(f"import sys; sys.modules[{module!r}] = None"), word)
    line = 'distinct-async: the command needs an extra: python -m pip install "distinct-async[cli]"\n'
    assert (2, "", line) == (done.returncode, done.stdout, done.stderr)


def test_a_job_without_its_extra_says_what_to_install() -> None:
    program = "import sys; sys.modules |= {'pyarrow': None, 'duckdb': None}"
    done = piped(changed(program), "sync", "exp-1", "x.duckdb", DISTINCT_API_KEY="key")
    assert (2, "") == (done.returncode, done.stdout)
    assert 'distinct-async: this job needs an extra: python -m pip install "distinct-async[' in done.stderr


def test_another_missing_module_is_not_taken_for_the_extra() -> None:
    done = piped(changed("import sys; sys.modules['aiohttp'] = None"), "demo")
    assert 1 == done.returncode
    assert "aiohttp" in done.stderr
    assert "pip install" not in done.stderr


def test_an_error_of_the_library_is_one_line_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(World, "sample", lambda **_: World())
    assert 3 == called(monkeypatch, "demo")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("distinct-async: 404 ")
    assert line.endswith("; check the id")


def test_a_bug_is_one_line_too_and_debug_shows_where() -> None:
    program = "from distinct_async.testing import World\nWorld.sample = None"
    asked, shown = piped(changed(program), "demo"), piped(changed(program), "serve", "--debug")
    line = "this is a bug: TypeError; 'NoneType' object is not callable; --debug shows where; please report it"
    assert (1, f"distinct-async: {line}\n") == (asked.returncode, asked.stderr)
    assert (1, "Traceback") == (shown.returncode, shown.stderr[:9])


def test_a_reader_who_leaves_is_no_error() -> None:
    waiting = (
        "import sys\nsample = lambda **_: sys.stdin.read() and small()\nsmall, World.sample = World.sample, sample"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*changed(f"{SMALL}\n{waiting}"), "demo"],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        encoding="utf-8",
        env=environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write("he has left")
        process.stdin.close()
        assert "" == process.stderr.read()
    assert 141 == process.returncode


@posix
@pytest.mark.parametrize(
    ("closed", "words", "expected"),
    [
        (">&-", ["--version"], (0, "", "")),
        ("2>&-", ["bad"], (2, "", "")),
        ("2>&-", ["--version"], (0, version("distinct-async") + "\n", "")),
        ("<&- >&- 2>&-", ["bad"], (2, "", "")),
    ],
)
def test_streams_that_are_closed_are_no_bug(closed: str, words: Sequence[str], expected: tuple[int, str, str]) -> None:
    done = piped(through(f'exec "$@" {closed}'), *words)
    assert expected == (done.returncode, done.stdout, done.stderr)


@posix
@pytest.mark.parametrize("words", [["--help"], ["serve", "--scans", "1"]])
def test_a_full_disk_is_no_bug(words: Sequence[str]) -> None:
    done = piped(through('exec "$@" > /dev/full'), *words)
    assert (1, "distinct-async: [Errno 28] No space left on device\n") == (done.returncode, done.stderr)
