"""Which error is which exit code, and what its one line says."""

import inspect

import pytest
from cyclopts import CycloptsError

from distinct_async import errors
from distinct_async.cli.exits import MissingError, PartialError, error_line, exit_code

CODES = {
    errors.DistinctError: 1,
    errors.ConfigurationError: 2,
    errors.InvalidRequestError: 2,
    errors.ClientStateError: 1,
    errors.TransportError: 6,
    errors.ConnectError: 6,
    errors.TLSError: 6,
    errors.RequestTimeoutError: 6,
    errors.ProtocolError: 6,
    errors.APIError: 6,
    errors.BadRequestError: 2,
    errors.AuthenticationError: 4,
    errors.PermissionDeniedError: 4,
    errors.NotFoundError: 3,
    errors.RateLimitError: 6,
    errors.ServerError: 6,
    errors.DecodeError: 5,
    errors.PaginationError: 5,
    errors.PageLoopError: 5,
    errors.DriftError: 7,
    errors.CheckpointError: 2,
    errors.StorageError: 2,
    CycloptsError: 2,
    MissingError: 3,
    PartialError: 8,
    KeyboardInterrupt: 130,
    BrokenPipeError: 141,
    KeyError: 1,
}
OURS = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.DistinctError)]


def ended_by(cause: BaseException) -> PartialError:
    partial = PartialError("2 visits were written")
    partial.__cause__ = cause
    return partial


@pytest.mark.parametrize(("error", "expected"), CODES.items())
def test_every_error_has_its_code(error: type[BaseException], expected: int) -> None:
    assert expected == exit_code(error("x"))


def test_the_table_has_every_class_of_ours() -> None:
    assert set() == {*OURS} - {*CODES}


@pytest.mark.parametrize("error", OURS)
def test_partial_is_8_unless_running_again_does_not_help(error: type[BaseException]) -> None:
    lasting = {4, 5, 7}  # a rejected key, unexpected responses, rows that moved
    assert (CODES[error] if CODES[error] in lasting else 8) == exit_code(ended_by(error("x")))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectError("refused"), "refused; run 'distinct-async doctor' for details"),
        (errors.NotFoundError("x", status=404, phrase="Not Found"), "404 Not Found: x; check the id"),
        (
            errors.RateLimitError("x", status=429, remedy="set rate_limit"),
            "429: x; try again later, or with --rate-limit",
        ),
        (errors.RequestTimeoutError("x", limit="attempt"), "x; allow more with --timeout; run"),
        (errors.RequestTimeoutError("x", limit="deadline"), "x; allow more with --deadline; run"),
        (errors.NotFoundError("", status=404), "check the id and the URL; run 'distinct-async doctor'"),
        (
            errors.ConfigurationError("x", vendor="vantio", variable="VANTIO_API_KEY", problem="is not set"),
            "no API key for vantio: set VANTIO_API_KEY, or name a --key-file",
        ),
        (
            errors.ConfigurationError("x", setting="base_url", variable="DISTINCT_BASE_URL", problem="has a query"),
            "DISTINCT_BASE_URL has a query; correct DISTINCT_BASE_URL, in the environment or the --key-file",
        ),
        (errors.ConfigurationError("x", variable="V", problem="is blank"), "V is blank; correct V, in the environment"),
        (errors.ConfigurationError("x", setting="rate_limit", problem="is bad"), "--rate-limit is bad; correct --rate"),
        (errors.DriftError("x", remedy="pass on_drift", remedy_option="on_drift"), "x; --rebuild reloads what has"),
        (errors.DriftError("x", remedy="resume(error.checkpoint)"), "x; start over, without the --checkpoint file"),
        (
            errors.ConfigurationError("x", variable="V", problem="is plain", remedy="z", remedy_option="allow_http"),
            "V is plain; use https, or --allow-http",
        ),
        (errors.CheckpointError("x"), "--checkpoint"),
        (ended_by(errors.ServerError("x", status=503)), "503: x; try again later; 2 visits were written"),
        (CycloptsError("two\nlines"), "two lines"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (KeyError("x"), "this is a bug: KeyError; 'x'; --debug shows where"),
    ],
)
def test_a_line_says_what_happened_and_what_to_do(error: BaseException, expected: str) -> None:
    assert expected in error_line(error)
    assert "\n" not in error_line(error)


def test_what_was_noted_stands_in_the_line() -> None:
    error = errors.DriftError("rows moved")
    error.add_note("so many were written")
    assert "rows moved; start over, without the --checkpoint file; so many were written" == error_line(error)


@pytest.mark.parametrize(
    "error", [errors.StorageError, errors.ServerError, MissingError, CycloptsError, OSError, KeyError]
)
def test_a_line_has_no_control_characters(error: type[Exception]) -> None:
    assert error_line(error("a\x1b[2Jb\x9b31m\x7f")).isprintable()


def test_a_redirect_names_the_variable_of_its_vendor() -> None:
    error = errors.ProtocolError("HTTP 302 redirect to 'https://x'", vendor="vantio", remedy_option="vantio_base_url")
    assert "if that is the right place, set VANTIO_BASE_URL to it" in error_line(error)
