"""The command ``distinct-async`` (extra ``cli``): its way in, and its ways out.

The words it knows are in `app` and `commands`, what each does in a module of its own, how it looks in `layout` and
`rows`, and how it ends in `exits`.
"""

import os
import sys
from types import TracebackType

_EXTRA = {"cyclopts", "rich"}
_MISSING = 'distinct-async: the command needs an extra: python -m pip install "distinct-async[cli]"'
_USAGE, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141  # those of `exits`, which is not to be had without the extra


def main() -> int:
    """The exit code of the command, run with the words of the command line."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by some schedulers
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # no path; to the end
    try:
        from distinct_async.cli import app  # noqa: PLC0415  # the package does without the extra, and says so here

        if "--debug" not in sys.argv:
            sys.excepthook = _in_one_line
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


def _in_one_line(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
    """Tell of a bug of ours, without its traceback."""
    from distinct_async.cli import exits  # noqa: PLC0415  # as above

    print(f"distinct-async: {exits.line(error)}", file=sys.stderr)  # noqa: T201
