"""A small FastAPI service on `distinct_async.fastapi`: who scans what.

To see it at work, on vendors that run beside it, with no key and no network: ``python -m examples.fastapi_app``.
With your own keys in ``DISTINCT_API_KEY`` and ``VANTIO_API_KEY``: ``uvicorn examples.fastapi_app.service:app``.
"""
