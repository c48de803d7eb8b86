"""A small FastAPI service: who scans what.

Without a key and a network, with fake vendors: ``python -m examples.fastapi_app``.
With your own keys in ``DISTINCT_API_KEY`` and ``VANTIO_API_KEY``: ``uvicorn examples.fastapi_app.service:app``.
"""
