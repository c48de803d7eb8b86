"""What a consumer of batches stores between runs: one short text for each list."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from distinct_async.errors import CheckpointError
from distinct_async.etl.destinations import ListState
from distinct_async.etl.plans import ListKey
from distinct_async.sansio.pages import Checkpoint


class _ListStateText(msgspec.Struct, forbid_unknown_fields=True, tag_field="state", tag=1):
    declared: int
    complete: bool
    ascends: bool | None
    checkpoint: msgspec.Raw


class _VersionOnly(msgspec.Struct):
    state: int


def state_name(key: ListKey) -> str:
    """Return the name that a list has in the mapping."""
    _, touchpoint_id, visits_type = key
    return f"{visits_type} {touchpoint_id}"


def state_text(state: ListState) -> str:
    """Return the state of a list as a text, without any user id in it."""
    checkpoint = msgspec.Raw(b"null" if state.checkpoint is None else state.checkpoint.to_json().encode())
    return msgspec.json.encode(_ListStateText(state.declared, state.complete, state.ascends, checkpoint)).decode()


def read_states(texts: Mapping[str, str], experience_id: str) -> dict[ListKey, ListState]:
    """Return the states of an experience's lists.

    Args:
        texts: What `batches` has put into a mapping.
        experience_id: The experience that is going to be read.

    Raises:
        CheckpointError: One of them is of another experience, of a later version, or anything else.
    """
    states: dict[ListKey, ListState] = {}
    for name, text in texts.items():
        state = _decode_state(name, text)
        question = state.checkpoint.question if state.checkpoint is not None else None
        visits_types: dict[str, Literal["TOTAL", "UNIQUE"]]
        visits_types = {"metrics.total_visits": "TOTAL", "metrics.unique_visits": "UNIQUE"}
        if question is None or question.endpoint not in visits_types:
            raise CheckpointError(f"state {name!r} is not of a list of visits; begin with an empty state")
        if question.ids.get("experience_id") != experience_id:
            other_id = question.ids.get("experience_id")
            raise CheckpointError(f"state {name!r} belongs to experience {other_id!r}, not to {experience_id!r}")
        key = ListKey(experience_id, question.ids.get("touchpoint_id") or "", visits_types[question.endpoint])
        if name != state_name(key):
            raise CheckpointError(f"state {name!r} belongs to {state_name(key)!r}; begin with an empty state")
        states[key] = state
    return states


def _decode_state(name: str, text: str) -> ListState:
    try:
        decoded = msgspec.json.decode(text, type=_ListStateText)
        return ListState(
            Checkpoint.from_json(bytes(decoded.checkpoint)), decoded.declared, decoded.complete, decoded.ascends
        )
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError, CheckpointError) as error:
        problem = str(error)
    try:
        version = msgspec.json.decode(text, type=_VersionOnly).state
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError):
        version = 1
    if version > 1:
        problem = f"it is of version {version}, which a later distinct-async writes"
    raise CheckpointError(f"state {name!r} cannot be read: {problem}; begin with an empty state")
