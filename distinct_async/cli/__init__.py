"""The command ``distinct-async`` (extra ``cli``): how it starts, and how it ends without its extra or by a signal."""

import os
import sys
from types import TracebackType

_EXTRA = {"cyclopts", "rich"}
_MISSING = 'distinct-async: the command needs an extra: python -m pip install "distinct-async[cli]"'
_USAGE, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141  # those of `exits`, which needs the extra


def main() -> int:
    """Run the command with the words of the command line, and return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by some schedulers
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # no path; until the end
    try:
        from distinct_async.cli import app  # noqa: PLC0415  # the package works without the extra

        if "--debug" not in sys.argv:
            sys.excepthook = _print_bug
        return app.run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(_MISSING, file=sys.stderr)  # noqa: T201
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _BROKEN_PIPE


def _print_bug(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    """Print a bug in one line, without its traceback."""
    from distinct_async.cli import console, exits  # noqa: PLC0415  # as above

    console.print_error(exits.error_line(error))
