"""The words of the command line: which commands there are, and what is said where one goes wrong.

A command imports what it needs when it is called, so that ``--help`` waits for nothing.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn

from cyclopts import App, CycloptsError
from rich.console import Console

from distinct_async.errors import DistinctError

_NAME = "distinct-async"
_WIDTH = 80  # columns, where the terminal has as many
_OURS, _USAGE = 1, 2


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the BrokenPipeError go its way, past all that wants to be closed; rich would end the process here."""
        raise  # noqa: PLE0704  # called where rich handles it


def run(words: Sequence[str]) -> int:
    """The exit code of one command."""
    # Not FORCE_COLOR, which test runners set for all their children, decides: what is piped is plain
    console = _Console(force_terminal=sys.stdout.isatty(), highlight=False)
    console.width = min(console.width, _WIDTH)
    try:
        code = _app(console)(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _say(f"{_NAME}: {error}", f"Try: {_NAME} --help")
        return _USAGE
    except DistinctError as error:
        _say(f"{_NAME}: {error}")
        return _OURS
    return code or 0


def _app(console: Console) -> App:
    app = App(
        name=_NAME,
        help="QR-scan data: touchpoint metrics (Distinct) and impressions (Vantio).",
        help_format="plaintext",
        version=lambda: version(_NAME),
        console=console,
    )

    @app.command
    def demo() -> int:
        """Show the library at work: real requests, sample data, no key."""
        from distinct_async.cli.demo import show  # noqa: PLC0415  # with it come aiohttp and the fake vendors

        return 0 if show(console) else _OURS

    return app


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201  # stderr is not for data, so not for the console
