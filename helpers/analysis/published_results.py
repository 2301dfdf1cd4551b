"""Numbers that other studies printed: read them and reduce them.

In: a name (`data_manifests/published_results/<name>.yaml`) or the path of such a YAML file. Out:
tables, one row a printed value or a reduction of some. Raises `InputError` for an unknown name,
wrong fields, an AUROC outside [0, 1] or with more decimals than stated.

`verified: true`: read in the source by whoever transcribed it (`transcription` says how it came
here); false: remembered or heard, and left out unless asked for. To add results, write one more
file. Whether printed numbers can be right is asked in `printed_numbers`.
"""

from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, ValidationError, model_validator

from helpers.core import errors, paths, yaml_files

FOLDER = paths.repository_root() / "data_manifests" / "published_results"
ALL = "all"  # the attribute and group of everybody
COLUMNS = [
    "study",
    "metric",
    "epsilon",
    "unit",
    "delta",
    "attribute",
    "group",
    "n_positive",
    "n_negative",
    "auroc",
    "digits",
    "verified",
    "source",
]


class _Value(BaseModel, extra="forbid", frozen=True):
    """One printed AUROC; `digits` and `verified` only where they differ from the study's."""

    epsilon: float = Field(gt=0)  # .inf without privacy
    attribute: str = ALL
    group: str = ALL
    n_positive: int | None = Field(None, ge=1)
    n_negative: int | None = Field(None, ge=1)
    auroc: float = Field(ge=0, le=1)
    digits: int | None = Field(None, ge=1, le=9)
    verified: bool | None = None


class _Study(BaseModel, extra="forbid", frozen=True):
    """What one source printed; the shipped files are the worked examples."""

    name: str
    title: str
    source: str  # the citation, and where in it
    transcription: Literal["first-hand", "second-hand", "memory"]
    unit: Literal["image", "patient"]  # whose privacy epsilon bounds
    delta: float | None = Field(None, gt=0, lt=1)
    verified: bool
    digits: int = Field(ge=1, le=9)  # printed decimals
    metric: Literal["auroc", "macro_auroc"]  # of one finding, or a mean over findings
    rows: list[_Value] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_fit(self) -> "_Study":
        keys = [(row.epsilon, row.attribute, row.group) for row in self.rows]
        for key, row in zip(keys, self.rows):
            where, digits = f"epsilon {row.epsilon:g}, {row.group}", row.digits or self.digits
            problem = (
                "has two rows"
                if keys.count(key) > 1
                else (
                    "has only one of n_positive and n_negative"
                    if (row.n_positive is None) != (row.n_negative is None)
                    else (
                        f"has more decimals than digits: {digits}"
                        if exact(row.auroc) * 10**digits % 1
                        else None
                    )
                )
            )
            if problem:
                raise ValueError(f"{where} {problem}")
        return self


def names() -> list[str]:
    """Return the names of the shipped published results, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name_or_path: str | Path, verified_only: bool = True) -> pd.DataFrame:
    """Return one row a printed value, in the file's order.

    Args:
        name_or_path: a name from `names()`, or the path of a YAML file (ending in .yaml).
        verified_only: leave out what is marked `verified: false`; whatever is drawn or cited needs
            this.

    Returns:
        `COLUMNS`: epsilon inf without privacy; attribute and group "all" for everybody; delta and
        counts may be missing.

    Raises:
        InputError: no such results (lists those there); not YAML; a field is absent or wrong (names
            file and field).
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{errors.one_of('published results', str(name_or_path), names())}.yaml"
    errors.file_exists(path, f"Known published results: {', '.join(names())}.")
    try:
        study = _Study.model_validate(yaml_files.read(path))
    except ValidationError as error:
        errors.refuse(
            f"valid fields in {path.name}", yaml_files.problems(error), "Correct the file."
        )
    if study.name != path.stem:
        errors.refuse(
            f"name: {path.stem} in {path.name}",
            f"name: {study.name}",
            "Rename the file or the field.",
        )
    table = pd.DataFrame([row.model_dump() for row in study.rows]).assign(
        study=study.name,
        metric=study.metric,
        unit=study.unit,
        source=f"{study.source}; transcription: {study.transcription}",
        delta=study.delta,
        digits=[row.digits or study.digits for row in study.rows],
        verified=[study.verified if row.verified is None else row.verified for row in study.rows],
    )
    table = table[COLUMNS].astype({"delta": float, "n_positive": "Int64", "n_negative": "Int64"})
    return table[table["verified"] | (not verified_only)].reset_index(drop=True)


def contrasts(table: pd.DataFrame) -> pd.DataFrame:
    """Return signed contrasts of the AUROCs from `read` at each budget: female - male for sex, else
    each group minus the rest.

    The rest is the *mean of the other groups' AUROCs*, weighted by their counts. It is not the
    AUROC of the others taken together, which counts pairs across groups too and does not follow
    from printed values; nor does any interval.

    Returns:
        study, epsilon, attribute, group ("female - male", "<group> - rest"), contrast (NaN where a
        group or count is missing).
    """
    rows = []
    for key, part in table[table["attribute"] != ALL].groupby(
        ["study", "epsilon", "attribute"], sort=False
    ):
        aurocs = part.set_index("group")["auroc"]
        if key[-1] == "sex":
            rows.append(
                [*key, "female - male", aurocs.get("female", np.nan) - aurocs.get("male", np.nan)]
            )
            continue
        sizes = (part["n_positive"] + part["n_negative"]).to_numpy(float, na_value=np.nan)
        for group, auroc in aurocs.items():
            others = aurocs.index != group
            rest = sizes[others] @ aurocs[others] / sizes[others].sum() if others.any() else np.nan
            rows.append([*key, f"{group} - rest", auroc - rest])
    return pd.DataFrame(rows, columns=["study", "epsilon", "attribute", "group", "contrast"])


def correlation_with_epsilon(contrast_table: pd.DataFrame) -> pd.DataFrame:
    """Return Pearson's r of each contrast from `contrasts` with epsilon and with its logarithm,
    over the n private budgets.

    No p-value: fewer than ten budgets give a large r by chance, and they share one test set.
    """
    private = contrast_table[
        (contrast_table["epsilon"] < np.inf) & contrast_table["contrast"].notna()
    ]
    rows = [
        [
            *key,
            _pearson(part["contrast"], part["epsilon"]),
            _pearson(part["contrast"], np.log(part["epsilon"])),
            len(part),
        ]
        for key, part in private.groupby(["study", "attribute", "group"], sort=False)
    ]
    return pd.DataFrame(
        rows, columns=["study", "attribute", "group", "r_epsilon", "r_log_epsilon", "n"]
    )


def _pearson(first: pd.Series, second: pd.Series) -> float:
    """Pearson's r; NaN below three pairs or where one side does not vary."""
    # what differs by less differs through floating point only
    pairs = np.round([first, second], 12)
    return (
        float(np.corrcoef(pairs)[0, 1])
        if len(first) >= 3 and np.ptp(pairs, axis=1).all()
        else float("nan")
    )


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Return everybody's AUROC at each budget, from `read`, minus the one without privacy, and as a
    chance-corrected ratio.

    The ratio is (auroc - 0.5) / (auroc without privacy - 0.5). Both are NaN where the value without
    privacy is not there.
    """
    everybody = table.loc[table["attribute"] == ALL, ["study", "epsilon", "auroc"]].reset_index(
        drop=True
    )
    without = everybody[np.isinf(everybody["epsilon"])].set_index("study")["auroc"]
    reference = everybody["study"].map(without).astype(float)
    return everybody.assign(
        difference=everybody["auroc"] - reference,
        chance_corrected_ratio=(everybody["auroc"] - 0.5)
        / (reference - 0.5).where(reference > 0.5),
    )


def exact(value: float) -> Fraction:
    """Return the decimal fraction that a float is printed as, not the binary one behind it."""
    return Fraction(str(float(value)))
