"""Membership inference: was this patient among those a model was trained on?

In: what several models of one recipe say of the same patients, each patient in half of the models.
Out: an attack's score of each patient in each model; the larger, the more likely a member. Raises
`InputError` for signals that do not fit together, and for unknown attacks.

The unit is the patient: an attacker has all films of a patient, and the log-likelihood of their
labels is averaged over films and findings. Every model is the target once; the others of its arm
are the attacker's reference models, but for the one with the complementary members, which would
give the target's members away. Of the members of reference models the attacker knows everything.

Sources: global threshold: Yeom et al. (2018), "Privacy risk in machine learning"; LiRA: Carlini et
al. (2022), "Membership inference attacks from first principles"; RMIA: Zarifzadeh et al. (2024),
"Low-cost high-power membership inference attacks".
"""

import dataclasses

import numpy as np

from helpers.core import errors

ATTACKS = {
    "threshold": "one threshold on the loss for all patients (naive)",
    "lira_offline": "LiRA, offline: references without the patient",
    "lira_online": "LiRA, online: references with and without the patient",
    "rmia": "RMIA: likelihood ratio against other patients'",
    "rmia_4": "RMIA with 4 reference models",
}
FEW = 4  # reference models of the cheap attack
# the spread of one patient among few references is uncertain: it counts as much as that of all
# patients does at so many degrees of freedom
PRIOR_MODELS = 10


@dataclasses.dataclass(frozen=True)
class Signals:
    """What models of one arm say of patients.

    Attributes:
        is_member: (models, patients) bool; models 2k and 2k + 1 have complementary members.
        log_likelihood: (models, patients), of a patient's labels, the mean over films and findings;
            <= 0.
        population: (models, others), the same of patients in none of the models.
    """

    is_member: np.ndarray
    log_likelihood: np.ndarray
    population: np.ndarray

    def __post_init__(self) -> None:
        """Accept complementary pairs of models.

        Raises:
            InputError: fewer than three pairs, or pairs that are not complementary.
        """
        n_models = len(self.is_member)
        if n_models < 6 or n_models % 2:
            errors.refuse("an even number of models, 6 at least", n_models, "Train more of them.")
        errors.same_length(is_member=self.is_member, log_likelihood=self.log_likelihood)
        if (self.is_member[::2] == self.is_member[1::2]).any():
            errors.refuse(
                "each patient in one model of every pair",
                "pairs with a patient in both or in none",
                "Draw the members with `audit_plan.draw_members`.",
            )

    def with_and_without(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (pairs, patients) values of the model with the patient, and of that without.

        Args:
            values: (models, patients).
        """
        first = self.is_member[::2]
        return (
            np.where(first, values[::2], values[1::2]),
            np.where(first, values[1::2], values[::2]),
        )


def scores(signals: Signals, attack: str) -> np.ndarray:
    """Return (models, patients) scores of an attack on every model.

    Guarantees: neither the target's own members nor those of its complement have a say in its
    scores, so that models which depend on no patient give an AUROC of 0.5 on average.

    Args:
        signals: of one arm.
        attack: one of `ATTACKS`.

    Raises:
        InputError: an unknown attack.
    """
    errors.one_of("the attack", attack, ATTACKS)
    values = signals.log_likelihood
    if attack == "threshold":
        return values.copy()
    if attack.startswith("rmia"):
        return _rmia(signals, FEW // 2 if attack == "rmia_4" else len(values) // 2 - 1)
    inside, outside = signals.with_and_without(values)
    n_others = len(inside) - 1  # reference models with the patient, and as many without
    mean_in, mean_out = (part.sum(0) - part for part in (inside, outside))
    mean_in, mean_out = mean_in / n_others, mean_out / n_others
    squares_in, squares_out = (
        (part**2).sum(0) - part**2 - n_others * mean**2
        for part, mean in ((inside, mean_in), (outside, mean_out))
    )
    if attack == "lira_offline":
        centre, freedom, squares = mean_out, n_others - 1, squares_out
    else:
        # With equal variances the log-likelihood ratio is shift x (value - midpoint) / variance.
        # Few references estimate a patient's own shift badly, so it is taken to be the same number
        # of standard deviations for everybody, which leaves the order of this:
        centre, freedom = (mean_in + mean_out) / 2, 2 * (n_others - 1)
        squares = squares_in + squares_out
    variance = np.maximum(squares, 0) / freedom
    of_all = variance.mean(axis=1, keepdims=True)
    shrunk = (freedom * variance + PRIOR_MODELS * of_all) / (freedom + PRIOR_MODELS)
    spread = np.sqrt(np.maximum(shrunk, 1e-18))
    return (values - np.repeat(centre, 2, axis=0)) / np.repeat(spread, 2, axis=0)


def _rmia(signals: Signals, n_pairs: int) -> np.ndarray:
    """Return the share of other patients whose likelihood ratio the patient's exceeds, with so many
    pairs of reference models; equal shares in the order of the ratio itself.
    """
    n = len(signals.log_likelihood) // 2
    result = np.empty(signals.log_likelihood.shape)
    for pair in range(n):
        references = [(pair + 1 + k) % n for k in range(n_pairs)]
        models = [2 * reference + half for reference in references for half in (0, 1)]
        usual, of_others = (
            np.log(np.exp(part[models]).mean(0))
            for part in (signals.log_likelihood, signals.population)
        )
        for model in (2 * pair, 2 * pair + 1):
            ratio = signals.log_likelihood[model] - usual
            others = np.sort(signals.population[model] - of_others)
            share = np.searchsorted(others, ratio, side="right") / len(others)
            result[model] = share + 1e-6 * ratio / (1e-9 + np.abs(ratio).max())
    return result
