"""Attacks find members where models remember, and nobody where they do not."""

import numpy as np
import pytest
from scipy import stats

from helpers.analysis import attack_success, membership_attacks
from helpers.core import errors
from helpers.training import audit_plan

N_MODELS, N_PATIENTS = 16, 400


def signals_of(shift, seed=0, n_models=N_MODELS, n_patients=N_PATIENTS):
    """Models in which a member's labels are `shift` standard deviations likelier; patients differ
    much more from each other.
    """
    stream = np.random.default_rng(seed)
    is_member = audit_plan.draw_members(n_models, n_patients, seed)
    of_patient = stream.normal(-4, 2, n_patients)
    noise = stream.normal(size=is_member.shape)
    values = of_patient + 0.3 * (noise + np.asarray(shift) * is_member)
    population = stream.normal(-4, 2, 100) + 0.3 * stream.normal(size=(n_models, 100))
    return membership_attacks.Signals(is_member, np.minimum(values, 0), np.minimum(population, 0))


@pytest.mark.parametrize("attack", membership_attacks.ATTACKS)
def test_models_that_never_saw_the_patients_give_one_half(attack):
    signals = signals_of(0.0)
    found = attack_success.overall(
        membership_attacks.scores(signals, attack), signals.is_member
    ).set_index("measure")
    # 16 models x 400 patients: standard error below 0.01
    assert found.loc["AUROC", "estimate"] == pytest.approx(0.5, abs=0.03)
    assert found.loc["AUROC", "low"] < 0.51 and found.loc["AUROC", "high"] > 0.49


@pytest.mark.parametrize("attack", ["lira_offline", "lira_online", "rmia", "rmia_4"])
def test_memorised_labels_are_found(attack):
    signals = signals_of(5.0)
    found = attack_success.overall(membership_attacks.scores(signals, attack), signals.is_member)
    assert found["estimate"].iloc[0] > 0.95


def test_a_threshold_for_all_patients_misses_what_references_show():
    signals = signals_of(2.0)
    naive, calibrated = (
        attack_success.overall(membership_attacks.scores(signals, attack), signals.is_member)
        for attack in ("threshold", "lira_online")
    )
    assert naive["estimate"].iloc[0] < 0.65 < 0.85 < calibrated["estimate"].iloc[0]


def test_online_attack_is_nearly_as_good_as_one_that_knows_each_patient():
    # Gaussian signals: the best AUROC is that of two normals 1.5 standard deviations apart.
    signals = signals_of(1.5, n_models=64)
    found = attack_success.overall(
        membership_attacks.scores(signals, "lira_online"), signals.is_member
    )
    best = stats.norm.cdf(1.5 / np.sqrt(2))
    assert best - 0.02 < found["estimate"].iloc[0] < best + 0.02


@pytest.mark.parametrize("attack", ["lira_offline", "lira_online", "rmia", "rmia_4"])
def test_the_target_and_its_complement_have_no_say_as_references(attack):
    signals = signals_of(1.0)
    before = membership_attacks.scores(signals, attack)
    values = signals.log_likelihood.copy()
    values[1] -= 3  # the complement of model 0
    changed = membership_attacks.Signals(signals.is_member, values, signals.population)
    after = membership_attacks.scores(changed, attack)
    np.testing.assert_allclose(after[0], before[0], atol=1e-9)
    assert (after[2:] != before[2:]).any()  # but a reference of all others


def test_scores_of_patients_by_hand():
    # Three pairs, one patient; model 0 is the target, its references are models 2 to 5: with the
    # patient -1 and -2, without -3 and -4.
    is_member = np.array([[1], [0], [1], [0], [1], [0]], dtype=bool)
    values = np.array([[-1.5], [-9.0], [-1.0], [-3.0], [-2.0], [-4.0]])
    signals = membership_attacks.Signals(is_member, values, np.full((6, 5), -2.0))
    online = membership_attacks.scores(signals, "lira_online")[0, 0]
    # midpoint (-1.5 + -3.5) / 2 = -2.5; variance (0.5 + 0.5) / 2 = 0.5
    assert online == pytest.approx(1.0 / np.sqrt(0.5))
    offline = membership_attacks.scores(signals, "lira_offline")[0, 0]
    assert offline == pytest.approx((-1.5 + 3.5) / np.sqrt(0.5))


def test_pairs_that_are_not_complementary_are_refused():
    members = np.ones((6, 4), dtype=bool)
    with pytest.raises(errors.InputError, match="each patient in one model of every pair"):
        membership_attacks.Signals(members, np.zeros((6, 4)), np.zeros((6, 2)))
    with pytest.raises(errors.InputError, match="6 at least"):
        membership_attacks.Signals(members[:4], np.zeros((4, 4)), np.zeros((4, 2)))
    with pytest.raises(errors.InputError, match="the attack to be one of"):
        membership_attacks.scores(signals_of(0.0), "lira")


def test_interval_covers_the_truth():
    # 60 audits of a Gaussian attack of known AUROC; with 6 pairs of models.
    true, covered = stats.norm.cdf(1.0 / np.sqrt(2)), 0
    for seed in range(60):
        stream = np.random.default_rng(seed)
        member = audit_plan.draw_members(12, 60, seed)
        rows = attack_success.overall(stream.normal(size=member.shape) + member, member, seed)
        covered += rows["low"].iloc[0] <= true <= rows["high"].iloc[0]
    assert covered >= 51  # 85 %: fewer has a chance below 1 % at 93 %


def test_roc_is_that_of_all_thresholds():
    scores = np.array([[4.0, 3.0, 2.0, 1.0]])
    curve = attack_success.roc(scores, np.array([[True, False, True, False]]))
    assert curve["false_positive_rate"].tolist() == [0.5, 1.0]
    # above the first false positive (3) one of two members, above the second (1) both
    assert curve["true_positive_rate"].tolist() == [0.5, 1.0]


def test_few_false_positives_favour_nobody_by_chance():
    found = []
    for seed in range(40):
        stream = np.random.default_rng(seed)
        member = audit_plan.draw_members(8, 100, seed)  # 400 others: 0.1 % is less than one
        scores = stream.normal(size=member.shape)
        found.append(
            attack_success._measures(member.ravel()[np.argsort(-scores.ravel())], np.ones(800))
        )
    auroc, tpr_low, tpr_high = np.mean(found, axis=0)
    assert auroc == pytest.approx(0.5, abs=0.02)
    assert tpr_low == 0.0 and tpr_high == pytest.approx(0.01, abs=0.004)


def test_placements_are_the_auroc_against_each_patient():
    stream = np.random.default_rng(0)
    inside, outside = stream.normal(size=(5, 3)), stream.normal(size=(5, 3))
    of_in, of_out = attack_success.placements(inside, outside)
    by_hand = [
        np.mean([[a > b for b in outside[:, patient]] for a in inside[:, patient]])
        for patient in range(3)
    ]
    np.testing.assert_allclose(of_in.mean(0), by_hand)
    np.testing.assert_allclose(of_out.mean(0), by_hand)


def test_chance_shows_high_success_against_some_patients_with_few_models():
    few, many = (attack_success.survival_by_chance(pairs) for pairs in (3, 32))
    at = few["auroc"].sub(0.9).abs().idxmin()
    # 3 against 3: all above all has the chance 1 / 20
    assert few["share_of_patients"][at] == pytest.approx(0.05, abs=0.01)
    assert many["share_of_patients"][at] < 0.001
