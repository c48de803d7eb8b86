"""Tests of `distinct_async.etl`, module by module; what they compare with is the world behind the server."""
