"""How well membership inference does: over all patients, and against each patient.

In: scores of an attack (`membership_attacks`), who was a member. Out: tables, with 95 % intervals
over patients and models together. Raises `InputError` for arrays that do not fit.

Patients and models are both drawn by chance, and each patient is tried in every model: intervals
are of both (crossed). A pair of models with complementary members counts as one draw.
"""

import numpy as np
import pandas as pd

from helpers.core import errors, random_streams

FALSE_POSITIVE_RATES = (0.001, 0.01)
# name -> the false-positive rate (FPR) at which it is a true-positive rate (TPR)
MEASURES = {"AUROC": None} | {f"TPR at {rate:.1%} FPR": rate for rate in FALSE_POSITIVE_RATES}
N_BOOTSTRAP = 500
EXPOSED = 0.9  # AUROC against a patient from which the attack on that patient nearly always works


def roc(scores: np.ndarray, is_member: np.ndarray) -> pd.DataFrame:
    """Return the ROC curve of an attack, one threshold for all patients and models.

    Args:
        scores: (models, patients), larger for members.
        is_member: the same shape, bool.

    Returns:
        Columns false_positive_rate and true_positive_rate, both rising; at most some 200 rows,
        evenly spaced on a log scale.
    """
    order = np.argsort(-scores.ravel(), kind="stable")
    member = is_member.ravel()[order]
    found, false = np.cumsum(member), np.cumsum(~member)
    rates = np.unique(np.geomspace(1, false[-1], 200).round().astype(int))
    at = np.searchsorted(false, rates)  # members above the false positive itself, none below it
    return pd.DataFrame(
        {
            "false_positive_rate": rates / false[-1],
            "true_positive_rate": found[at] / found[-1],
        }
    )


def overall(scores: np.ndarray, is_member: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Return AUROC of an attack, and the share of members it finds at few false positives.

    Args:
        scores, is_member: see `roc`.
        seed: of the bootstrap, over patients and over pairs of models.

    Returns:
        A row each: measure (of `MEASURES`: true-positive rates at few false positives), estimate,
        low, high.
    """
    errors.same_length(scores=scores, is_member=is_member)
    n_models, n_patients = scores.shape
    order = np.argsort(-scores.ravel(), kind="stable")
    member, model, patient = (
        is_member.ravel()[order],
        order // n_patients // 2,
        order % n_patients,
    )
    stream = random_streams.random_stream(seed, "audit bootstrap")
    rows = [_measures(member, np.ones(len(order)))]
    for _ in range(N_BOOTSTRAP):
        of_patient = stream.multinomial(n_patients, np.full(n_patients, 1 / n_patients))
        of_pair = stream.multinomial(n_models // 2, np.full(n_models // 2, 2 / n_models))
        rows.append(_measures(member, (of_patient[patient] * of_pair[model]).astype(float)))
    values = np.array(rows)
    low, high = np.quantile(values[1:], [0.025, 0.975], axis=0)
    return pd.DataFrame(
        {"measure": list(MEASURES), "estimate": values[0], "low": low, "high": high}
    )


def _measures(member: np.ndarray, weight: np.ndarray) -> list[float]:
    """Return AUROC and true-positive rates of weighted scores in falling order."""
    found = np.cumsum(np.where(member, weight, 0.0))
    false = np.cumsum(np.where(member, 0.0, weight))
    auroc = float((np.where(member, 0.0, weight) * found).sum() / (found[-1] * false[-1]))
    others = np.flatnonzero(~member & (weight > 0))
    rates = []
    for rate in FALSE_POSITIVE_RATES:
        # members above the last false positive that the rate allows: those between it and the next
        # would favour the attack
        last = np.searchsorted(false[others], rate * false[-1] * (1 + 1e-12), side="right") - 1
        rates.append(float(found[others[last]] / found[-1]) if last >= 0 else 0.0)
    return [auroc, *rates]


def with_interval(table: pd.DataFrame) -> pd.Series:
    """Return estimates with their intervals as text.

    Args:
        table: columns estimate, low, high.
    """
    return pd.Series(
        [f"{row.estimate:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in table.itertuples()],
        index=table.index,
    )


# ---- against each patient


def placements(with_patient: np.ndarray, without: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each model with a patient the share of those without that it exceeds, and the
    mirror image; the mean of either over models is the attack's AUROC against that patient.

    Args:
        with_patient, without: (pairs, patients) scores of the models with the patient, and of those
            without.

    Returns:
        Two arrays (pairs, patients) in [0, 1].
    """
    above = np.zeros((2, *with_patient.shape))
    for pair, scores in enumerate(with_patient):
        wins = (scores > without) + 0.5 * (scores == without)
        above[0, pair] = wins.mean(0)
        above[1] += wins / len(with_patient)
    return above[0], above[1]


def survival(aurocs: np.ndarray) -> pd.DataFrame:
    """Return the share of patients against whom an attack's AUROC is at least so large.

    Args:
        aurocs: (patients,).

    Returns:
        Columns auroc (0 to 1 in steps of 0.02) and share_of_patients.
    """
    thresholds = np.linspace(0, 1, 51)
    shares = [(aurocs >= threshold - 1e-9).mean() for threshold in thresholds]
    return pd.DataFrame({"auroc": thresholds, "share_of_patients": shares})


def survival_by_chance(n_pairs: int, seed: int = 0, n_drawn: int = 20_000) -> pd.DataFrame:
    """Return `survival` where models depend on no patient: what so few models show by chance.

    Args:
        n_pairs: of models.
        seed, n_drawn: of the simulation, and how many patients it draws.
    """
    stream = random_streams.random_stream(seed, "audit by chance")
    return survival(
        placements(stream.random((n_pairs, n_drawn)), stream.random((n_pairs, n_drawn)))[0].mean(0)
    )


def exposed(of_each: dict[str, np.ndarray], chance: pd.DataFrame) -> pd.DataFrame:
    """Return how exposed single patients are, a row an arm.

    Args:
        of_each: label of an arm -> (patients,) AUROC of the attack against each.
        chance: from `survival_by_chance`.

    Returns:
        Indexed by arm_label: mean AUROC, largest AUROC, share exposed (AUROC of at least
        `EXPOSED`), share by chance.
    """
    by_chance = chance.loc[np.isclose(chance["auroc"], EXPOSED), "share_of_patients"].iloc[0]
    rows = {
        label: {
            "mean AUROC": aurocs.mean(),
            "largest AUROC": aurocs.max(),
            "share exposed": (aurocs >= EXPOSED - 1e-9).mean(),
            "share by chance": by_chance,
        }
        for label, aurocs in of_each.items()
    }
    return pd.DataFrame(rows).T.rename_axis("arm_label")
