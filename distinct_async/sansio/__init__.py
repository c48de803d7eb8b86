"""The decisions, as pure functions and state machines over values.

Nothing here uses an event loop, socket, clock, random numbers or the environment: callers pass what is needed.
"""
