"""The layouts of a data manifest, as pydantic models: where a data set's table and images lie.

In: the `layout` of a YAML file. Out: one frozen model a *kind* of layout, which `layouts` reads.
Raises pydantic's `ValidationError` for unknown fields and for paths that are absolute or contain
`..`.
"""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from helpers.core.strict_models import RelativePath, Split, Strict


class SyntheticLayout(Strict):
    """Images drawn by an embedded generator; no files. Sites of CT volumes begin with ct_."""

    kind: Literal["synthetic"]
    site: str
    generator_version: int
    generator_seed: int = 0
    patients: dict[Split, Annotated[int, Field(ge=0)]]


class _Tables(Strict):
    """Whatever has one table, or several."""

    @property
    def tables(self) -> list[str]:
        """The tables that stand one below the other."""
        return self.table if isinstance(self.table, list) else [self.table]


class Join(_Tables):
    """A further table whose columns are added to the rows of the first, by equal identifiers."""

    # tables with the same columns stand one below the other
    table: RelativePath | Annotated[list[RelativePath], Field(min_length=1)]
    # columns of the rows -> columns of this table that must be equal; a list where names are equal
    by: dict[str, str] | list[str] = Field(min_length=1)
    columns: list[str] = []  # of this table, those that are added; empty = all
    encoding: str = "utf-8"
    separator: str = ","
    # rows without a partner are refused, unless this says on which side they are expected; with
    # "rows", a column "in <table>" says "yes" where there is one, for `keep`
    unmatched: list[Literal["rows", "table"]] = []

    @property
    def name(self) -> str:
        """The tables' names, for messages and for the column that says who has a partner."""
        return " and ".join(self.tables)

    @property
    def keys(self) -> dict[str, str]:
        """Columns of the rows -> columns of this table that must be equal."""
        return self.by if isinstance(self.by, dict) else {column: column for column in self.by}


class TableLayout(_Tables):
    """Tables (CSV, also compressed *.gz, or Excel *.xlsx), and one image file per row.

    Several tables stand one below the other; the column `table_file` names each row's table.
    """

    kind: Literal["table_and_images"]
    table: RelativePath | Annotated[list[RelativePath], Field(min_length=1)]
    joins: list[Join] = []
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
    # rows without a partner are refused, unless this says on which side they are expected
    unmatched: list[Literal["rows", "table"]] = []

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


class DicomLayout(Strict):
    """DICOM files; their tags are the table. With `volume`, the series of CT studies.

    `files` is a pattern with `*` and `**/`, such as "**/*.dcm", or "**/*" for files without ending.
    Columns: `file` (the path without an ending .dcm, .dicom, .dic or .ima), `name` (the file's name
    likewise), `folder` (the path of its folder), and the standard tags of `dicom_tags.COLUMNS` by
    their keyword (PatientID, PatientSex, PatientAge, ViewPosition, ...).
    """

    kind: Literal["dicom_files"]
    files: RelativePath
    joins: list[Join] = []  # tables, such as labels, by one of these columns


class ArraysLayout(Strict):
    """One npz file with arrays `<prefix>_images` and `<prefix>_labels`, as MedMNIST's.

    Columns: `split` (the prefix), `number` (of the image in its array), `label_0`, `label_1`, ...
    """

    kind: Literal["arrays"]
    file: RelativePath
    prefixes: list[str] = ["train", "val", "test"]


def template_columns(template: str) -> list[str]:
    """Return the columns that a template such as "{folder}/{filename}" names."""
    return re.findall(r"\{([^{}]+)\}", template)
