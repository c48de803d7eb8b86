"""What all commands obey: one file for one thing, one format for a name, no control characters, options in texts."""

import json
import os
import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer, World
from tests.cli.command import Command, installed, piped

pytestmark = pytest.mark.usefixtures("distinct_env")

WALK = ("visits", "tp-1")
posix = pytest.mark.skipif(sys.platform == "win32", reason="links as POSIX has them")


def keys(path: Path, server: FakeServer) -> Path:
    path.write_text(server.api_key, encoding="utf-8")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    "words",
    [
        (*WALK, "-o", "x.jsonl", "--checkpoint", "x.jsonl"),
        (*WALK, "-o", "x.jsonl", "--checkpoint", "./sub/../x.jsonl"),
        (*WALK, "-o", "x.jsonl", "--checkpoint", "x.jsonl.progress"),
        (*WALK, "-o", "keys.csv", "--key-file", "keys.csv"),
        (*WALK, "--checkpoint", "keys.csv", "--key-file", "keys.csv"),
        ("touchpoints", "exp-1", "-o", "keys.csv", "--key-file", "keys.csv"),
        ("impression", "imp_000001", "-o", "keys.csv", "--key-file", "keys.csv"),
        ("doctor", "-o", "keys.csv", "--key-file", "keys.csv"),
        ("export", "exp-1", "-o", "keys.csv", "--key-file", "keys.csv"),
        ("export", "exp-1", "-o", "x.csv", "--key-file", "x.csv.manifest.json"),
        ("export", "exp-1", "-o", "x.csv", "--key-file", "x.csv.parts/keys"),
        ("sync", "exp-1", "keys.csv", "--key-file", "keys.csv"),
        ("sync", "exp-1", "x.duckdb", "--key-file", "x.duckdb.wal"),
    ],
)
def test_two_options_that_lead_to_one_file_are_refused_before_anything_is_opened(
    words: tuple[str, ...],
    command: Command,
    distinct_server: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    before = keys(tmp_path / "keys.csv", distinct_server).read_bytes()
    assert 2 == command(*words)
    assert "lead to one file" in command.err
    assert ({"keys.csv", "sub"}, before) == ({each.name for each in tmp_path.iterdir()}, Path("keys.csv").read_bytes())
    assert [] == distinct_server.requests


@posix
@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("words", [("export", "exp-1", "-o"), ("visits", "tp-1", "-o"), ("sync", "exp-1")])
def test_links_to_one_file_are_one_file(
    link: object, words: tuple[str, ...], command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    path, other = keys(tmp_path / "keys.csv", distinct_server), tmp_path / "link.csv"
    assert callable(link)
    link(path, other)
    assert 2 == command(*words, other, "--key-file", path)
    assert (distinct_server.api_key, []) == (path.read_text(), distinct_server.requests)


@posix
def test_stdout_into_the_database_or_the_checkpoint_is_refused(distinct_server: FakeServer, tmp_path: Path) -> None:
    for words in (("sync", "exp-1"), (*WALK, "--checkpoint")):
        path = tmp_path / words[0]
        done = piped(["sh", "-c", f'exec "$@" > {path}', "sh", *installed()], *words, str(path))
        assert (2, True) == (done.returncode, "and stdout lead to one file" in done.stderr)
    assert [] == distinct_server.requests


def test_sync_has_no_output_but_its_database(command: Command, tmp_path: Path) -> None:
    assert 2 == command("sync", "exp-1", tmp_path / "w.duckdb", "-o", tmp_path / "w.duckdb")
    assert [] == [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *((name, None) for name in ("v.parquet", "v.xlsx", "v.csv.gz", "v.txt", "v.tsv", "v")),
        *(("v.csv", given) for given in ("jsonl", "json", "table")),
        ("v.parquet", "jsonl"),
        ("v.txt", "csv"),
    ],
)
@pytest.mark.parametrize("words", [WALK, ("touchpoints", "exp-1"), ("impression", "imp_000001"), ("doctor",)])
def test_a_suffix_that_names_no_format_or_another_is_refused_before_any_request(
    words: tuple[str, ...],
    name: str,
    given: str | None,
    command: Command,
    distinct_server: FakeServer,
    tmp_path: Path,
) -> None:
    assert 2 == command(*words, "-o", tmp_path / name, *(("--format", given) if given else ()))
    assert ([], []) == ([*tmp_path.iterdir()], distinct_server.requests)


@pytest.mark.parametrize(
    ("name", "given"),
    [("v.xlsx", None), ("v.csv.gz", None), ("v.txt", "csv"), ("v", None), ("v.json", None), ("v.csv", "parquet")],
)
def test_export_follows_the_same_rule(
    name: str, given: str | None, command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    assert 2 == command("export", "exp-1", "-o", tmp_path / name, *(("--format", given) if given else ()))
    assert ([], []) == ([*tmp_path.iterdir()], distinct_server.requests)


@pytest.mark.parametrize(("name", "given"), [("v.json", None), ("v.NDJSON", "jsonl"), ("v", "csv"), ("v.txt", "table")])
def test_a_suffix_and_a_format_that_agree_are_accepted(
    name: str, given: str | None, command: Command, tmp_path: Path
) -> None:
    assert 0 == command(*WALK, "--limit", 1, "-o", tmp_path / name, *(("--format", given) if given else ()))
    assert "user_id" in (tmp_path / name).read_text(encoding="utf-8")


def test_only_files_that_can_be_appended_to_go_with_a_checkpoint(
    command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    for name in ("v.json", "v.csv"):
        (tmp_path / name).write_text("other,columns\n")
    for name in ("v.json", "v.csv"):
        checkpoint = tmp_path / f"{name}.checkpoint"
        assert 0 == command(*WALK, "--limit", 1, "--checkpoint", checkpoint)
        distinct_server.requests.clear()
        assert 2 == command(*WALK, "-o", tmp_path / name, "--checkpoint", checkpoint)
        assert ("other,columns\n", []) == ((tmp_path / name).read_text(), distinct_server.requests)


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_pipes_get_exact_data_and_error_lines_never_control_characters(
    form: str, command: Command, distinct_world: World, distinct_server: FakeServer
) -> None:
    name = "\x1b[2Ja\x9b31m\x7f\u202eb"
    distinct_world.add_touchpoint("tp-9", name, experience_id="exp-1")
    assert 0 == command("touchpoints", "exp-1", "--format", form, "--offset", len(distinct_world.touchpoints) - 1)
    if form == "table":
        assert (False, True) == ("\x9b" in command.out, "�[2Ja�31m" in command.out)
    elif form == "csv":
        assert f"tp-9,{name}," in command.out
    else:
        rows = json.loads(command.out)
        assert name == (rows if form == "jsonl" else rows[0])["name"]
    distinct_server.fail(status=400, body=json.dumps({"statusCode": 400, "message": f"bad {name}"}).encode())
    assert 2 == command("touchpoints", "exp-1")
    assert command.err.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DISTINCT_BASE_URL", "ftp://x"), ("DISTINCT_BASE_URL", "https://x?y"), ("VANTIO_BASE_URL", "https://u:p@x")],
)
def test_a_wrong_url_is_corrected_in_its_own_variable(
    variable: str, value: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    assert 2 == command("touchpoints", "exp-1")
    assert f"; correct {variable}, in the environment or the --key-file\n" in command.err
    assert "API_KEY" not in command.err


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 200])
def test_no_advice_is_the_librarys(status: int, command: Command, distinct_server: FakeServer) -> None:
    distinct_server.fail(status=status, body=b"[]", headers={"Retry-After": "3600"})
    assert 0 != command("visits", "tp-1", "--deadline", 2)
    for word in ("rate_limit", "max_concurrency", "resume(", ".checkpoint", "allow_http", "on_drift", "api_key="):
        assert word not in command.err


@pytest.mark.parametrize("name", ["touchpoints", "user", "visits", "impression", "impressions", "export", "sync"])
def test_every_command_takes_time_limits_and_no_help_names_the_repository(name: str, command: Command) -> None:
    assert 0 == command(name, "--help")
    assert ("--timeout" in command.out, "--deadline" in command.out) == (True, True)
    assert "docs/" not in command.out


def test_the_time_limits_reach_the_requests(command: Command, distinct_server: FakeServer) -> None:
    distinct_server.fail(wire="hang")
    assert 6 == command("touchpoints", "exp-1", "--timeout", 0.3, "--deadline", 1)
    assert "--deadline" in command.err or "--timeout" in command.err
    assert 2 == command("touchpoints", "exp-1", "--timeout", 0)


def test_a_wrong_shape_and_pages_that_repeat_are_unexpected_server_behaviour(
    command: Command, distinct_server: FakeServer
) -> None:
    distinct_server.fail(body=b'{"statusCode": 200, "data": {"touchpoints": 7}}')
    assert 5 == command("touchpoints", "exp-1")
    distinct_server.faults.clear()
    distinct_server.ignore_offset = True
    assert 5 == command(*WALK, "--page-size", 20, "--format", "jsonl")
