"""What the models of manifests are made of: a strict base class, names, relative paths, shares.

In: parts of a YAML file. Out: frozen values. Raises pydantic's `ValidationError` for unknown
fields, and for paths that are absolute or contain `..`.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def stay_inside(path: str) -> str:
    """Return a relative path that names something under its root."""
    if (
        not path
        or path.startswith(("/", "~"))
        or "\\" in path
        or "\0" in path
        or re.match(r"[A-Za-z]:", path)
        or ".." in path.split("/")
    ):
        raise ValueError(
            "must be a path under the data root, written with '/': not absolute, no '..'"
        )
    return path


RelativePath = Annotated[str, AfterValidator(stay_inside)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Split = Literal["train", "valid", "test"]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """A frozen model that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)
