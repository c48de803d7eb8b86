"""The two vendors' endpoints, one module each: they create requests and say how to read the responses."""
