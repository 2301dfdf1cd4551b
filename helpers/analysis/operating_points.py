"""Operating points: thresholds that are fitted on `valid` by one rule for every arm, with their own
uncertainty.

In: labels and scores of `valid`, resamples of its patients. Out: one threshold a resample, the
plain one first. Raises `InputError` for a rule that there is not. A threshold that cannot be
fitted, for lack of a class, is NaN.

Arms are compared at the same operating point, such as a share of false alarms: Youden's threshold
lies at another point of the ROC curve in each arm, and makes arms of little use look alike.
"""

import numpy as np
from scipy import sparse

from helpers.analysis import bootstrap
from helpers.core import errors


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
