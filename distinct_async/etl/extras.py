"""Optional packages are imported by the first job that needs them; if one is missing, the error names the extra."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from distinct_async.errors import ConfigurationError

_OPTIONAL_PACKAGES = {"dlt", "duckdb", "pyarrow", "pyspark", "pytz", "ua_parser", "vl_convert"}


@contextmanager
def requires_extra(name: Literal["arrow", "dlt", "duckdb", "report", "spark"]) -> Iterator[None]:
    """Raise a `ConfigurationError` that names the extra if an import in this block misses one of its packages."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OPTIONAL_PACKAGES:
            raise
        message = f'this job needs an extra: python -m pip install "distinct-async[{name}]"'
    else:
        return
    raise ConfigurationError(message) from None
