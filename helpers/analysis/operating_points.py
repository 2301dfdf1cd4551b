"""Operating points: thresholds that are fitted on `valid` by one rule for every arm, with their own
uncertainty, and the error rates of images that follow.

In: labels and scores, resamples of patients of `valid` and `test`. Out: one threshold a resample,
the plain one first; rates likewise. Raises `InputError` for a rule that there is not. A threshold
that cannot be fitted, for lack of a class, is NaN.

Arms are compared at the same operating point, such as a share of false alarms: Youden's threshold
lies at another point of the ROC curve in each arm, and makes arms of little use look alike.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from helpers.analysis import bootstrap
from helpers.core import errors

ANY = "any finding"  # of `OF_IMAGES`, which are about images, not findings
UNDERDIAGNOSIS, OVERDIAGNOSIS = "underdiagnosis_rate", "overdiagnosis_rate"
# by one threshold on the largest score of any finding, as if it were a label "no finding"
_OF_NO_FINDING = "_of_no_finding"
OF_IMAGES = tuple(
    rate + of for of in ("", _OF_NO_FINDING) for rate in (UNDERDIAGNOSIS, OVERDIAGNOSIS)
)


def parts_of(operating_point: str) -> tuple[str, float]:
    """Return the rule of an operating point and its number (NaN of Youden's).

    youden: sensitivity + specificity is largest (Youden 1950, Cancer 3:32-35); sensitivity: the
    largest threshold of at least that one; false alarms: the smallest threshold of at most that
    share.

    Args:
        operating_point: "youden", or another rule and a number in (0, 1), such as "false alarms
            0.2".

    Raises:
        InputError: it is neither.
    """
    rule, _, number = operating_point.rpartition(" ")
    try:
        value = float(number) if rule else np.nan
    except ValueError:
        value = -1.0
    is_rule = (
        operating_point == "youden" or rule in ("sensitivity", "false alarms") and 0 < value < 1
    )
    if not is_rule:
        errors.refuse(
            'OPERATING_POINT to be "youden", "sensitivity 0.9" or "false alarms 0.2"',
            repr(operating_point),
            "The number lies between 0 and 1.",
        )
    return rule or operating_point, value


def in_words(operating_point: str) -> str:
    """Return an operating point for a reader."""
    rule, value = parts_of(operating_point)
    return "Youden's" if rule == "youden" else f"{rule} {value:g} on valid"


def thresholds(
    labels: np.ndarray, scores: np.ndarray, draws: bootstrap.Draws, operating_point: str
) -> np.ndarray:
    """Return the threshold of each resample of `valid`; the decision is score >= threshold.

    Args:
        labels: (n,) 1 or 0.
        scores: (n,) floats.
        draws: of the same images.
        operating_point: see `parts_of`. Of equally good thresholds of Youden the largest.

    Returns:
        (1 + resamples,) floats, each one of the scores, or infinite where every score is a false
        alarm too many; NaN where a class has no weight.
    """
    errors.same_length(labels=labels, scores=scores, patients=draws.patients)
    rule, value = parts_of(operating_point)
    if len(set(labels)) < 2:
        return np.full(draws.n, np.nan)
    candidates, level = np.unique(-scores, return_inverse=True)  # from the largest down
    counts = [
        sparse.csr_array(
            (
                np.ones((labels == label).sum()),
                (level[labels == label], draws.patients[labels == label]),
            ),
            (len(candidates), draws.n_patients),
        )
        for label in (1, 0)
    ]
    fitted = []
    for weights in draws.weights():
        sensitivity, false_alarms = (_shares(at_level @ weights) for at_level in counts)
        if rule == "youden":
            chosen = np.argmax(np.round(sensitivity - false_alarms, 12), axis=0)
        elif rule == "sensitivity":
            chosen = np.argmax(sensitivity >= value - 1e-12, axis=0)
        else:
            chosen = (false_alarms <= value + 1e-12).sum(axis=0) - 1
        threshold = np.where(chosen >= 0, -candidates[chosen], np.inf)
        lacks = np.isnan(sensitivity[-1]) | np.isnan(false_alarms[-1])
        fitted.append(np.where(lacks, np.nan, threshold))
    return np.concatenate(fitted)


def _shares(at_level: np.ndarray) -> np.ndarray:
    """Return the share of weight at each level or above, NaN without any."""
    above = np.cumsum(at_level, axis=0)
    return np.divide(above, above[-1], out=np.full(above.shape, np.nan), where=above[-1] > 0)


@dataclasses.dataclass(frozen=True)
class Decided:
    """Labels (NaN: unknown) and scores of the test images, and a threshold a resample."""

    labels: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray


def decided_of(
    predicted: pd.DataFrame,
    images: pd.DataFrame,
    draws_of: Callable[[pd.Series], bootstrap.Draws],
    operating_point: str,
    names: tuple[str, ...],
) -> Iterator[tuple[str, Decided]]:
    """Yield each finding of a run with its thresholds, `ANY` last: an image has any if a label is
    1, none if all are 0, and its score is the largest one.

    `draws_of` takes the patients of the images of `valid`.
    """
    valid, test = (predicted[predicted["split"] == split] for split in ("valid", "test"))
    patients = valid.groupby("image_id", sort=False)["patient_id"].first()
    needed = len(valid) and set(names) - {*bootstrap.RANKED, *bootstrap.PROBABILITIES}
    draws = draws_of(patients) if needed else None
    places = pd.Series(range(len(patients)), patients.index)

    def decided(known: pd.DataFrame, rows: pd.DataFrame) -> Decided:
        known = known[known["label"].notna()]
        # rows of unknown labels may be left out
        rows = rows.set_index("image_id").reindex(images.index)
        of_resamples = np.array([np.nan])
        if draws is not None:
            of_resamples = thresholds(
                known["label"].to_numpy(),
                known["score"].to_numpy(),
                draws[places[known["image_id"]].to_numpy()],
                operating_point,
            )
        return Decided(rows["label"].to_numpy(float), rows["score"].to_numpy(float), of_resamples)

    of_valid = dict(list(valid.groupby("finding", sort=False)))
    for finding, rows in test.groupby("finding", sort=False):
        yield finding, decided(of_valid.get(finding, valid.iloc[:0]), rows)
    if set(names) & set(OF_IMAGES):
        yield ANY, decided(_any_of(valid), _any_of(test))


def _any_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return image_id, label and score of `ANY`."""
    by_image = rows.groupby("image_id", sort=False)
    largest, n_known = by_image["label"].max(), by_image["label"].count()
    is_known = (largest == 1) | (n_known == rows["finding"].nunique())
    return pd.DataFrame(
        {"label": largest.where(is_known), "score": by_image["score"].max()}
    ).reset_index()


def of_images(
    decided: dict[str, Decided],
    draws: bootstrap.Draws,
    groups_of: list[tuple[str, str, np.ndarray]],
    min_patients: int,
) -> dict[tuple, np.ndarray]:
    """Return `OF_IMAGES` of one run in every group; NaN with few patients, or no thresholds."""
    inside = np.stack([mask for *_, mask in groups_of]).astype(np.float32)
    of_any, *of_findings = decided[ANY], *(part for name, part in decided.items() if name != ANY)
    kinds = {"": of_findings, _OF_NO_FINDING: [of_any]}
    parts: dict[str, list] = {
        rate + of: [] for of in kinds for rate in (UNDERDIAGNOSIS, OVERDIAGNOSIS)
    }
    first = 0
    for weights in draws.weights():
        columns = slice(first, first + weights.shape[1])
        first = columns.stop
        counted = weights.astype(np.float32)[draws.patients]
        for of, kind in kinds.items():
            called = np.zeros(counted.shape, dtype=bool)
            reached_from = [
                np.broadcast_to(part.thresholds, draws.n)[columns]
                for part in kind  # NaN without any
            ]
            for part, threshold in zip(kind, reached_from):
                called |= part.scores[:, None] >= threshold
            lacks = np.isnan(reached_from).any(axis=0)
            for rate, label, wrong in ((UNDERDIAGNOSIS, 1, ~called), (OVERDIAGNOSIS, 0, called)):
                use = inside * (of_any.labels == label)
                whole = use @ counted
                share = np.divide(
                    use @ (counted * wrong),
                    whole,
                    out=np.full(whole.shape, np.nan),
                    where=whole > 0,
                )
                parts[rate + of].append(np.where(lacks, np.nan, share))
    rows = {}
    for name, values in parts.items():
        label = 1 if name.startswith(UNDERDIAGNOSIS) else 0
        for (attribute, group, mask), value in zip(groups_of, np.hstack(values)):
            n = len(np.unique(draws.patients[mask & (of_any.labels == label)]))
            rows[name, ANY, attribute, group] = (
                value if n >= min_patients else np.full(draws.n, np.nan)
            )
    return rows
