"""The two vendors' endpoints, one module each: they make requests and say how to read the answers."""
