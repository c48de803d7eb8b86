"""The options that all jobs share, validated once."""

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Literal, get_args

from attrs import Attribute, evolve, field, frozen

from distinct_async.client import DistinctClient
from distinct_async.errors import InvalidRequestError
from distinct_async.etl.plans import Plan, VisitList, parse_touchpoint_ids, plan, select_visits_types
from distinct_async.etl.results import Progress
from distinct_async.etl.state import read_states
from distinct_async.models import VisitsType
from distinct_async.sansio.messages import identifier, whole_number
from distinct_async.sansio.retry import callback_problem

OnJobDrift = Literal["raise", "rebuild"]


def _parse_ids_or_plan(value: "str | Iterable[str] | Plan") -> "str | tuple[str, ...] | Plan":
    if isinstance(value, Plan):
        return value
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return identifier(value, "experience_id")
    values = tuple(value)
    if any(isinstance(each, Plan) for each in values):
        raise InvalidRequestError("experience_id must be one plan, or a list of ids; read each plan by itself")
    ids = tuple(dict.fromkeys(identifier(each, "experience_id") for each in values))
    if not ids:
        raise InvalidRequestError("experience_id must be an id or a list of ids, got an empty list")
    return ids


def _check_state(_: object, attribute: "Attribute[Any]", value: Any) -> None:  # noqa: ANN401  # of several types
    if value is not None and not isinstance(value, MutableMapping):
        raise InvalidRequestError(
            f"{attribute.name} must be a dict or another mutable mapping, not {type(value).__name__}"
        )


def _check_callback(_: object, attribute: "Attribute[Any]", value: Any) -> None:  # noqa: ANN401  # of several types
    if value is not None and (problem := callback_problem(value)):
        raise InvalidRequestError(f"{attribute.name} {problem}")


def _check_prefetch(value: int) -> int:
    return whole_number(value, "prefetch", 1)


def _check_batch_rows(value: int) -> int:
    return whole_number(value, "batch_rows", 1)


def _check_page_size(value: int | None) -> int | None:
    return None if value is None else whole_number(value, "page_size", 1)


@frozen(kw_only=True)
class JobOptions:
    """What a job reads, and how.

    Attributes:
        ids_or_plan: What to read: an experience, several, or exactly what a plan declares.
        visits_type: ``"TOTAL"``, ``"UNIQUE"``, or None for both.
        touchpoint_ids: Only these touchpoints; None for all.
        on_drift: What to do if stored rows no longer match the server's.
        state: What the caller has of each list; None to read from the start.
        on_rebuild: Called before the first rows of a list that is rebuilt.
        page_size: Visits per request, 1 or more; None for the server's default.
        prefetch: Pages requested ahead in each list, 1 or more.
        on_progress: Called with a `Progress` after each page.
        batch_rows: Rows in a batch, a transaction or a part, about; 1 or more.
        batch_seconds: Seconds after which a smaller batch is handed on.

    Raises:
        InvalidRequestError: An option is invalid.
    """

    ids_or_plan: str | tuple[str, ...] | Plan = field(converter=_parse_ids_or_plan)
    visits_type: VisitsType | None = None
    touchpoint_ids: frozenset[str] | None = field(default=None, converter=parse_touchpoint_ids)
    on_drift: OnJobDrift = "raise"
    page_size: int | None = field(default=500, converter=_check_page_size)
    state: MutableMapping[str, str] | None = field(default=None, validator=_check_state)
    on_rebuild: Callable[[VisitList], object] | None = field(default=None, validator=_check_callback)
    prefetch: int = field(default=4, converter=_check_prefetch)
    on_progress: Callable[[Progress], object] | None = field(default=None, validator=_check_callback)
    batch_rows: int = field(default=50_000, converter=_check_batch_rows)
    batch_seconds: float = 2.0

    def __attrs_post_init__(self) -> None:
        select_visits_types(self.visits_type)
        if self.on_drift not in get_args(OnJobDrift):
            raise InvalidRequestError(f"on_drift must be 'raise' or 'rebuild', got {self.on_drift!r}")
        if isinstance(self.ids_or_plan, Plan) and self.touchpoint_ids is not None:
            raise InvalidRequestError("touchpoint_ids does not go with a plan; pass it to etl.plan()")
        if len(self.experience_ids) > 1 and (self.touchpoint_ids is not None or self.state is not None):
            raise InvalidRequestError("touchpoint_ids and state go with one experience, not with several")
        if self.state is not None:
            if isinstance(self.ids_or_plan, Plan) and any(each.stop is not None for each in self.ids_or_plan.works):
                raise InvalidRequestError("a part of a plan has its own ranges; pass state with an id or a whole plan")
            read_states(self.state, *self.experience_ids)

    @property
    def experience_ids(self) -> tuple[str, ...]:
        """The ids of the experiences to read, one or more."""
        ids = self.ids_or_plan.experience_id if isinstance(self.ids_or_plan, Plan) else self.ids_or_plan
        return (ids,) if isinstance(ids, str) else ids

    def split(self) -> "list[JobOptions]":
        """Return the options for each experience alone."""
        if not isinstance(self.ids_or_plan, tuple):
            return [self]
        return [evolve(self, ids_or_plan=each) for each in self.ids_or_plan]

    async def make_plan(self, client: DistinctClient) -> Plan:
        """Return the plan of what to read in an experience."""
        if not isinstance(self.ids_or_plan, Plan):
            (experience_id,) = self.experience_ids
            return await plan(client, experience_id, visits_type=self.visits_type, touchpoint_ids=self.touchpoint_ids)
        return self.ids_or_plan if self.state is not None else self.ids_or_plan.exact()
