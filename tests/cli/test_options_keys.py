"""Where the keys come from, and that they go nowhere else."""

import sys
from pathlib import Path

import pytest

from distinct_async.testing import FakeServer
from tests.cli.command import Command

ASKED = ("touchpoints", "exp-1", "--limit", 0)


@pytest.fixture(autouse=True)
def _no_keys(distinct_env: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  # sets them
    monkeypatch.delenv("DISTINCT_API_KEY")
    monkeypatch.delenv("VANTIO_API_KEY")


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "{0}",
        "\n# ours\n{0}\n",
        "DISTINCT_API_KEY={0}\nVANTIO_API_KEY={1}\n",
        "# both\nexport DISTINCT_API_KEY='{0}'\n\nOTHER=x\n",
        'DISTINCT_API_KEY = "{0}"\r\n',
        "\ufeffDISTINCT_API_KEY={0}",
    ],
)
def test_a_key_file_is_an_env_file_or_one_bare_key(
    text: str, command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    path = key_file(tmp_path, text.format(distinct_server.api_key, distinct_server.vantio_api_key))
    assert 0 == command(*ASKED, "--key-file", path)
    assert "" == command.err


def test_a_bare_key_that_begins_with_sk_is_vantios(
    command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    path = key_file(tmp_path, distinct_server.vantio_api_key)
    assert 0 == command("impression", "imp_000001", "--key-file", path)
    assert 2 == command(*ASKED, "--key-file", path)


def test_the_file_stands_before_the_environment_and_brings_addresses_too(
    command: Command, distinct_server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTINCT_API_KEY", "wrong-key-of-the-environment")
    monkeypatch.setenv("DISTINCT_BASE_URL", "http://127.0.0.1:1")
    text = f"DISTINCT_API_KEY={distinct_server.api_key}\nDISTINCT_BASE_URL={distinct_server.url}"
    assert 0 == command(*ASKED, "--key-file", key_file(tmp_path, text))
    monkeypatch.setenv("VANTIO_BASE_URL", "http://127.0.0.1:1")
    text = f"VANTIO_API_KEY={distinct_server.vantio_api_key}\nVANTIO_BASE_URL={distinct_server.url}"
    assert 0 == command("impressions", "--limit", 1, "--key-file", key_file(tmp_path, text))


@pytest.mark.skipif(sys.platform == "win32", reason="modes as POSIX has them")
def test_a_file_that_others_may_read_is_warned_of(
    command: Command, distinct_server: FakeServer, tmp_path: Path
) -> None:
    path = key_file(tmp_path, distinct_server.api_key, 0o640)
    assert 0 == command(*ASKED, "--quiet", "--key-file", path)
    assert f"distinct-async: warning: others may read {path}; run chmod 600 on it\n" == command.err


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "sets none of"), ("API_KEY=x", "sets none of"), ("a\nb", "sets none of"), (None, "No such")],
)
def test_a_file_without_keys_is_reported(text: str | None, problem: str, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "sk_a-key-in-the-wrong-place" if text is None else key_file(tmp_path, text)
    assert 2 == command(*ASKED, "--key-file", path)
    assert problem in command.err
    assert "sk_a-key" not in command.err


def test_without_a_key_both_ways_to_set_one_are_named(command: Command) -> None:
    assert 2 == command(*ASKED)
    assert "distinct-async: no API key for distinct: set DISTINCT_API_KEY, or name a --key-file\n" == command.err


@pytest.mark.parametrize(
    "words",
    [
        ("--api-key=sk_secret", *ASKED),
        ("--api-key=a-secret", *ASKED),
        (*ASKED, "--api-key=sk_secret"),
        (*ASKED, "--api-key", "a-secret"),
        ("sk_secret",),
        ("impressions", "sk_secret"),
        (*ASKED, "--key-file=sk_secret"),
    ],
)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(words: tuple[object, ...], command: Command) -> None:
    assert 2 == command(*words)
    assert "secret" not in command.out + command.err


def test_plain_http_to_another_host_needs_a_word(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTINCT_BASE_URL", "http://fake.invalid")
    assert 2 == command(*ASKED)
    assert "--allow-http" in command.err
    assert 2 == command(*ASKED, "--allow-http")  # which is let pass, and then there is no key
    assert "no API key" in command.err
