"""The decisions, as pure functions and plain state machines over values.

No loop, socket, clock, dice or environment may live in this package: what it needs of the world is handed in.
"""

from functools import partial
from typing import TYPE_CHECKING

__all__ = ["value"]

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    # Of some values every request makes a handful. Type checkers hold them frozen; at run time this would make each of
    # their fields several times as expensive.
    from attrs import define

    value = partial(define, unsafe_hash=True)
