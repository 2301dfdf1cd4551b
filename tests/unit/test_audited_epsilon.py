"""Lower bounds on epsilon: as another library has them, rarely too high, high enough for faults."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.core import errors
from helpers.privacy import accounting, attack_bounds, audited_epsilon
from helpers.training import audit_canaries

# Canaries, guesses "in", right ones -> bounds of jax_privacy 2.0.0 at delta 1e-5 and 95 %:
# `CanaryScoreAuditor.epsilon_one_run` and `epsilon_one_run_fdp` with an explicit threshold.
OF_JAX_PRIVACY = [
    (2000, 1000, 565, 0.154216903, 0.259341427),
    (2000, 200, 129, 0.342884675, 0.463873838),
    (2000, 40, 29, 0.335365591, 0.375849409),
    (2000, 1000, 773, 1.098658564, 1.830350729),
    (2000, 200, 187, 2.175151973, 3.253988955),
    (2000, 40, 39, 2.022587639, 2.658296799),
    (2000, 1000, 921, 2.258772083, 3.811815811),
    (2000, 200, 200, 4.139241619, 6.615578288),
]


@pytest.mark.parametrize(("m", "guessed", "right", "of_any", "of_gaussian"), OF_JAX_PRIVACY)
def test_bounds_are_those_of_jax_privacy(m, guessed, right, of_any, of_gaussian):
    assert audited_epsilon._of_any(m, guessed, right, 1e-5, 0.05) == pytest.approx(of_any, abs=1e-5)
    found = audited_epsilon._of_gaussian(m, guessed, right, 1e-5, 0.05)
    assert found == pytest.approx(of_gaussian, abs=1e-5)


def test_bounds_are_those_of_the_installed_jax_privacy():
    auditing = pytest.importorskip("jax_privacy.auditing", reason="jax-privacy is not installed")
    stream = np.random.default_rng(5)
    is_in = stream.random(1000) < 0.5
    scores = stream.normal(size=1000) + 0.8 * is_in
    auditor = auditing.CanaryScoreAuditor(scores[is_in], scores[~is_in])
    threshold = float(np.quantile(scores, 0.9))
    chosen = scores >= threshold
    counts = 1000, int(chosen.sum()), int(is_in[chosen].sum()), 1e-5, 0.05
    for ours, theirs in (
        (audited_epsilon._of_any, auditor.epsilon_one_run),
        (audited_epsilon._of_gaussian, auditor.epsilon_one_run_fdp),
    ):
        explicit = auditing.Explicit(threshold)
        assert ours(*counts) == pytest.approx(
            theirs(0.05, 1e-5, threshold_strategy=explicit), abs=1e-4
        )


def test_guesses_by_hand():
    scores, is_in = np.array([0.1, 0.9, 0.5, 0.2]), np.array([False, True, True, True])
    # highest 0.9 (in: right), lowest 0.1 (out: right); then 0.5 (right) and 0.2 (wrong)
    assert audited_epsilon.guesses(scores, is_in, 2) == 2
    assert audited_epsilon.guesses(scores, is_in, 4) == 3


def test_p_value_without_delta_is_binomial():
    assert audited_epsilon.p_value(10, 4, 4, 0.0, 0.0) == pytest.approx(0.5**4)
    rate = math.e / (1 + math.e)
    assert audited_epsilon.p_value(10, 5, 4, 1.0, 0.0) == pytest.approx(stats.binom.sf(3, 5, rate))


def test_epsilon_of_gaussian_is_that_of_the_accountant():
    for mu in (0.3, 1.0, 3.0):
        exact = audited_epsilon.epsilon_of_gaussian(mu, 1e-5)
        ours = accounting.epsilon_of((accounting.Run(1 / mu, 1.0, 1),), 1e-5)
        assert exact <= ours <= 1.01 * exact + 1e-3


@pytest.mark.parametrize("is_gaussian", [False, True])
@pytest.mark.parametrize("mu", [1e-9, 0.5])
def test_a_true_epsilon_is_rarely_refuted(mu, is_gaussian):
    true, refuted = audited_epsilon.epsilon_of_gaussian(mu, 1e-5), 0
    for seed in range(200):
        stream = np.random.default_rng(seed)
        is_in = stream.random(400) < 0.5
        scores = stream.normal(size=400) + mu * is_in
        bound = audited_epsilon.lower_bound(scores, is_in, 1e-5, is_gaussian=is_gaussian)
        refuted += bound["epsilon"] > true
    assert refuted <= 18  # 5 % of 200 are 10; more than 18 has a chance below 1 %


def test_permuted_scores_refute_nothing():
    stream = np.random.default_rng(0)
    is_in = stream.random(2000) < 0.5
    scores = stream.permutation(stream.normal(size=2000) + 5 * is_in)
    assert audited_epsilon.lower_bound(scores, is_in, 1e-5)["epsilon"] < 0.1


def curve_of(mu):
    return attack_bounds.roc_bound((accounting.Run(1 / mu, 1.0, 1),))


@pytest.mark.parametrize("mu", [0.3, 1.6])
def test_a_kept_promise_is_rarely_refuted(mu):
    curve, refuted = curve_of(mu), 0
    for seed in range(150):
        stream = np.random.default_rng(seed)
        is_in = stream.random(1000) < 0.5
        scores = stream.normal(size=1000) + mu * is_in
        refuted += audited_epsilon.promise_is_refuted(scores, is_in, curve)
    assert refuted <= 14  # 5 % of 150 are 7.5; more than 14 has a chance below 1 %


@pytest.mark.parametrize("mu", [0.3, 1.6, 1.9])
def test_half_of_the_noise_is_refuted_at_small_and_large_budgets(mu):
    stream = np.random.default_rng(0)
    is_in = stream.random(16_384) < 0.5
    scores = stream.normal(size=16_384) + 2 * mu * is_in
    assert audited_epsilon.promise_is_refuted(scores, is_in, curve_of(mu))
    runs = (accounting.Run(1 / mu, 1.0, 1),)
    for is_gaussian in (True, False):
        found = audited_epsilon.examined(scores, is_in, runs, 1e-5, is_gaussian=is_gaussian)
        assert found["refuted"]
    assert not audited_epsilon.examined(scores, is_in, (), 1e-5, is_gaussian=False)["refuted"]


def test_least_false_positives_of_a_curve_by_hand(monkeypatch):
    # Guesses that are all right: `right` begins at error x 4 / 4, and the curve says what follows.
    seen = []
    monkeypatch.setattr(
        audited_epsilon,
        "is_refuted",
        lambda *arguments: seen.append([arguments[3](rate) for rate in (0.05, 0.2, 0.3, 1.0)]),
    )
    curve = pd.DataFrame({"false_positive_rate": [0.1, 0.5], "true_positive_rate": [0.2, 0.8]})
    audited_epsilon.promise_is_refuted(np.arange(100.0), np.arange(100) > 50, curve)
    # up to 0.2 may come with none, beyond with more than 0.1, beyond 0.8 with more than 0.5
    assert seen[0] == [0.0, 0.0, 0.1, 0.5]


def test_bounds_of_measures_are_those_of_each_arm():
    runs = {
        "epsilon 1": (accounting.Run(3.0, 1.0, 1),),
        "epsilon 8": (accounting.Run(0.5, 1.0, 1),),
    }
    table = attack_bounds.bounds_of_measures(runs, {"AUROC": None, "TPR": 0.01})
    assert table["arm_label"].tolist() == ["epsilon 1"] * 2 + ["epsilon 8"] * 2
    small, tpr, large, _ = table["bound"]
    assert 0.5 < small < large < 1
    assert tpr == attack_bounds.attack_bounds(runs["epsilon 1"], 0.01)["true_positive_rate"]


def test_few_canaries_are_refused():
    with pytest.raises(errors.InputError, match="the number of canaries"):
        audited_epsilon.lower_bound(np.zeros(5), np.zeros(5, bool), 1e-5)


# ---- bounds of attacks


def test_bound_of_the_auroc_is_just_above_that_of_the_best_attack():
    # Two normals mu apart: the best attack's AUROC is Phi(mu / sqrt(2)).
    for mu in (0.3, 1.5):
        runs = (accounting.Run(1 / mu, 1.0, 1),)
        best = stats.norm.cdf(mu / math.sqrt(2))
        assert best <= attack_bounds.auroc_bound(runs) <= best + 0.006
        curve = attack_bounds.roc_bound(runs)
        exact = stats.norm.cdf(stats.norm.ppf(curve["false_positive_rate"]) + mu)
        assert (curve["true_positive_rate"] >= exact - 1e-9).all()
    assert attack_bounds.auroc_bound((accounting.Run(0.0, 1.0, 1),)) == 1.0


# ---- Dirac canaries, through a private run's own steps


def bound_of_dirac(seed=0, epsilon=1.06):
    tried = audit_canaries.dirac(epsilon, 1e-5, 20, 1.0, 8192, seed)
    found = audited_epsilon.lower_bound(
        tried.scores, tried.is_in, 1e-5, is_gaussian=tried.is_gaussian
    )
    return found["epsilon"], tried


def test_dirac_canaries_are_clipped_and_noised_as_promised():
    bound, tried = bound_of_dirac()
    assert 0.2 < bound < tried.promised <= 1.06
    # 20 sums, each of clipping norm 1 and noise sigma, divided by the number of units
    scale = 8192 / 20
    scores = tried.scores.astype(float) * scale
    inside, outside = scores[tried.is_in], scores[~tried.is_in]
    spread = np.std(np.concatenate([inside - inside.mean(), outside - outside.mean()]))
    assert inside.mean() == pytest.approx(1, abs=5 * spread / math.sqrt(4000))
    assert outside.mean() == pytest.approx(0, abs=5 * spread / math.sqrt(4000))
    sigma = spread * math.sqrt(20)
    assert sigma == pytest.approx(math.sqrt(20) / 0.2826, rel=0.03)  # mu of epsilon 1.06


def test_sampled_units_enter_with_their_rate():
    tried = audit_canaries.dirac(8.0, 1e-5, 20, 0.25, 8192, 0)
    assert not tried.is_gaussian and tried.promised <= 8.0
    # 80 steps, in each a quarter of the units, divided by their expected number: 20 times in all
    scores = tried.scores.astype(float) * 0.25 * 8192
    spread = scores[~tried.is_in].std()
    assert scores[tried.is_in].mean() == pytest.approx(20, abs=5 * spread / math.sqrt(4000))
    assert scores[~tried.is_in].mean() == pytest.approx(0, abs=5 * spread / math.sqrt(4000))
    with pytest.raises(errors.InputError, match="a multiple of 128"):
        audit_canaries.dirac(8.0, 1e-5, 2, 0.25, 1000, 0)
