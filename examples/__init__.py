"""Programs to copy, each with its tests.

- ``fastapi_app/``: a web service.
- ``watch.py``: a service without a web: it follows a touchpoint, for ever.
- ``nightly.py``: a nightly job into DuckDB.
- ``analysis.py``: visits into Polars, and a plot.
- ``report.py`` and ``test_report.py``: code of yours, and a test suite for it.

All take their keys from the environment. Without keys: ``distinct-async serve`` in another terminal, and its url and
keys in ``DISTINCT_BASE_URL``, ``DISTINCT_API_KEY``, ``VANTIO_BASE_URL`` and ``VANTIO_API_KEY``.
"""
