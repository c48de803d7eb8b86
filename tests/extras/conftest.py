"""Tests of what the extras bring; each is collected where its extra is installed: `nox -s tests-extras`."""

from collections.abc import Iterable
from importlib.util import find_spec

from tests import documents

NEEDS: dict[str, Iterable[str]] = {
    "test_documents.py": {package for packages in documents.NEEDS.values() for package in packages},
    "test_cli_jobs.py": ("duckdb", "pyarrow", "pytz"),
    "test_cli_report.py": ("duckdb", "pyarrow", "pytz", "ua_parser", "vl_convert"),
    "etl": ("duckdb", "polars", "pyarrow", "pytz", "ua_parser", "vl_convert"),
    "test_docstrings.py": ("fastapi",),
    "test_exact_values.py": ("numpy",),
    "test_example_fastapi.py": ("fastapi", "httpx", "uvicorn"),
    "test_fastapi.py": ("fastapi", "httpx", "jsonschema_rs", "uvicorn", "wsproto"),
    "test_isal.py": ("isal",),
    "test_orchestrators.py": ("duckdb", "pyarrow", "pytz"),
    "test_schemathesis.py": ("jsonschema_rs", "schemathesis"),
    "test_wheel.py": ("fastapi", "httpx", "httpx2", "pytest_aiohttp"),
}

collect_ignore = [name for name, packages in NEEDS.items() if not all(map(find_spec, packages))]
