"""How Spark finds the format ``distinct``: it imports each top-level module ``pyspark_*``, as which the wheel has this.

A module that fails to import would hide the formats of all other packages too, so that without the extra ``spark``, or
below Spark 4.2, this one has none.
"""

from contextlib import suppress

from distinct_async.errors import ConfigurationError

with suppress(ConfigurationError):
    from distinct_async.spark import DistinctDataSource

    DefaultSource = DistinctDataSource
