"""A position in a walk that can be stored, and resumed in another process."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal

import msgspec
from attrs import frozen

from distinct_async.errors import CheckpointError


@frozen
class Question:
    """What a walk asks for. A checkpoint fits one question only; page size, limit and offset do not matter.

    Attributes:
        endpoint: The method's name, for example ``"metrics.total_visits"``.
        ids: The ids it was called with; None for those that were left out.
    """

    endpoint: str
    ids: Mapping[str, str | None]

    def __str__(self) -> str:
        """Return the call as errors show it: the endpoint and its ids."""
        return f"{self.endpoint}({', '.join(f'{name}={value!r}' for name, value in self.ids.items() if value)})"


class _CheckpointText(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    endpoint: str
    ids: dict[str, str | None]
    position: int
    last: str | None


@frozen
class Checkpoint:
    """The position after the last delivered row. Store it with `to_json`, and pass it to `Walk.resume`.

    Attributes:
        question: What was asked.
        position: Rows of the whole list before this point.
        last: A digest of the last row, which shows on resuming whether rows have moved. No user id can be read from it.
    """

    question: Question
    position: int
    last: str | None = None

    def to_json(self) -> str:
        """Return the checkpoint as a short JSON text."""
        text = _CheckpointText(1, self.question.endpoint, dict(self.question.ids), self.position, self.last)
        return msgspec.json.encode(text).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "Checkpoint":
        """Return the checkpoint that a text holds.

        Args:
            text: What `to_json` returned, in this version or an earlier one.

        Returns:
            An equal checkpoint.

        Raises:
            CheckpointError: If the text is anything else.
        """
        try:
            read = msgspec.json.decode(text, type=_CheckpointText)
        except (msgspec.DecodeError, UnicodeError, RecursionError, TypeError) as error:
            problem = str(error)
        else:
            if read.position >= (0 if read.last is None else 1):
                return cls(Question(read.endpoint, read.ids), read.position, read.last)
            problem = f"invalid position {read.position}"
        raise CheckpointError(f"not a valid checkpoint (expected the output of Checkpoint.to_json()): {problem}")


def digest(row: str) -> str:
    """Return a short digest of a row's values, as a checkpoint carries it."""
    return blake2b(row.encode(errors="surrogatepass"), digest_size=16).hexdigest()
