"""The form of a data manifest, as pydantic models: every field, its values, and what it means.

In: the content of a YAML file. Out: a frozen `Manifest`. Raises pydantic's `ValidationError` for
unknown or misspelt fields, rules that contradict each other, paths that are absolute or contain
`..`. The shipped manifests are the worked examples.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from helpers.core.strict_models import Name, RelativePath, Share, Strict
from helpers.data.layout_schema import (
    ArraysLayout,
    DicomLayout,
    FolderLayout,
    ParquetLayout,
    SyntheticLayout,
    TableLayout,
    template_columns,
)
from helpers.data.rule_schema import (
    Age,
    Extract,
    Finding,
    Inverted,
    Named,
    Rows,
    Sex,
    SplitRule,
)

COHORT_COLUMNS = ("image_id", "patient_id", "split", "sex", "age_years", "n_comorbidities")
# of a cohort's table, and of the tables on the way to it
RESERVED_COLUMNS = (
    "film_sha256",
    "pixels_sha256",
    "sha256",
    "row",
    "file",
    "bytes",
    "reason",
    "is_constant",
    "is_nearly_uniform",
    "inverted",
    "mask",
    "slices",
    "slice_bytes",
    "unusable",
    "chunk",
    "index_in_chunk",
)
SPLITS = ("train", "valid", "test")


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


class Download(Strict):
    """A file that `run_all.py --download` fetches into the data root."""

    url: str
    checksum: str = Field(pattern=r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")
    to: RelativePath  # where it lies under the data root; of an archive, the folder of its content
    unpack: bool = False  # a .zip or .tar(.gz): only regular files, none outside `to`
    max_bytes: int = Field(gt=0)  # of the file, and of an archive's content; more is refused


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
        SyntheticLayout | TableLayout | ParquetLayout | FolderLayout | DicomLayout | ArraysLayout,
        Field(discriminator="kind"),
    ]
    download: list[Download] = []
    extract: dict[str, Extract] = {}  # further source columns, which all other rules can read
    missing: list[str] = []  # cells that count as blank in every column, such as "NA"
    rows: Rows | None = None  # where an image has several rows
    image_id: str  # a template, as image_path
    # None: the data set does not say whose an image is. Image-level privacy only; `sex` and `age`
    # are those recorded with the image, and intervals count images as independent.
    patient_id: str | None = None
    one_image_a_patient: bool = False  # confirms a patient_id that equals image_id on every row
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
        names = [*COHORT_COLUMNS, *RESERVED_COLUMNS, *self.findings, *self.further_columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if not self.patient_id and (self.n_comorbidities or self.one_image_a_patient):
            raise ValueError("`n_comorbidities` and `one_image_a_patient` need `patient_id`")
        if template_columns(self.patient_id or "") and self.patient_id not in self.extract:
            raise ValueError(
                "`patient_id` is a column's name, no template: `extract` takes a patient out of a"
                " path"
            )
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
    def label_columns(self) -> list[str]:
        """The columns that the findings' rules read, each once."""
        columns = [column for rule in self.findings.values() for column in rule.columns]
        return list(dict.fromkeys(columns))

    @property
    def image_columns(self) -> list[str]:
        """The columns that say something of an image but its labels, each once; its rows agree."""
        columns = [
            self.patient_id,
            self.sex and self.sex.column,
            *(self.age.source_columns if self.age else []),
            self.n_comorbidities,
            self.split.column,
            self.image.inverted and self.image.inverted.column,
            *template_columns(self.volume and self.volume.mask or ""),
            *self.further_sources.values(),
        ]
        return list(dict.fromkeys(filter(None, columns)))

    @property
    def read_columns(self) -> list[str]:
        """All columns of a layout's table that the rules read, in order, each once."""
        long = self.rows and self.rows.long
        columns = [
            *template_columns(self.image_id),
            *template_columns(getattr(self.layout, "image_path", "")),
            *self.image_columns,
            *(filter(None, [long.finding, long.value]) if long else self.label_columns),
            *self.keep,
            *(rule.column for rule in self.extract.values()),
        ]
        return [column for column in dict.fromkeys(columns) if column not in self.extract]

    @property
    def source_columns(self) -> list[str]:
        """Those of `read_columns` that the files must have: not what a layout adds."""
        added = ["table_file"] if self.layout.kind == "table_and_images" else []
        return [column for column in self.read_columns if column not in added]
