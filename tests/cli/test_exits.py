"""Which error is which exit code, and what its one line says."""

import inspect

import pytest
from cyclopts import CycloptsError

from distinct_async import errors
from distinct_async.cli.exits import MissingError, PartialError, code, line

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
    errors.DecodeError: 1,
    errors.PaginationError: 1,
    errors.PageLoopError: 1,
    errors.DriftError: 1,
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
    assert expected == code(error("x"))


def test_the_table_has_every_class_of_ours() -> None:
    assert set() == {*OURS} - {*CODES}


@pytest.mark.parametrize("error", OURS)
def test_partial_is_8_but_a_refused_key_stays_4(error: type[BaseException]) -> None:
    expected = 4 if error in {errors.AuthenticationError, errors.PermissionDeniedError} else 8
    assert expected == code(ended_by(error("x")))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectError("refused"), "refused; distinct-async doctor tells more"),
        (errors.NotFoundError("x", status=404, phrase="Not Found"), "404 Not Found: x; check the id"),
        (errors.RateLimitError("x", status=429, retry_after=7.2), "asks for 7 s"),
        (errors.NotFoundError("", status=404), "check the id and the URL; distinct-async doctor tells more"),
        (
            errors.ConfigurationError("x", vendor="vantio", variable="VANTIO_API_KEY", problem="is not set"),
            "no API key for vantio: set VANTIO_API_KEY, or name a --key-file",
        ),
        (
            errors.ConfigurationError("vantio_base_url has a query", variable="VANTIO_BASE_URL"),
            "; correct VANTIO_BASE_URL, in the",
        ),
        (errors.ConfigurationError("x", variable="DISTINCT_API_KEY"), "; correct DISTINCT_API_KEY, in the"),
        (errors.DriftError("x", remedy="replaces it", remedy_option="on_drift"), "here that is --rebuild"),
        (errors.ConfigurationError("plain http", remedy_option="allow_http"), "--allow-http"),
        (errors.CheckpointError("x"), "--checkpoint"),
        (ended_by(errors.ServerError("x", status=503)), "503: x; try again later; 2 visits were written"),
        (CycloptsError("two\nlines"), "two lines"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
        (KeyError("x"), "this is a bug: KeyError; 'x'; --debug shows where"),
    ],
)
def test_a_line_says_what_happened_and_what_to_do(error: BaseException, expected: str) -> None:
    assert expected in line(error)
    assert "\n" not in line(error)


def test_what_was_noted_stands_in_the_line() -> None:
    error = errors.DriftError("rows moved")
    error.add_note("so many were written")
    assert "rows moved; so many were written" == line(error)
