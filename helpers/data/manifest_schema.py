"""The form of a data manifest, as pydantic models: every field, its values, and what it means.

In: the content of a YAML file. Out: a frozen `Manifest`. Raises pydantic's `ValidationError` for
unknown or misspelt fields, rules that contradict each other, paths that are absolute or contain
`..`. The shipped manifests are the worked examples.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from helpers.data.layout_schema import (
    FolderLayout,
    Name,
    ParquetLayout,
    RelativePath,
    Share,
    Split,
    Strict,
    SyntheticLayout,
    TableLayout,
    template_columns,
)

COHORT_COLUMNS = ("image_id", "patient_id", "split", "sex", "age_years", "n_comorbidities")
SPLITS = ("train", "valid", "test")


class Age(Strict):
    """Ages above `max_years` or below 0 are impossible: they become unknown and are counted."""

    column: str
    unit: Literal["years", "days"]
    max_years: float = 120


class Sex(Strict):
    """What the recorded values mean; blank is unknown, any other value is refused."""

    column: str
    values: dict[str, Literal["female", "male", "unknown"]]


class Finding(Strict):
    """How a finding's label (1, 0 or unknown) follows from one column, or from any of several."""

    canonical: Name
    # the patient's, where the label says it; right lies left in the image
    side: Literal["right", "left"] | None = None
    column: str | None = None
    any_of: list[str] = []
    positive_grades: list[int] = []
    grades: list[int] = []  # all grades there are
    alternative_positive_grades: list[int] = []  # another defensible rule, for the reader; not used
    contains: list[str] = []  # positive when the cell lists one of these
    separator: str = "|"
    known: list[str] = []  # all entries a cell may list; empty = any
    values: dict[str, Literal["positive", "negative", "uncertain"]] = {}
    blank_means: Literal["negative", "unknown"] = "unknown"
    uncertain_means: Literal["positive", "negative", "unknown"] = "unknown"

    @model_validator(mode="after")
    def _one_rule(self) -> "Finding":
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


class ImageRule(Strict):
    """How an image becomes a square of `px`; `aspect` is explained in `decode_film.decode`."""

    px: int = Field(512, ge=16, le=2048)
    equalise: bool = True
    aspect: Literal["pad", "stretch"] = "pad"
    inverted: Inverted | None = None


class VolumeRule(Strict):
    """How a CT volume becomes voxels of 8 bit: see `decode_volume.decode`."""

    shape: tuple[int, int, int]  # depth, height, width in voxels
    spacing_mm: tuple[float, float, float]  # along the same
    window_hu: tuple[float, float] = (-150, 250)  # Hounsfield units that become black and white
    # a template, as image_path: labels of the organ on which the grid is centred
    mask: RelativePath | None = None
    mask_labels: list[int] = []  # of the whole organ, lesion included

    @model_validator(mode="after")
    def _in_range(self) -> "VolumeRule":
        if not all(8 <= size <= 512 for size in self.shape) or not all(
            0.1 <= mm <= 20 for mm in self.spacing_mm
        ):
            raise ValueError("needs 8 to 512 voxels of 0.1 to 20 mm along each side")
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError("`window_hu` needs its lower end first")
        if bool(self.mask) != bool(self.mask_labels):
            raise ValueError("`mask` and `mask_labels` belong together")
        return self


class Named(Strict):
    """A further column whose values are renamed; those without an entry become `other`, or stay."""

    column: str
    values: dict[str, str]
    other: str | None = None


class Manifest(Strict):
    """What is known of a data set; every field is explained in the shipped examples."""

    name: Name
    title: str
    modality: str
    access: Literal["open", "registration", "credentialed", "private", "embedded"]
    licence: str
    citation: str
    how_to_get: str
    layout: Annotated[
        SyntheticLayout | TableLayout | ParquetLayout | FolderLayout, Field(discriminator="kind")
    ]
    image_id: str  # a template, as image_path
    patient_id: str
    sex: Sex | None = None
    age: Age | None = None
    n_comorbidities: str | None = None
    further_columns: dict[Name, str | Named] = {}  # name in the cohort's table -> source column
    keep: dict[str, list[str]] = {}  # rows whose column has one of these values
    findings: dict[Name, Finding] = Field(min_length=1)
    split: SplitRule
    image: ImageRule = ImageRule()
    volume: VolumeRule | None = None  # of CT, in place of `image`
    min_share_present: Share = 0.95  # of the rows kept; fewer files than that are refused
    # as published; shown beside what was found
    sizes: dict[Literal["rows", "images", "patients"], int] = {}
    checksums: dict[RelativePath, str] = {}  # sha256 of files; a difference is noted

    @model_validator(mode="after")
    def _embedded_is_drawn(self) -> "Manifest":
        """Refuse real patients called embedded: demo mode, whose noise can be recomputed, would be
        open to them.
        """
        if self.access == "embedded" and self.layout.kind != "synthetic":
            raise ValueError(
                "`access: embedded` belongs to drawn images (layout synthetic): real patients are"
                " open, registration, credentialed or private"
            )
        return self

    @model_validator(mode="after")
    def _names_are_free(self) -> "Manifest":
        names = [*COHORT_COLUMNS, "film_sha256", *self.findings, *self.further_columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if self.volume and self.layout.kind == "parquet_images":
            raise ValueError("volumes are read from files, not from parquet shards")
        if repeated:
            raise ValueError(f"names used twice in the cohort's table: {', '.join(repeated)}")
        return self

    @property
    def further_sources(self) -> dict[str, str]:
        """The source column of each further column."""
        return {
            name: source if isinstance(source, str) else source.column
            for name, source in self.further_columns.items()
        }

    @property
    def source_columns(self) -> list[str]:
        """All columns the rules read from the source table, in order, each once."""
        templates = [
            self.image_id,
            getattr(self.layout, "image_path", ""),
            self.volume and self.volume.mask or "",
        ]
        single_columns = [
            self.patient_id,
            self.sex and self.sex.column,
            self.age and self.age.column,
            self.n_comorbidities,
            self.split.column,
            self.image.inverted and self.image.inverted.column,
        ]
        columns = [
            *(column for template in templates for column in template_columns(template)),
            *filter(None, single_columns),
            *(column for rule in self.findings.values() for column in rule.columns),
            *self.further_sources.values(),
            *self.keep,
        ]
        return list(dict.fromkeys(columns))
