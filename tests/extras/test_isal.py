"""isal is not an extra of this package: whoever installs it has it."""

from distinct_async import session


def test_where_isal_is_installed_it_inflates() -> None:
    """How it does that, `tests/wire` and `tests/test_session.py` ask: with it in `coverage`, without in `tests`."""
    assert "isal.isal_zlib" == session.zlib.__name__  # type: ignore[attr-defined]
