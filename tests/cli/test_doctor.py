"""What the doctor finds, and that it never shows a key."""

import json
from pathlib import Path
from typing import Any

import pytest

from distinct_async.cli.doctor import diagnose
from distinct_async.errors import (
    AuthenticationError,
    ConnectError,
    DecodeError,
    DistinctError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TLSError,
)
from distinct_async.testing import FakeServer
from distinct_async.vendors import Vendor
from tests.cli.command import Command

NOT_FOUND = NotFoundError("x", status=404, phrase="Not Found", body='{"statusCode": 404, "message": "x"}')
ELSEWHERE = NotFoundError("x", status=404, phrase="Not Found", body='{"detail": "Not Found"}')


def found(command: Command, *words: object) -> dict[str, dict[str, Any]]:
    command("doctor", *words)
    return {each["subject"]: each for each in map(json.loads, command.out.splitlines())}


def test_all_is_well(command: Command, distinct_env: FakeServer) -> None:
    assert 0 == command("doctor", "--experience", "exp-1")
    states = {each["subject"]: each["state"] for each in map(json.loads, command.out.splitlines())}
    subjects = ["versions", "distinct URL", "distinct", "distinct key", "vantio URL", "vantio", "vantio key"]
    assert dict.fromkeys(subjects, "ok") == {name: state for name, state in states.items() if "extra" not in name}
    assert distinct_env.api_key not in command.out + command.err
    assert distinct_env.vantio_api_key not in command.out + command.err
    assert distinct_env.url in command.out

    assert 3 == command("doctor", "--experience", "exp-9", "--format", "table")
    assert "experience exp-9   wrong" in command.out


@pytest.mark.usefixtures("distinct_env")
def test_a_key_that_is_refused_is_4_and_is_not_shown(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTINCT_API_KEY", "key-of-somebody-else")
    assert 4 == command("doctor")
    findings = found(command)
    assert ("wrong", "401 Unauthorized") == (findings["distinct key"]["state"], findings["distinct key"]["found"])
    assert "ok" == findings["distinct"]["state"]
    assert "key-of-somebody-else" not in command.out + command.err


@pytest.mark.usefixtures("distinct_env")
def test_a_missing_key_is_2_but_vantios_only_a_note(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VANTIO_API_KEY")
    assert 0 == command("doctor")
    assert "note" == found(command)["vantio key"]["state"]
    monkeypatch.delenv("DISTINCT_API_KEY")
    assert 2 == command("doctor")
    findings = found(command)
    assert "DISTINCT_API_KEY" in findings["distinct key"]["advice"]
    assert ["ok", "ok"] == [findings["distinct"]["state"], findings["vantio"]["state"]]  # reached all the same


@pytest.mark.usefixtures("distinct_env")
def test_a_vendor_that_is_not_there_is_6_and_the_other_is_looked_at(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VANTIO_BASE_URL", "http://127.0.0.1:1")
    assert 6 == command("doctor")
    findings = found(command)
    assert ["ok", "wrong"] == [findings["distinct key"]["state"], findings["vantio"]["state"]]
    assert "VANTIO_BASE_URL" in findings["vantio"]["advice"]
    monkeypatch.setenv("DISTINCT_API_KEY", "key-of-somebody-else")
    assert 4 == command("doctor")  # what was found first counts


def test_a_vendor_that_fails_is_asked_once(command: Command, distinct_env: FakeServer) -> None:
    distinct_env.fail(status=503)
    assert 6 == command("doctor")
    assert 2 == len(distinct_env.requests)


def test_settings_that_cannot_be_meant_are_2(command: Command, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("DISTINCT_BASE_URL=ftp://x", encoding="utf-8")
    keys.chmod(0o600)
    assert 2 == command("doctor", "--key-file", keys)
    finding = found(command, "--key-file", keys)["settings"]
    assert "DISTINCT_BASE_URL must be like https://host" == finding["found"]
    assert "correct DISTINCT_BASE_URL, in the environment or the --key-file" == finding["advice"]


@pytest.mark.parametrize(
    ("vendor", "error", "keyed", "expected"),
    [
        ("distinct", None, True, [("distinct", "ok", 0), ("distinct key", "ok", 0)]),
        ("distinct", None, False, [("distinct", "ok", 0)]),
        ("distinct", NOT_FOUND, True, [("distinct", "ok", 0), ("distinct key", "ok", 0)]),
        ("distinct", ELSEWHERE, True, [("distinct", "wrong", 6)]),
        ("vantio", NOT_FOUND, True, [("vantio", "wrong", 6)]),
        ("vantio", AuthenticationError("x", status=401), True, [("vantio", "ok", 0), ("vantio key", "wrong", 4)]),
        ("vantio", AuthenticationError("x", status=401), False, [("vantio", "ok", 0)]),
        ("distinct", PermissionDeniedError("x"), True, [("distinct", "ok", 0), ("distinct key", "wrong", 4)]),
        ("distinct", ConnectError("x"), True, [("distinct", "wrong", 6)]),
        ("distinct", DecodeError("x"), True, [("distinct", "wrong", 5)]),
    ],
)
def test_an_answer_reports_of_the_way_and_of_the_key(
    vendor: Vendor,
    error: DistinctError | None,
    keyed: bool,  # noqa: FBT001
    expected: list[tuple[str, str, int]],
) -> None:
    assert expected == [(each.subject, each.state, each.code) for each in diagnose(vendor, error, has_key=keyed)]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (TLSError("x"), "https for a server of plain http"),
        (ServerError("x", status=503), "try again later"),
        (RateLimitError("x", status=429), "try again later"),
        (DecodeError("x"), "the server there is not Distinct's API"),
        (ELSEWHERE, "check DISTINCT_BASE_URL; the server there is not"),
        (ConnectError("x"), "a proxy that this command does not use"),
    ],
)
def test_the_advice_fits_what_is_wrong(error: DistinctError, advice: str) -> None:
    (finding,) = diagnose("distinct", error, has_key=True)
    assert advice in finding.advice
