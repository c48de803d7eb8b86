"""The decisions, as pure functions and plain state machines over values.

No loop, socket, clock, dice or environment may live in this package: what it needs of the world is handed in.
"""
