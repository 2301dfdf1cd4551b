"""Wrong labels: planted shares are found, and what cannot be explained is not."""

import numpy as np
import pytest
from conftest import arms_of, image_table, predictions_of

from helpers.analysis import group_contrasts, influence_table, label_noise, metric_table, study_arms


def study(flipped, n=40_000):
    """Men and women are served alike; a share of women's labels is flipped in both findings."""
    rng = np.random.default_rng(2)
    female = rng.random(n) < 0.5
    labels, scores = {}, {}
    for finding, prevalence in (("edema", 0.3), ("mass", 0.2)):
        truth = (rng.random(n) < prevalence).astype(float)
        scores[finding] = 1.5 * truth + rng.standard_normal(n)
        labels[finding] = np.where(female & (rng.random(n) < flipped), 1 - truth, truth)
    table = image_table(np.arange(n), sex=np.where(female, "female", "male"), **labels)
    return table, {"base": predictions_of(table, scores)}


@pytest.mark.parametrize("flipped", [0.03, 0.1])
def test_the_share_of_flipped_labels_that_was_planted_explains_the_contrast(flipped):
    table, predictions = study(flipped)
    influences = influence_table.of_auroc(predictions, table, ["sex"])
    rows = label_noise.of_contrasts(
        study_arms.pool(influences, arms_of(("base", "baseline"))),
        group_contrasts.averaged(influences),
        metric_table.prevalences(table, ["edema", "mass"], ["sex"]),
    )
    assert rows["group"].tolist() == ["female - male"]
    assert rows.loc[0, "labels_of"] == "female" and rows.loc[0, "estimate"] < 0
    assert rows.loc[0, "flipped_share"] == pytest.approx(flipped, abs=0.012)


def test_flipped_share_by_hand():
    # half of all positive and of all negative: p = 0.5, f = 0.25: a = b = 0.25, 0.5 + 0.4 x 0.5
    share = label_noise.flipped_share(np.array([0.9]), 0.7, np.array([0.5]))
    assert share == pytest.approx(0.25)
    assert label_noise.flipped_share(np.array([0.8]), 0.8, np.array([0.3])) == 0
    assert np.isnan(label_noise.flipped_share(np.array([0.8]), 0.4, np.array([0.3])))
    assert np.isnan(label_noise.flipped_share(np.array([0.8]), np.nan, np.array([0.3])))
