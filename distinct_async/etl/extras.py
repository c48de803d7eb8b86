"""What the jobs need beyond the core is loaded by the first job that needs it, and its absence told in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

from distinct_async.errors import ConfigurationError

_EXTRAS = {"pyarrow": "arrow", "duckdb": "duckdb", "pytz": "duckdb"}


@contextmanager
def extra() -> Iterator[None]:
    """:exc:`ConfigurationError`, with what to install, where an import in this block misses an extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (name := _EXTRAS.get((error.name or "").partition(".")[0])) is None:
            raise
        told = f'this job needs an extra: python -m pip install "distinct-async[{name}]"'
    else:
        return
    raise ConfigurationError(told) from None
