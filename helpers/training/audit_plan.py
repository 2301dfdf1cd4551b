"""The plan of an audit: who is in which model, which ways of training, what private ones promise.

In: numbers of patients and models, budgets. Out: members, arms, promises, names of runs. Needs no
torch, so that a study can be planned. Raises `InputError` for too few of anything.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import errors, random_streams
from helpers.privacy import composition, private_run_files, promise, register
from helpers.training import recipe_rule

FEWEST_PATIENTS, FEWEST_MODELS = 40, 6


@dataclasses.dataclass(frozen=True)
class AuditedArm:
    """A way of training that is audited.

    Attributes:
        label: "zero-shot", "non-private", or "epsilon 1.06".
        epsilon: of a private one; None for the others.
        epochs, learning_rate: of a non-private one; 0 for none. Private ones have the rule's.
    """

    label: str
    epsilon: float | None = None
    epochs: int = 0
    learning_rate: float = 0.0


def arms(epsilons: list[float], epochs: int, learning_rate: float) -> list[AuditedArm]:
    """Return the arms of an audit: the public model, ordinary training, DP at each budget.

    Args:
        epsilons: budgets, per patient.
        epochs, learning_rate: of ordinary training.
    """
    return [
        AuditedArm("zero-shot"),
        AuditedArm("non-private", epochs=epochs, learning_rate=learning_rate),
        *(AuditedArm(f"epsilon {epsilon:g}", float(epsilon)) for epsilon in sorted(epsilons)),
    ]


def draw_members(n_models: int, n_patients: int, seed: int) -> np.ndarray:
    """Return (n_models, n_patients) bool: who is in the training set of which model.

    Guarantees: a fair coin of its own for each patient and pair; models 2k and 2k + 1 have
    complementary members, so that each patient is in exactly half of the models.

    Args:
        n_models: even, >= 6.
        n_patients: >= 40.
        seed: names the random stream.

    Raises:
        InputError: an odd number, or too few.
    """
    errors.number("N_MODELS", n_models, FEWEST_MODELS, 1e5, integer=True)
    errors.number("the number of audited patients", n_patients, FEWEST_PATIENTS, 1e8, integer=True)
    if n_models % 2:
        errors.refuse("an even N_MODELS", n_models, "Each patient is in one model of every pair.")
    members = np.zeros((n_models, n_patients), dtype=bool)
    for pair in range(n_models // 2):
        coins = random_streams.random_stream(seed, "audit members", pair).random(n_patients)
        members[2 * pair], members[2 * pair + 1] = coins < 0.5, coins >= 0.5
    return members


def eligible_patients(table: pd.DataFrame, findings: list[str]) -> np.ndarray:
    """Return the ids of the training patients who can be audited: those with a known label.

    Args:
        table: of the cohort.
        findings: of the cohort.
    """
    is_known = table[findings].notna().any(axis=1) & (table["split"] == "train")
    return table.loc[is_known, "patient_id"].unique()


def names_of_runs(
    cohort: str, arm: AuditedArm, n_patients: int, n_models: int, seed: int, delta: float
) -> list[str]:
    """Return the names of an arm's runs: its models', and last that of the mislabelled patients.

    Args:
        cohort: name of the cohort.
        arm: not zero-shot.
        n_patients, n_models, seed, delta: of the audit.
    """
    begin = f"{cohort}-audit-{arm.label.replace(' ', '')}-of{n_patients}-seed{seed}"
    begin += f"-delta{delta:g}" if arm.epsilon else ""
    return [*(f"{begin}-m{number:03d}" for number in range(n_models)), f"{begin}-mislabelled"]


@dataclasses.dataclass(frozen=True)
class PrivateRecipe:
    """How the models of a private arm are trained; the same for each of them.

    Attributes:
        chosen: the recipe, by the rule for all audited patients.
        budget, batching, head: see `promise.settle`.
    """

    chosen: dict[str, str | int | float]
    budget: promise.PrivacyBudget
    batching: promise.Batching
    head: promise.HeadSteps | None

    def promise(self, n_patients: int, most_images: int, mode: str) -> promise.Promise:
        """Return what each model promises.

        Args:
            n_patients: audited; those whom a coin leaves out are zeroed out and count.
            most_images: of any one of them.
            mode: see `promise.MODES`.
        """
        return promise.settle(
            self.budget,
            self.batching,
            unit="patient",
            n_units=n_patients,
            most_images=most_images,
            mode=mode,
            head=self.head,
        )


def private_recipe(
    epsilon: float,
    delta: float,
    n_patients: int,
    most_images: int,
    start_is: str,
    physical_batch_size: int = 256,
) -> PrivateRecipe:
    """Return how the models of a budget are trained, by the rule.

    Args:
        epsilon, delta: per patient.
        n_patients, most_images: see `PrivateRecipe.promise`; all images of a patient may be in a
            step.
        start_is: see `recipe_rule.start_of`.
        physical_batch_size: see `promise.Batching`.
    """
    chosen, _ = recipe_rule.settle(epsilon, n_patients, start_is)
    clip_norm, batching, head = recipe_rule.batching_of(
        chosen, n_patients, most_images, physical_batch_size
    )
    return PrivateRecipe(chosen, promise.PrivacyBudget(epsilon, delta, clip_norm), batching, head)


def lines_to_spend(
    promises: dict[str, promise.Promise], runs_folder: Path, known: register.Register
) -> list[dict]:
    """Return what the register would have of runs that it does not have yet.

    Args:
        promises: name of a run -> what it promises.
        runs_folder: where runs lie.
        known: the register of that results folder.
    """
    uuids = {line["uuid"] for line in known.runs()}
    notes = {name: private_run_files.note_of(runs_folder / name) for name in promises}
    return [
        composition.line_of(made.as_dict())
        for name, made in promises.items()
        if not notes[name] or notes[name]["uuid"] not in uuids
    ]
