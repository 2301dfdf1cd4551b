"""What the models of manifests are made of: a strict base class, names, relative paths, shares.

In: parts of a YAML file. Out: frozen values. Raises pydantic's `ValidationError` for unknown
fields, and for paths that are absolute or contain `..`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from helpers.core.paths_inside import stay_inside

RelativePath = Annotated[str, AfterValidator(stay_inside)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Split = Literal["train", "valid", "test"]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)
