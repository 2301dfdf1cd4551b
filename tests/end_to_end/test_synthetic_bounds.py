"""Bounds of the embedded cohort: how hard it is, for whom, and what privacy costs.

About 12 minutes on one core. The generator is frozen: a later change must keep these bounds
by other means than changing the cohort.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from helpers.data.synthetic import chest_cohort
from helpers.privacy import promise
from helpers.training import (
    learning_rate,
    network_input,
    networks,
    ordinary_step,
    prediction,
    private_step,
    training_set,
)

pytestmark = pytest.mark.slow
FINDINGS = list(chest_cohort.FINDINGS)
UNSIDED = ["cardiomegaly", "congestion", "pleural_effusion", "pneumonic_infiltrates", "atelectasis"]
UNSIDED_OF = [
    next(i for i, name in enumerate(UNSIDED) if finding.startswith(name)) for finding in FINDINGS
]


class Films:
    """Images, table and binary labels of some blocks of one site and split."""

    def __init__(self, site: str, split: str, n_blocks: int) -> None:
        blocks = [chest_cohort.draw_block(site, split, index, seed=0) for index in range(n_blocks)]
        self.images = np.concatenate([images for images, _ in blocks])
        self.table = pd.concat([table for _, table in blocks], ignore_index=True)
        self.labels = (self.table[FINDINGS] > 0).to_numpy(np.float32)

    def training_set(
        self, labels: np.ndarray | None = None, n_patients: int | None = None
    ) -> training_set.TrainingSet:
        """Return the first patients as a training set, for the findings or other labels (n, k)."""
        labels = self.labels if labels is None else labels
        images_of = self.table.groupby("patient_id", sort=False).indices
        units, names = list(images_of.values())[:n_patients], np.array(list(images_of))[:n_patients]
        n = sum(map(len, units))  # patients lie one after the other
        return training_set.TrainingSet(
            self.images,
            np.arange(n),
            torch.from_numpy(labels[:n]),
            units,
            names,
            "patient",
            max(map(len, units)),
        )


def fit(
    model: torch.nn.Module,
    arm: ordinary_step.BaselineArm | private_step.PrivateArm,
    epochs: int,
    rate: float,
) -> torch.nn.Module:
    """Train a model in memory with the package's arm, optimizer and schedule."""
    optimizer, steps = torch.optim.NAdam(model.parameters(), lr=rate), epochs * arm.steps_per_epoch
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate.learning_rate_at(step, steps, rate)
        arm.set_gradients()
        optimizer.step()
    return model


def baseline(
    model: torch.nn.Module, data: training_set.TrainingSet, epochs: int, rate: float = 2e-3
) -> torch.nn.Module:
    """Train a model without privacy."""
    return fit(
        model,
        ordinary_step.BaselineArm(data, model, channels=1, batch_size=128, seed=0),
        epochs,
        rate,
    )


def scores(model: torch.nn.Module, films: Films) -> np.ndarray:
    """Return (n, n_findings) scores of all films."""
    return prediction.predict(model, films.images, np.arange(len(films.images)), channels=1)


def macro(
    labels: np.ndarray, predicted: np.ndarray, rows: np.ndarray | slice = slice(None)
) -> float:
    """Return the mean AUROC of the findings over some rows."""
    return float(roc_auc_score(labels[rows], predicted[rows], average="macro"))


def contrast(films: Films, predicted: np.ndarray, is_in_group: pd.Series) -> float:
    """Return the mean AUROC of a group minus that of the rest."""
    rows = is_in_group.to_numpy()
    return macro(films.labels, predicted, rows) - macro(films.labels, predicted, ~rows)


def groups(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Return who is in the groups of `chest_cohort.planted_truth`."""
    return {
        "female": table["sex"] == "female",
        "80+": table["age_years"] >= chest_cohort.OLD_AGE_YEARS,
        "weekend": table["admission"] == "weekend",
        "B": table["scanner"] == "B",
    }


@pytest.fixture(scope="module")
def test_films() -> Films:
    """Return the films of 900 private test patients."""
    return Films("private", "test", 9)


@pytest.fixture(scope="module")
def train_films() -> Films:
    """Return the films of 8,800 private training patients."""
    return Films("private", "train", 88)


@pytest.fixture(scope="module")
def public_start() -> dict[str, torch.Tensor]:
    """Return weights trained on 2,900 public patients without sides, their outputs repeated for
    both sides.
    """
    films = Films("public", "train", 29)
    unsided = np.stack(
        [films.labels[:, np.array(UNSIDED_OF) == i].max(1) for i in range(len(UNSIDED))], axis=1
    )
    model = baseline(
        networks.resnet9(len(UNSIDED)), films.training_set(unsided), epochs=8, rate=3e-3
    )
    return {
        name: value[UNSIDED_OF] if name.startswith("head.") else value
        for name, value in model.state_dict().items()
    }


def start(weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Return a network for the eight findings with the public weights."""
    model = networks.resnet9(len(FINDINGS))
    model.load_state_dict(weights)
    return model


@pytest.fixture(scope="module")
def baseline_scores(public_start, train_films, test_films) -> np.ndarray:
    """Return test scores of the model trained on all private training patients without privacy."""
    model = baseline(start(public_start), train_films.training_set(), epochs=4)
    return scores(model, test_films)


@pytest.fixture(scope="module")
def private_scores(public_start, train_films, test_films) -> np.ndarray:
    """Return test scores of the model trained with patient-level privacy at epsilon 1."""
    model = start(public_start)
    arm = private_step.PrivateArm(
        train_films.training_set(),
        model,
        promise.PrivacyBudget(epsilon=1.0, delta=1e-5, clip_norm=1.0),
        promise.Batching(expected_batch_size=512, epochs=2, max_images_per_patient=4),
        mode="demo",
        seed=0,
    )
    return scores(fit(model, arm, epochs=2, rate=2e-3), test_films)


def test_zero_shot_is_worst(public_start, test_films):
    assert 0.74 <= macro(test_films.labels, scores(start(public_start), test_films)) <= 0.80


def test_baseline_is_good_but_not_perfect(baseline_scores, test_films):
    assert 0.87 <= macro(test_films.labels, baseline_scores) <= 0.92


def test_a_private_model_lies_between(private_scores, baseline_scores, public_start, test_films):
    public = macro(test_films.labels, scores(start(public_start), test_films))
    private, best = (
        macro(test_films.labels, predicted) for predicted in (private_scores, baseline_scores)
    )
    assert public < private < best - 0.02


def test_three_times_the_patients_gain(public_start, train_films, baseline_scores, test_films):
    """The smaller cohort trains for more epochs, so that patients and not steps make the
    difference.
    """
    model = baseline(start(public_start), train_films.training_set(n_patients=2900), epochs=6)
    gain = macro(test_films.labels, baseline_scores) - macro(
        test_films.labels, scores(model, test_films)
    )
    assert gain >= 0.005


def test_logistic_regression_on_small_images_fails(train_films, test_films):
    def shrunk(films: Films, n: int | None = None) -> np.ndarray:
        return (
            functional.adaptive_avg_pool2d(network_input.to_input(films.images[:n]), 16)
            .flatten(1)
            .numpy()
        )

    inputs, unseen = shrunk(train_films, 6000), shrunk(test_films)
    predicted = [
        LogisticRegression(C=0.01, max_iter=200)
        .fit(inputs, train_films.labels[:6000, column])
        .decision_function(unseen)
        for column in range(len(FINDINGS))
    ]
    assert macro(test_films.labels, np.stack(predicted, axis=1)) < 0.75


def test_sex_and_age_can_be_read_in_part(train_films, test_films):
    """Age is learned as whether a patient is older than each of five ages.

    The mean of the answers is its estimate.
    """

    def people(table: pd.DataFrame) -> np.ndarray:
        older = table["age_years"].to_numpy()[:, None] >= np.array([50, 60, 70, 80, 90])
        return np.column_stack([table["sex"] == "female", older]).astype(np.float32)

    model = baseline(
        networks.resnet9(6),
        train_films.training_set(people(train_films.table), 2900),
        epochs=4,
        rate=3e-3,
    )
    predicted = scores(model, test_films)
    assert 0.75 <= roc_auc_score(test_films.table["sex"] == "female", predicted[:, 0]) <= 0.90
    assert 0.4 <= np.corrcoef(predicted[:, 1:].mean(1), test_films.table["age_years"])[0, 1] <= 0.7


@pytest.mark.parametrize("arm", ["baseline", "private"])
def test_planted_effects_are_found(arm, baseline_scores, private_scores, test_films):
    predicted = {"baseline": baseline_scores, "private": private_scores}[arm]
    low, high = (
        f"{'private_' if arm == 'private' else ''}contrast_{end}" for end in ("low", "high")
    )
    members = groups(test_films.table)
    for planted in chest_cohort.planted_truth().itertuples():
        if planted.effect != "harder_when_private":
            n_patients = test_films.table["patient_id"][members[planted.group]].nunique()
            assert n_patients >= 150, planted.group
        measured = contrast(test_films, predicted, members[planted.group])
        assert getattr(planted, low) <= measured <= getattr(planted, high), planted.group
