"""The words of the command line: which commands there are, and what is said where one goes wrong.

A command imports what it needs when it is called, so that ``--help`` waits for nothing.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from rich.console import Console

from distinct_async.cli import commands, exits
from distinct_async.cli.options import Flag, unfolded
from distinct_async.errors import DistinctError
from distinct_async.version import __version__

_NAME = "distinct-async"
_WIDTH = 80  # columns, where the terminal has as many

_COMMANDS = (
    commands.touchpoints,
    commands.user,
    commands.visits,
    commands.impression,
    commands.impressions,
    commands.export,
    commands.sync,
    commands.doctor,
)


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Let the BrokenPipeError go its way, past all that wants to be closed; rich would end the process here."""
        raise  # noqa: PLE0704  # called where rich handles it


def run(words: Sequence[str]) -> int:
    """The exit code of one command."""
    # Not FORCE_COLOR, which test runners set for all their children, decides: what is piped is plain
    console = _Console(force_terminal=sys.stdout.isatty(), highlight=False)
    console.width = min(console.width, _WIDTH)
    app = _app(console)
    try:
        code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, DistinctError, exits.PartialError, exits.MissingError) as error:
        _say(f"{_NAME}: {exits.line(error)}")
        if isinstance(error, CycloptsError):
            _say(f"Try: {' '.join([_NAME, *(word for word in words[:1] if word in app)])} --help")
        return exits.code(error)
    return code or exits.FINE


def _app(console: Console) -> App:
    app = App(
        name=_NAME,
        help="QR-scan data: touchpoint metrics (Distinct) and impressions (Vantio).",
        help_format="plaintext",
        version=lambda: __version__,
        console=console,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    for command in _COMMANDS:
        app.command(command)

    @app.command
    def demo(*, debug: Flag = False) -> int:  # noqa: ARG001  # see `main`
        """Show the library at work: real requests, sample data, no key.

        Args:
            debug: A traceback where we have a bug.
        """
        from distinct_async.cli.demo import show  # noqa: PLC0415  # with it come aiohttp and the fake vendors

        return exits.FINE if show(console) else exits.OURS

    @app.command
    @unfolded
    def serve(
        *,
        port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 0,
        touchpoints: Annotated[int, Parameter(validator=Number(gte=1))] = 3,
        scans: Annotated[int, Parameter(validator=Number(gte=0))] = 100_000,
        seed: int = 7,
        fault: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
        latency: str = "0ms",
        grow: Annotated[float, Parameter(validator=Number(gte=0, lte=1000))] = 0,
        data: Path | None = None,
        debug: Flag = False,  # noqa: ARG001  # see `main`
    ) -> None:
        """Run the fake vendors, for programs in any language, until SIGTERM or Ctrl-C.

        Once they listen, one line of JSON on stdout tells their url, api_key and vantio_api_key.

        Args:
            port: On 127.0.0.1; 0 takes a free one.
            touchpoints: How many the sample has: tp-1 (the busiest), tp-2 and so on, all in exp-1.
            scans: How many the sample has, over all touchpoints.
            seed: The same seed makes the same sample, and the same faults.
            fault: A status, or close, reset, hang, garbage, cut or drip; behind a colon how probable it is:
                503:0.1 refuses one request in ten. May be given again.
            latency: Before each answer: 50ms, 1.5s.
            grow: New scans a second, at the ends of the lists, while it runs.
            data: A JSON file with the scans to serve instead of the sample: {"scans": [{"touchpoint_id": "tp-1",
                "user_id": "user-1", "at": "2024-01-01T10:00:00Z"}]}; docs/how-to/testing.md tells all of it.
            debug: A traceback where we have a bug.
        """
        from distinct_async.cli import serve as fakes  # noqa: PLC0415  # as above

        faults = [fakes.rule(text, seed + number) for number, text in enumerate(fault)]
        world = fakes.sample(touchpoints, scans, seed) if data is None else fakes.read(data)
        fakes.serve(world, port, faults, fakes.seconds(latency), grow)

    return app


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201  # stderr is not for data, so not for the console
