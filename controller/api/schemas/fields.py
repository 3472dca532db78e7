"""Field types of bodies, and the errors of their values."""

from __future__ import annotations

from collections.abc import Set
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from flows.errors import InvalidValue
from flows.model import NAME, SESSION_NUMBERS, check_name


def invalid(sentence: str, field: str | None = None) -> PydanticCustomError:
    """The error of a value that is never valid."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence, "field": field})


def unsupported(field: str, what: str, hint: str) -> PydanticCustomError:
    """The error of an option that is part of the contract but not supported yet."""
    sentence = f"{what} is not supported yet: {hint}"
    return PydanticCustomError("unsupported", "{sentence}", {"sentence": sentence, "field": field})


def check_no_nulls(data: dict[str, Any], keys: Set[str]) -> None:
    """Check that none of these keys of a PATCH is null: leaving it out keeps the value."""
    for key in data:
        if key in keys and data[key] is None:
            raise invalid(f"{key} cannot be null: leave it out to keep it", key)


def _check_name(value: str) -> str:
    try:
        check_name("the name", value)
    except InvalidValue as error:
        raise invalid(str(error)) from error
    return value


Name = Annotated[
    str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME.pattern})
]
REF_LENGTH_MAX = 255
"""Longest id or name, in characters."""

Ref = Annotated[
    str, Field(max_length=REF_LENGTH_MAX, description="An id, or a name of the tenant.")
]
StateWord = Literal["pending", "active", "degraded", "inactive", "stopped", "error"]
DirectionWord = Literal["ingress", "egress", "both"]
ModeWord = Literal["copy", "exclusive"]
Number = Annotated[int, Field(ge=SESSION_NUMBERS.start, lt=SESSION_NUMBERS.stop)]


class Body(BaseModel):
    """A JSON body: unknown fields are refused, and no type is converted."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)
