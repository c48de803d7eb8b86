"""``python -m distinct_async``: the command ``distinct-async``."""

import sys

from distinct_async.cli import main

if __name__ == "__main__":
    sys.exit(main())
