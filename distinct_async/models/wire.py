"""The names of fields in JSON, and the pydantic schema that lets FastAPI accept and return the models.

pydantic is imported only here, and only when pydantic asks for the schema.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import attrs

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


def wire_names(model: type) -> Mapping[str, str]:
    """Return the names of a model's fields by their names in JSON, in order."""
    return {str(each.metadata.get("wire", each.name)): each.name for each in attrs.fields(model)}


class WireModel:
    """A model that pydantic can validate and serialize as a JSON object with the vendor's names.

    It validates what the vendor sends: unknown names are ignored, null and missing mean the same for optional fields,
    and times are converted to UTC. It serializes every field.
    """

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        """Return one schema for both directions; pydantic's dataclass schema serializes only real dataclasses."""
        from pydantic_core import core_schema  # noqa: PLC0415  # see the module's docstring

        names = wire_names(cls)
        validated_fields: dict[str, core_schema.TypedDictField] = {}
        serialized_fields: dict[str, core_schema.TypedDictField] = {}
        for wire, attribute in zip(names, attrs.fields(cls), strict=True):  # type: ignore[arg-type]  # a model is an attrs class
            schema = _make_schema(attribute.type, handler)
            serialized_fields[wire] = core_schema.typed_dict_field(schema)
            if is_optional := type(None) in get_args(attribute.type):
                schema = core_schema.with_default_schema(schema, default=None)
            required = not is_optional and attribute.default is attrs.NOTHING
            validated_fields[wire] = core_schema.typed_dict_field(schema, required=required)

        def validate(value: object, fields_of: Any) -> object:  # noqa: ANN401  # pydantic's handler is private to it
            if isinstance(value, cls):
                return value
            return cls(**{names[wire]: each for wire, each in fields_of(value).items()})

        def serialize(value: object) -> dict[str, object]:
            return {wire: getattr(value, name) for wire, name in names.items()}

        return core_schema.no_info_wrap_validator_function(
            validate,
            core_schema.typed_dict_schema(validated_fields, cls=cls),
            ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",  # the name in OpenAPI's components
            serialization=core_schema.plain_serializer_function_ser_schema(
                serialize, return_schema=core_schema.typed_dict_schema(serialized_fields, cls=cls)
            ),
        )


def to_dict(value: WireModel, wire: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002  # mostly passed by name
    """Return a model as a dict for ``json.dumps``, pandas or Polars.

    Args:
        value: A model: a visit, an impression, the metrics of an experience.
        wire: Whether the keys are the vendor's names (``userId``) instead of the fields' (``user_id``).

    Returns:
        A new dict of all fields. Models in it are dicts too, tuples are lists, and times are strings like
        ``2026-06-01T12:00:00Z``.

    Raises:
        TypeError: If the value is not a model.
    """
    if not isinstance(value, WireModel):
        raise TypeError(f"value must be a model of distinct_async.models, got {type(value).__name__}")
    fields = wire_names(type(value)).items()
    return {key if wire else name: _to_builtin(getattr(value, name), wire) for key, name in fields}


def _to_builtin(value: object, wire: bool) -> object:  # noqa: FBT001
    if isinstance(value, WireModel):
        return to_dict(value, wire)
    if isinstance(value, tuple | list):
        return [_to_builtin(each, wire) for each in value]
    if isinstance(value, Mapping):
        return {key: _to_builtin(each, wire) for key, each in value.items()}
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _make_schema(hint: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":  # noqa: ANN401  # a type or a type form
    from pydantic_core import core_schema  # noqa: PLC0415

    if hint == tuple[datetime, ...]:
        return core_schema.tuple_variable_schema(_make_schema(datetime, handler))
    schema = handler.generate_schema(hint)
    return core_schema.no_info_after_validator_function(_to_utc, schema) if hint is datetime else schema


def _to_utc(time: datetime) -> datetime:
    """Return an aware time in UTC; a time without a zone is in UTC (docs/explanation/vendors.md, A22)."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is outside the years 1 to 9999 in UTC") from None
