"""The rules of a data manifest, as pydantic models: from a source table's cells to a cohort's.

In: parts of a YAML file. Out: frozen models. Raises pydantic's `ValidationError` for unknown or
misspelt fields and for rules that contradict each other.
"""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from helpers.core.strict_models import Name, RelativePath, Share, Split, Strict

AgeUnit = Literal["years", "months", "weeks", "days"]


class Extract(Strict):
    """A further source column: the one group of a regular expression, searched in another column.

    A cell in which it is not found is refused, unless it is blank.
    """

    column: str
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            n_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if n_groups != 1:
            raise ValueError(f"needs exactly one group (...), has {n_groups}")
        return pattern


class Long(Strict):
    """A row a finding: the column that names it, and the column that holds its value.

    Each name becomes a source column that the findings' rules can read. Without `value` a finding
    that is listed has the cell "1"; one that an image's rows do not list is blank.
    """

    finding: str
    value: str | None = None


class Rows(Strict):
    """How several rows of one image become one; without this rule they are refused.

    `readers` combines the labels of the rows: of an image's known labels the majority (a tie is
    unknown); `any`: positive if one row is; `all`: negative if one row is; else unknown if one row
    is. Everything else must be equal in all rows of an image.
    """

    readers: Literal["majority", "any", "all"] | None = None
    long: Long | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> "Rows":
        if bool(self.readers) == bool(self.long):
            raise ValueError("needs either `readers` or `long`")
        return self


class Age(Strict):
    """Age at the study: as recorded, or from two dates, or from an age in another year.

    DICOM's form (042Y, 018M, 003W, 010D, also in small letters) is understood; `unit_suffixes` go
    before it. Ages above `max_years` or below 0 are impossible: they become unknown and are
    counted.
    """

    column: str | None = None
    unit: AgeUnit = "years"
    unit_suffixes: dict[str, AgeUnit] = {}  # "mo": months
    at_least: dict[str, float] = {}  # what a cell such as ">89" counts as, in years
    missing: list[str] = []  # cells that mean unknown
    birth_date: str | None = None  # column, with `study_date`
    study_date: str | None = None
    anchor_age: str | None = None  # column, in years in the year of `anchor_year`; with study_date
    anchor_year: str | None = None
    # tried in order; without a day the middle of the month or, for "%Y" alone, 1 July
    date_formats: list[str] = ["%Y-%m-%d", "%Y%m%d"]
    max_years: float = 120

    @model_validator(mode="after")
    def _one_source(self) -> "Age":
        sources = [
            bool(self.column),
            bool(self.birth_date),
            bool(self.anchor_age or self.anchor_year),
        ]
        if (
            sum(sources) != 1
            or bool(self.study_date) == bool(self.column)
            or bool(self.anchor_age) != bool(self.anchor_year)
        ):
            raise ValueError(
                "needs `column`, or `birth_date` and `study_date`, or `anchor_age`, `anchor_year`"
                " and `study_date`"
            )
        return self

    @field_validator("date_formats")
    @classmethod
    def _say_the_century(cls, forms: list[str]) -> list[str]:
        if not forms or not all("%Y" in form for form in forms):
            raise ValueError("need %Y: a year of two digits does not say its century")
        return forms

    @property
    def source_columns(self) -> list[str]:
        """The source columns it reads."""
        columns = [
            self.column,
            self.birth_date,
            self.study_date,
            self.anchor_age,
            self.anchor_year,
        ]
        return [column for column in columns if column]


class Sex(Strict):
    """What the recorded values mean; blank is unknown, any other value is refused."""

    column: str
    values: dict[str, Literal["female", "male", "unknown"]]


class Finding(Strict):
    """How a finding's label (1, 0 or unknown) follows from one column, or from any of several."""

    canonical: Name
    # the patient's, where the label says it; right lies left in the image
    side: Literal["right", "left"] | None = None
    # it can be on one side of the body: its label without a side means "right or left"
    lateral: bool = False
    column: str | None = None
    any_of: list[str] = []
    positive_grades: list[int] = []
    grades: list[int] = []  # all grades there are
    alternative_positive_grades: list[int] = []  # another defensible rule, for the reader; not used
    contains: list[str] = []  # positive when the cell lists one of these
    separator: str = "|"
    # "list": a cell is a list literal, as Python writes it: ['effusion', 'cardiomegaly']
    cell: Literal["separated", "list"] = "separated"
    known: list[str] = []  # all entries a cell may list; empty = any
    values: dict[str, Literal["positive", "negative", "uncertain"]] = {}
    blank_means: Literal["negative", "unknown"] = "unknown"
    uncertain_means: Literal["positive", "negative", "unknown"] = "unknown"

    @model_validator(mode="before")
    @classmethod
    def _side_makes_lateral(cls, content: object) -> object:
        if isinstance(content, dict) and content.get("side"):
            return {"lateral": True} | content
        return content

    @model_validator(mode="after")
    def _one_rule(self) -> "Finding":
        if self.side and not self.lateral:
            raise ValueError("has a `side`, so that it is lateral: leave out `lateral: false`")
        if bool(self.column) == bool(self.any_of):
            raise ValueError("needs either `column` or `any_of`")
        if sum(map(bool, (self.positive_grades, self.contains, self.values))) != 1:
            raise ValueError("needs exactly one rule: `positive_grades`, `contains` or `values`")
        if self.positive_grades and not set(self.positive_grades) < set(self.grades):
            raise ValueError(
                "needs `grades`, all grades there are, with `positive_grades` among them"
            )
        if self.known and not set(self.contains) <= set(self.known):
            raise ValueError("`contains` names an entry that `known` does not")
        return self

    @property
    def meaning(self) -> str:
        """The canonical name, with the side where there is one: "pleural_effusion:right"."""
        return f"{self.canonical}:{self.side}" if self.side else self.canonical

    @property
    def columns(self) -> list[str]:
        """The source columns it reads."""
        return self.any_of or [self.column]


class SplitRule(Strict):
    """The given split (a column, or lists of image ids); without one, a hash of the patient."""

    column: str | None = None
    values: dict[str, Split] = {}
    lists: dict[Split, RelativePath] = {}
    # lines of a list that name no row of the table: the table is a part of the data set
    extra_lines: Literal["refuse", "ignore"] = "refuse"
    valid_share: Share = 0  # of all patients; of the training patients where a split is given
    test_share: Share = 0

    @property
    def is_given(self) -> bool:
        """Whether the data set comes with a split."""
        return bool(self.column or self.lists)

    @model_validator(mode="after")
    def _one_source(self) -> "SplitRule":
        if self.column and self.lists or bool(self.column) != bool(self.values):
            raise ValueError("needs `column` with `values`, or `lists`, or neither")
        if self.is_given and self.test_share or self.valid_share + self.test_share >= 1:
            raise ValueError(
                "`test_share` belongs to a split by hash, and shares must leave patients to"
                " train on"
            )
        return self


class Inverted(Strict):
    """Which images are stored inverted (high value = dark, as MONOCHROME1)."""

    column: str
    values: list[str]


class Named(Strict):
    """A further column whose values are renamed; those without an entry become `other`, or stay."""

    column: str
    values: dict[str, str] = Field(min_length=1)
    other: str | None = None
