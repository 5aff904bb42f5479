"""What all groups of options share: strict, frozen, and their common types."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _as_name(value: object) -> object:
    """`0` and `1` are names of classes too: YAML reads them as numbers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else value


Name = Annotated[str, BeforeValidator(_as_name)]


class Section(BaseModel):
    """A strict, frozen group of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
