"""The command ``distinct-async`` (extra ``cli``): its way in, and its ways out.

The words it knows are in `app`, what each does in a module of its own, how it looks in `layout`.
"""

import sys

_EXTRA = {"cyclopts", "rich"}
_MISSING = 'distinct-async: the command needs an extra: python -m pip install "distinct-async[cli]"'
_USAGE, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141  # the last two as shells count: 128 and the signal


def main() -> int:
    """The exit code of the command, run with the words of the command line."""
    try:
        from distinct_async.cli import app  # noqa: PLC0415  # the package does without the extra, and says so here

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
