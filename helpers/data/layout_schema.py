"""The layouts of a data manifest, as pydantic models: where a data set's table and images lie.

In: the `layout` of a YAML file. Out: one frozen model a *kind* of layout, which `layouts` reads.
Raises pydantic's `ValidationError` for unknown fields and for paths that are absolute or contain
`..`.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def stay_inside(path: str) -> str:
    """Return a relative path that names something under its root."""
    if (
        not path
        or path.startswith(("/", "~"))
        or "\\" in path
        or "\0" in path
        or re.match(r"[A-Za-z]:", path)
        or ".." in PurePosixPath(path).parts
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


class SyntheticLayout(Strict):
    """Images drawn by an embedded generator; no files. Sites of CT volumes begin with ct_."""

    kind: Literal["synthetic"]
    site: str
    generator_version: int
    generator_seed: int = 0
    patients: dict[Split, Annotated[int, Field(ge=0)]]


class TableLayout(Strict):
    """One table (CSV, or an Excel file *.xlsx), and one image file per row of it."""

    kind: Literal["table_and_images"]
    table: RelativePath
    encoding: str = "utf-8"
    separator: str = ","
    # a template: "{folder}/{filename}" takes both from the table's columns
    image_path: RelativePath
    # `image_path` is a file's name, to be found in whatever folder below the data root
    anywhere: bool = False
    checksums: RelativePath | None = None  # a CSV with columns path and sha256


class ParquetLayout(Strict):
    """Parquet shards, one row per image, the encoded image in a binary column or a struct with
    `bytes`.
    """

    kind: Literal["parquet_images"]
    shards: list[RelativePath] = Field(min_length=1)  # patterns; each must match a file
    image_column: str


class FolderLayout(Strict):
    """A folder a split, in it a folder a class, in it the image files.

    "{split}/{class}/{name}.nii" names the columns.
    """

    kind: Literal["folders"]
    pattern: RelativePath
    # a CSV with a column `name`, as in the pattern, and further ones
    table: RelativePath | None = None

    @model_validator(mode="after")
    def _names_are_columns(self) -> "FolderLayout":
        names = template_columns(self.pattern)
        if (
            not all(name.isidentifier() for name in names)
            or len(set(names)) < len(names)
            or self.table
            and "name" not in names
        ):
            raise ValueError(
                "`pattern` needs names of letters, digits and _, each once, {name} among them where"
                " there is a `table`"
            )
        return self


def template_columns(template: str) -> list[str]:
    """Return the columns that a template such as "{folder}/{filename}" names."""
    return re.findall(r"\{([^{}]+)\}", template)
