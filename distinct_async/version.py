"""The version, stated here only: pyproject.toml reads it, so no package metadata is needed at run time."""

__version__ = "0.2.0"
"""The version of this library, as on PyPI."""
