"""Complete programs to copy, each with its tests.

- ``fastapi_app/``: a web service.
- ``watch.py``: a service that follows a touchpoint.
- ``nightly.py``: a nightly job into DuckDB.
- ``analysis.py``: visits into Polars, and a plot.
- ``report.py`` and ``test_report.py``: a function, and a test suite for it.

All read API keys from the environment. To run them without keys, start ``distinct-async serve`` in another terminal and
put its URL and keys into ``DISTINCT_BASE_URL``, ``DISTINCT_API_KEY``, ``VANTIO_BASE_URL`` and ``VANTIO_API_KEY``.
"""
