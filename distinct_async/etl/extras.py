"""What the jobs need beyond the core is loaded by the first job that needs it, and its absence told in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from distinct_async.errors import ConfigurationError

_PACKAGES = {"pyarrow", "duckdb", "pytz"}


@contextmanager
def extra(name: Literal["arrow", "duckdb"]) -> Iterator[None]:
    """:exc:`ConfigurationError`, with what to install, where an import in this block misses a package of the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        told = f'this job needs an extra: python -m pip install "distinct-async[{name}]"'
    else:
        return
    raise ConfigurationError(told) from None
