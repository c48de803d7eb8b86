"""Tests of what the extras bring; each is collected where its extra is installed: `nox -s tests-extras`."""

from importlib.util import find_spec

NEEDS = {
    "test_command_jobs.py": ("duckdb", "pyarrow", "pytz"),
    "test_example_fastapi.py": ("fastapi", "httpx", "uvicorn"),
    "test_fastapi.py": ("fastapi", "httpx", "uvicorn", "wsproto"),
    "test_schemathesis.py": ("jsonschema_rs", "schemathesis"),
    "test_wheel.py": ("fastapi", "httpx", "httpx2", "pytest_aiohttp"),
}

collect_ignore = [name for name, packages in NEEDS.items() if not all(map(find_spec, packages))]
