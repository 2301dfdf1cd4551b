"""Models of the notebooks' parameters: one a notebook, a field a parameter, in the cell's order.

A field has type, range or choices, unit, the paper's value and one line of meaning. Defaults stand
in the notebooks alone. In: nothing. Out: `MODELS`. `notebook_parameters` checks by them.
"""

from typing import Annotated, Any, Literal

import pydantic
from annotated_types import Predicate

MOST_PLANNED = 12  # comparisons of notebook 04: more would leave none of them any power


def _field(
    meaning: str, *, unit: str = "", paper: str = "", form: str = "", rarely: bool = False, **limits
) -> Any:
    """Return a field; `form` says in words what the limits do not, `rarely` that few change it."""
    extra = {"unit": unit, "paper": paper, "form": form, "rarely": rarely}
    return pydantic.Field(description=meaning, json_schema_extra=extra, **limits)


_COLUMNS = 'a list of columns in quotes, e.g. ["sex", "age"], or []'

_Planned = Annotated[
    tuple[str, str, Annotated[float, pydantic.Field(gt=0)]],
    pydantic.Strict(False),
    pydantic.BeforeValidator(lambda row: row if isinstance(row, (list, tuple)) else None),
]

# ---- parameters of several notebooks

Cohort = Annotated[str, _field("private patients: a manifest's name, or the path of a YAML file")]
Pretrain = Annotated[
    str,
    _field(
        "where training starts: a public manifest, a *.safetensors file, a state dict of"
        ' torchvision (*.pth), or "none"',
        paper="MIMIC-CXR; CT: none",
    ),
]
EvaluateOn = Annotated[
    str, _field('further data set on whose patients models are tried as well, or "none"')
]
Epochs = Annotated[
    int, _field("passes through the private training images", unit="passes", ge=1, le=1e5)
]
LearningRate = Annotated[
    float, _field("highest of the schedule", paper="5e-5, constant", gt=0, le=100)
]
Devices = Annotated[
    int,
    _field(
        "that train a run together: GPUs of this machine, processes where it has none; changes"
        " speed, not results",
        unit="devices",
        rarely=True,
        ge=1,
        le=4096,
    ),
]
Head = Literal["halves", "levels", "sided", "pooled"]
Network = Literal["resnet9", "resnet18", "resnet50", "densenet121", "convnext_tiny", "vit_b_16"]
Runs = Annotated[
    list[str],
    _field(
        "names of runs; [] takes all finished ones of the cohort",
        form="a list of runs in quotes, or []",
    ),
]
Predictions = Annotated[
    list[dict[str, Any]],
    _field(
        "predictions of other models, instead of runs",
        form='a list like [{"path": "a.csv", "arm": "dp", "epsilon": 8}], or []',
    ),
]
Table = Annotated[str, _field('table of images that belongs to PREDICTIONS, or ""')]
Attributes = Annotated[
    list[str],
    _field('columns that make groups; also "age quartile", "sex x age"', form=_COLUMNS),
]
AgeEdges = Annotated[
    list[Annotated[float, pydantic.Field(ge=0, le=120)]],
    _field(
        "lower edges of the age bands, the last one open",
        unit="years",
        paper="[0, 30, 60, 70, 80]",
        form="lower edges of age bands in years, from 0 upwards, e.g. [0, 30, 60, 70, 80]",
        min_length=2,
    ),
    Predicate(lambda edges: edges[0] == 0 and edges == sorted(set(edges))),
]
Findings = Annotated[
    list[str],
    _field(
        "that means are over; [] takes those estimable in every group of an attribute",
        form='names of findings, e.g. ["pneumonia", "effusion"], or []',
    ),
]
NBootstrap = Annotated[
    int,
    _field(
        "resamples, for all metrics but AUROC",
        unit="of patients",
        paper="1,000 of images",
        ge=20,
        le=1e5,
    ),
]
MinPatients = Annotated[
    int,
    _field(
        "fewest with, and without, the finding, and half of the distinct ones, for a group to be"
        " estimable",
        unit="patients",
        ge=2,
        le=1e5,
    ),
]
Seed = Annotated[int, _field("names the random streams", ge=0, le=2**31)]
NPatients = Annotated[int, pydantic.Field(ge=0, le=1e8)]


class _Model(
    pydantic.BaseModel,
    extra="forbid",
    strict=True,
    validate_assignment=True,
    allow_inf_nan=False,
):
    """Parameters of one notebook."""


class DataPreparation(_Model):
    """Parameters of notebook 01."""

    COHORT: Cohort
    PRETRAIN: Pretrain
    EVALUATE_ON: EvaluateOn
    DATA_ROOTS: dict[str, str] = _field(
        "manifest's name -> folder of its files; drawn cohorts need none",
        form='names and folders, e.g. {"ward": "/data/ward"}, or {}',
    )
    IMAGE_PX: int = _field(
        "height and width; 0: as in the manifest", unit="pixels", paper="512", ge=0, le=2048
    )
    EQUALISE: Literal["as_manifest", "yes", "no"] = _field("histogram equalisation", paper="yes")
    VOLUME_SHAPE: Annotated[
        list[Annotated[int, pydantic.Field(ge=8, le=512)]],
        Predicate(lambda shape: len(shape) in (0, 3)),
    ] = _field(
        "of CT: size of a volume; []: as in the manifest",
        unit="voxels",
        form="[depth, height, width], 8 to 512 voxels each, e.g. [32, 64, 64], or []",
    )
    WINDOW_HU: Annotated[
        list[Annotated[float, pydantic.Field(gt=-1e4, lt=1e4)]],
        Predicate(lambda ends: len(ends) in (0, 2) and ends == sorted(set(ends))),
    ] = _field(
        "of CT: values that become black and white; []: as in the manifest, else [-150, 250]",
        unit="Hounsfield units",
        form="[lower, upper] in Hounsfield units, e.g. [-150, 250], or []",
    )
    N_PATIENTS: NPatients = _field(
        "training patients of a drawn COHORT; 0: as in the manifest", unit="patients"
    )
    N_TEST_PATIENTS: NPatients = _field(
        "of each valid and test split of drawn cohorts; 0: as in the manifest", unit="patients"
    )
    N_PUBLIC_PATIENTS: NPatients = _field(
        "training patients of a drawn PRETRAIN; 0: as in the manifest", unit="patients"
    )
    GENERATOR_SEED: int = _field("of drawn cohorts", ge=0, le=2**31)
    UNCERTAIN_MEANS: Literal["as_manifest", "unknown", "positive", "negative"] = _field(
        "what uncertain labels count as: left out (U-ignore), present (U-ones), absent (U-zeros)"
    )


class BaselineTraining(_Model):
    """Parameters of notebook 02."""

    COHORT: Cohort
    PRETRAIN: Pretrain
    EVALUATE_ON: EvaluateOn
    PRETRAIN_EPOCHS: int = _field("passes through the public images", unit="passes", ge=1, le=1e5)
    PRETRAIN_LEARNING_RATE: float = _field("highest of the schedule", gt=0, le=100)
    PRETRAIN_AUGMENTATION: Literal["strong", "shift"] = _field(
        '"strong" varies place, size, tone and sharpness; "shift" moves only'
    )
    PRETRAIN_INVERTED: float = _field(
        "share of public films shown inverted in pretraining, as some scanners export them",
        paper="0",
        ge=0,
        le=1,
    )
    EPOCHS: Epochs
    LEARNING_RATE: LearningRate
    BATCH_SIZE: int = _field("of a step", unit="images", paper="128; CT: 512", ge=1, le=1e7)
    PHYSICAL_BATCH_SIZE: int = _field(
        "in memory at a time, in notebook 03 too; changes speed, not results",
        unit="images",
        ge=1,
        le=1e6,
    )
    AVERAGING: float = _field(
        "decay of the running mean of weights that is kept; 0: the last weights",
        paper="0",
        ge=0,
        le=0.9999,
    )
    NETWORK: Network = _field("resnet9, or a network of torchvision", paper="resnet9")
    WIDTH: int | None = _field(
        "of resnet9 after the first layer; None: of other networks, which have their own",
        unit="channels",
        paper="64",
        ge=8,
        le=512,
    )
    CHANNELS: Annotated[int, Predicate(lambda channels: channels in (1, 3))] = _field(
        "of the input, equal ones", form="1 or 3", unit="channels", paper="3"
    )
    HEAD: Head = _field(
        'what the head reads: "halves" of the film, the left one mirrored, on three levels;'
        ' "levels" of the whole image; "sided": its quarters; "pooled": its mean, the only one of'
        " networks but resnet9",
        paper="pooled",
    )
    PRECISION: Literal["float32", "bfloat16"] = _field(
        "of the network, in notebook 03 too; norms, sums and noise are float32"
    )
    SCORE_SHIFTS: Annotated[int, Predicate(lambda shifts: shifts in (1, 5))] = _field(
        "small shifts of an image over which a score's logit is a mean, in every arm; 1: none",
        form="1 or 5",
        paper="1",
    )
    DEVICES: Devices
    SEED: Seed


class PrivateTraining(_Model):
    """Parameters of notebook 03."""

    COHORT: Cohort
    EPSILON: float = _field(
        "privacy budget", paper="0.29, 0.54, 1.06, 2.04, 4.71, 7.89 per image", gt=0, le=1000
    )
    DELTA: float = _field(
        "far below 1 / number of training patients", paper="6e-6; CT: 1e-3", gt=0, le=0.1
    )
    PRIVACY_UNIT: Literal["patient", "image"] = _field("whom the guarantee protects", paper="image")
    MODE: Literal["demo", "private"] = _field(
        '"demo": repeatable, no guarantee; "private": fresh entropy, no diagnostics'
    )
    BUDGET: float | None = _field(
        "most epsilon of all private runs on these patients together; None: no limit",
        gt=0,
        le=1000,
    )
    SEED: Seed
    TRAINED: Literal["head", "all_then_head", "all", "last_block", "norms_and_head"] | None = (
        _field(
            "part of the network that is trained; the rest stays public; None: by the rule",
            paper="all",
            rarely=True,
        )
    )
    CLIP_NORM: float | None = _field(
        "clipping norm of a unit's gradient, of all weights; None: by the rule",
        unit="L2 norm",
        paper="1.5 per image",
        rarely=True,
        gt=0,
        le=1e6,
    )
    EXPECTED_BATCH_SIZE: int | None = _field(
        "units in a step, on average; None: by the rule",
        unit="privacy units",
        paper="128 images",
        rarely=True,
        ge=1,
        le=1e7,
    )
    EPOCHS: int | None = _field(
        "expected passes through the units; None: by the rule",
        unit="passes",
        paper="93 of 150",
        rarely=True,
        ge=1,
        le=1e5,
    )
    LEARNING_RATE: float | None = _field(
        "highest of the schedule; None: by the rule", paper="5e-4", rarely=True, gt=0, le=100
    )
    SCHEDULE: Literal["cosine", "constant"] = _field(
        '"cosine" with warm-up and averaged weights, or "constant" and the last weights',
        paper="constant",
        rarely=True,
    )
    MAX_IMAGES_PER_PATIENT: int = _field(
        "of one patient in a step; where the unit is an image, in the training set",
        unit="images",
        rarely=True,
        ge=1,
        le=1e4,
    )
    HEAD_STEPS: int | None = _field(
        "of the head alone, each with every unit; None: by the rule",
        unit="steps",
        rarely=True,
        ge=1,
        le=1e5,
    )
    HEAD_LEARNING_RATE: float | None = _field(
        "of the head alone, highest of the schedule; None: by the rule",
        rarely=True,
        gt=0,
        le=1e4,
    )
    HEAD_CLIP_NORM: float | None = _field(
        "clipping norm of a unit's gradient of the head; None: by the rule",
        unit="L2 norm",
        rarely=True,
        gt=0,
        le=1e6,
    )
    HEAD_SHARE: float | None = _field(
        "after all weights: the head's noise is calibrated to this share of EPSILON, as if it were"
        " alone; None: by the rule",
        rarely=True,
        gt=0,
        le=0.99,
    )
    POS_WEIGHT: Literal["none", "public", "private"] = _field(
        "labels on which the weight of positives is counted; private ones void the guarantee",
        paper="private",
        rarely=True,
    )
    HEAD: Head | None = _field("None: as in notebook 02", paper="pooled", rarely=True)
    RECIPE: str = _field(
        'appended to the run\'s name where it is not "default"',
        form="small letters, digits and _, since it names files, e.g. my_recipe",
        rarely=True,
        pattern="^[a-z0-9_]+$",
    )
    WITHOUT: list[Literal["noise", "clipping"]] = _field(
        "what the run leaves out, to see what each costs; such a run has no privacy",
        form='["noise"], ["noise", "clipping"], or []',
        rarely=True,
    )
    DEVICES: Devices
    CONFIRM: list[Literal["weak delta", "spend again"]] = _field(
        "what you accept knowingly: a DELTA of 1 / number of patients or more; to train anew a"
        " private run that was made otherwise",
        form='a list of "weak delta" and "spend again", or []',
        rarely=True,
    )


class FairnessAnalysis(_Model):
    """Parameters of notebook 04."""

    COHORT: Cohort
    EVALUATE_ON: EvaluateOn
    RUNS: Runs
    PREDICTIONS: Predictions
    TABLE: Table
    ATTRIBUTES: Attributes
    AGE_EDGES: AgeEdges
    FINDINGS: Findings
    N_BOOTSTRAP: NBootstrap
    MIN_PATIENTS: MinPatients
    OPERATING_POINT: str = _field(
        "of decisions, the same in every arm, fitted on valid",
        paper="youden",
        form='"youden", or "sensitivity" or "false alarms" and a number between 0 and 1, e.g.'
        ' "false alarms 0.2"',
        pattern=r"^(youden|(sensitivity|false alarms) 0?\.\d*[1-9]\d*)$",
    )
    STRATA: list[str] = _field(
        "columns within whose groups contrasts are also compared: site, scanner, view",
        form=_COLUMNS,
    )
    MARGIN: float = _field(
        "equivalence margin: smaller changes of a contrast do not matter",
        unit="AUROC",
        gt=0,
        le=0.5,
    )
    PLANNED: list[_Planned] = _field(
        "comparisons planned before looking: the change of a contrast at a budget",
        form=f"a list of [attribute, contrast, epsilon], at most {MOST_PLANNED} since each takes"
        ' power from the others, e.g. [["sex", "female - male", 1.06]], or []',
        max_length=MOST_PLANNED,
    )
    SEED: Seed


class PaperComparison(_Model):
    """Parameters of notebook 05."""

    COHORT: Cohort
    RUNS: Runs
    PREDICTIONS: Predictions
    TABLE: Table
    ATTRIBUTES: Attributes
    SHORTCUTS: list[str] = _field(
        "columns that may give a finding away: scanner, source", form=_COLUMNS
    )
    AGE_EDGES: AgeEdges
    FINDINGS: Findings
    N_BOOTSTRAP: NBootstrap
    MIN_PATIENTS: MinPatients
    SEED: Seed


class PrivacyAudit(_Model):
    """Parameters of notebook 06."""

    COHORT: Cohort
    EPSILONS: Annotated[
        list[Annotated[float, pydantic.Field(gt=0, le=1000)]],
        Predicate(lambda budgets: len(set(budgets)) == len(budgets)),
    ] = _field(
        "budgets, per patient, whose recipes are audited",
        form="a list of different numbers in (0, 1000], e.g. [1.06, 7.89], or []",
    )
    DELTA: float = _field("as in notebook 03", gt=0, le=0.1)
    N_AUDITED: int = _field(
        "training patients drawn for the audit, each in half of the models; 0: all",
        unit="patients",
        ge=0,
        le=1e8,
    )
    N_MODELS: Annotated[int, Predicate(lambda models: models % 2 == 0)] = _field(
        "of each arm; each is attacked with the others as references",
        unit="models",
        form="an even number, 6 at least",
        ge=6,
        le=1e4,
    )
    NON_PRIVATE_EPOCHS: int = _field(
        "of the models without privacy; more of them memorise more", unit="passes", ge=1, le=1e5
    )
    NON_PRIVATE_LEARNING_RATE: float = _field("highest of the schedule", gt=0, le=100)
    N_CANARIES: Annotated[int, Predicate(lambda canaries: canaries % 128 == 0)] = _field(
        "Dirac canaries of a budget", unit="canaries", form="a multiple of 128", ge=128, le=1e6
    )
    AUDITED_GROUPS: Annotated[
        list[str],
        _field(
            "columns that make groups, see ATTRIBUTES; findings and numbers of images are added",
            form=_COLUMNS,
        ),
    ]
    EXPOSURE_MARGIN: float = _field(
        "equivalence margin: smaller differences in success between groups do not matter",
        unit="AUROC of the attack",
        gt=0,
        le=0.5,
    )
    SPEND_ON_AUDIT: bool = _field(
        "of real patients: train the models, each of which spends of their budget"
    )
    BUDGET: float | None = _field("as in notebook 03", gt=0, le=1000)
    SEED: Seed


MODELS: dict[str, type[_Model]] = {
    "01": DataPreparation,
    "02": BaselineTraining,
    "03": PrivateTraining,
    "04": FairnessAnalysis,
    "05": PaperComparison,
    "06": PrivacyAudit,
}
