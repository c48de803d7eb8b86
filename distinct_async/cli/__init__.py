"""The command ``distinct-async`` (extra ``cli``): its way in, and how it ends.

The words it knows are in `app`, each command's doing in a module of its own.
"""

import os
import sys

_EXTRA = {"cyclopts", "rich"}
_MISSING = 'distinct-async: the command needs an extra: python -m pip install "distinct-async[cli]"'
_USAGE, _INTERRUPTED, _BROKEN_PIPE = 2, 130, 141  # the last two as a shell tells them: 128 and the signal


def main() -> int:
    """The exit code of the command, which is run with the words of the command line."""
    try:
        from distinct_async.cli import app  # noqa: PLC0415  # only the command needs its extra, not this package

        return app.run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(_MISSING, file=sys.stderr)  # noqa: T201
        return _USAGE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # What is still in the buffer goes nowhere: else Python would complain when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
