"""Models of an audit: who is in which, what is kept, what is refused, whom they remember."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from helpers.analysis import attack_success, exposed_groups, membership_attacks
from helpers.core import errors, locks, paths
from helpers.privacy import register
from helpers.training import (
    audit_models,
    audit_plan,
    audit_signals,
    network_settings,
    networks,
    prediction,
    starts,
    weight_files,
)

SETTINGS = network_settings.NetworkSettings("none", "none", 8, 1, "halves", "float32", 256, 5)
NON_PRIVATE = audit_plan.AuditedArm("non-private", epochs=2, learning_rate=3e-3)
PRIVATE = audit_plan.AuditedArm("epsilon 8", 8.0)


def audit_of(cohort, n_models=6, **changes):
    settings = dict(n_patients=0, n_models=n_models, delta=1e-3, seed=0) | changes
    return audit_models.Audit.planned(cohort, SETTINGS, starts.Start(None, [], []), **settings)


@pytest.fixture(autouse=True)
def start_unknown(monkeypatch, results):
    monkeypatch.setattr(audit_models.recipe_rule, "start_of", lambda *_: "unknown")


def test_each_patient_is_in_half_of_the_models_by_fair_coins():
    members = audit_plan.draw_members(40, 500, 3)
    np.testing.assert_array_equal(members[::2], ~members[1::2])
    assert (members.sum(0) == 20).all()
    # coins of pairs are independent of each other
    correlations = np.corrcoef(members[::2].astype(float))[np.triu_indices(20, 1)]
    assert abs(correlations).max() < 5 / np.sqrt(500)
    assert abs(members[::2].mean() - 0.5) < 0.02


@pytest.mark.parametrize(("n_models", "n_patients"), [(7, 100), (4, 100), (8, 39)])
def test_odd_and_few_are_refused(n_models, n_patients):
    with pytest.raises(errors.InputError):
        audit_plan.draw_members(n_models, n_patients, 0)


def test_models_are_trained_on_their_members_and_nobody_else(small_cohort):
    audit = audit_of(small_cohort)
    members = audit.patients[audit.members[0]]
    ordinary = audit._ordinary_arm(0, audit._left_out(members))
    ids = small_cohort.table["patient_id"].to_numpy()
    assert set(ids[ordinary.data.rows]) == set(members)
    assert set(audit.others) <= set(ids[small_cohort.table["split"] != "train"])


def test_who_is_left_out_of_a_private_model_is_zeroed_out_and_counts(small_cohort):
    audit = audit_of(small_cohort)
    promises = []
    for member in audit.members[:2]:
        members = audit.patients[member]
        arm, chosen = audit._private_arm(PRIVATE, 0, audit._zeroed_out(members))
        data = arm.data
        assert sorted(data.names) == sorted(audit.patients) and chosen["TRAINED"] == "all"
        for name, rows in zip(data.names, data.units):
            is_unknown = bool(data.labels[torch.from_numpy(rows)].isnan().all())
            assert is_unknown == (name not in members)
        _, norms = arm.add_units(dict(enumerate(data.units)), 0)
        is_zero = [name not in members for name in data.names]
        assert ((norms == 0).numpy() == is_zero).all()
        promises.append(arm.promise)
    assert promises[0] == promises[1] == audit.promise(PRIVATE)
    assert promises[0].n_units == 40 and promises[0].epsilon == 8.0


def test_log_likelihood_of_a_patient_by_hand(mixed_cohort):
    audit = audit_of(mixed_cohort)
    model = audit.new_model()
    says = audit.reader.says(model)
    table = mixed_cohort.table
    for patient in (audit.patients[0], audit.patients[7]):
        rows = np.flatnonzero(table["patient_id"] == patient)
        scores = prediction.predict(model, mixed_cohort.images, rows, 1, shifts=5)
        of_images, of_reverse = [], []
        for row, score in zip(rows, scores.astype(float)):
            labels = table.loc[row, mixed_cohort.findings].to_numpy(float)
            known = ~np.isnan(labels)
            right = np.where(labels == 1, score, 1 - score)[known]
            of_images.append(np.log(right).mean())
            of_reverse.append(np.log(1 - right).mean())
        place = list(audit.patients).index(patient)
        assert says["log_likelihood"][place] == pytest.approx(np.mean(of_images), rel=1e-5)
        assert says["reversed_labels"][place] == pytest.approx(np.mean(of_reverse), rel=1e-5)
    assert len(says["population"]) == len(audit.others) == 20


def test_scores_of_a_head_alone_are_those_of_the_whole_network(small_cohort):
    audit = audit_of(small_cohort)
    model = audit.new_model()
    networks.train_only(model, "head")
    whole = prediction.predict(model, small_cohort.images, audit.reader.rows, 1, shifts=5)
    np.testing.assert_allclose(audit.reader._scores(model), whole, atol=1e-6)
    with torch.no_grad():
        model.head.weight += 0.5  # another head on the same trunk
    whole = prediction.predict(model, small_cohort.images, audit.reader.rows, 1, shifts=5)
    np.testing.assert_allclose(audit.reader._scores(model), whole, atol=1e-6)


def test_zero_shot_models_are_one_and_know_nobody(small_cohort):
    signals = membership_attacks.Signals(
        **audit_of(small_cohort).signals(audit_plan.AuditedArm("zero-shot"))
    )
    against, _ = attack_success.placements(*signals.with_and_without(signals.log_likelihood))
    assert (against == 0.5).all()


def test_a_network_that_memorises_labels_is_found(small_cohort, monkeypatch):
    # Each patient has a pattern and eight labels of its own, which can only be remembered.
    stream, table = np.random.default_rng(0), small_cohort.table
    small_cohort.findings = [f"finding {k}" for k in range(8)]
    small_cohort.canonical = {finding: finding for finding in small_cohort.findings}
    of_image = table["patient_id"].str[1:].astype(int)
    for finding in small_cohort.findings:
        table[finding] = stream.integers(0, 2, 60).astype(float)[of_image]
    patterns = np.kron(stream.integers(0, 2, (60, 4, 4)), np.ones((4, 4))) * 200
    small_cohort.images[:] = patterns[of_image] + small_cohort.images // 8
    monkeypatch.setattr(audit_models, "BATCH_SIZE", 10)
    audit = audit_of(small_cohort)
    arm = audit_plan.AuditedArm("non-private", epochs=140, learning_rate=1e-2)
    signals = membership_attacks.Signals(**audit.signals(arm))
    found = attack_success.overall(
        membership_attacks.scores(signals, "lira_online"), signals.is_member
    )
    assert found["estimate"].iloc[0] > 0.95


def test_an_interrupted_audit_goes_on_and_a_finished_one_is_read(small_cohort, monkeypatch):
    audit, trained, made = audit_of(small_cohort), audit_models.Audit.trained, []

    def interrupted(self, arm, number, members):
        made.append(number)
        if len(made) == 3:
            raise KeyboardInterrupt
        return trained(self, arm, number, members)

    monkeypatch.setattr(audit_models.Audit, "trained", interrupted)
    with pytest.raises(KeyboardInterrupt):
        audit.signals(NON_PRIVATE)
    signals = audit_of(small_cohort).signals(NON_PRIVATE)
    assert made == [0, 1, 2, 2, 3, 4, 5]
    assert signals["log_likelihood"].shape == (6, 40)
    again = audit_of(small_cohort).signals(NON_PRIVATE)
    assert len(made) == 7  # read, not trained
    np.testing.assert_array_equal(again["log_likelihood"], signals["log_likelihood"])
    assert not [*(paths.results_dir() / "runs").glob("*")]  # nothing for notebook 04 to find


def test_signals_of_another_start_are_not_taken_up(small_cohort):
    audit = audit_of(small_cohort)
    before = audit._fingerprint(NON_PRIVATE)
    other = dataclasses.replace(audit.settings, width=16)
    assert dataclasses.replace(audit, settings=other)._fingerprint(NON_PRIVATE) != before
    path = paths.results_dir() / "kept.npz"
    says = {"log_likelihood": np.zeros(3), "population": np.zeros(2)}
    audit_signals.Kept(path, "one").add(says)
    assert audit_signals.Kept(path, "one").n_done == 1
    assert audit_signals.Kept(path, "other").n_done == 0
    path.write_bytes(path.read_bytes()[:50])  # damaged: made again
    assert audit_signals.Kept(path, "one").n_done == 0


def test_real_patients_are_refused_unless_their_budget_may_be_spent(small_cohort):
    small_cohort.record["access"] = "private"
    with pytest.raises(errors.InputError, match="SPEND_ON_AUDIT = True for real patients"):
        audit_of(small_cohort)


@pytest.fixture
def real_cohort(small_cohort):
    small_cohort.record["access"] = "private"
    films = [f"{k:064x}" for k in range(len(small_cohort.table))]
    small_cohort.table = small_cohort.table.assign(film_sha256=films, pixels_sha256=films)
    return small_cohort


def test_each_private_model_of_real_patients_stands_in_the_register(real_cohort):
    audit = audit_of(real_cohort, is_spent=True)
    assert audit.mode == "private" and "6 private runs more" not in audit.check_budget([PRIVATE])
    assert audit.check_budget([PRIVATE]).startswith("7 private runs more; with the 0 in")
    first = audit.signals(PRIVATE)
    lines = register.Register().runs()
    assert len(lines) == 6 and all(line["steps"] == line["steps_planned"] > 0 for line in lines)
    assert len({line["patients"] for line in lines}) == 1  # all of them, zeroed out or not
    assert audit.check_budget([PRIVATE]).startswith("1 private runs more; with the 6 in")
    # what they said is lost: they are taken up, not trained again
    for path in (paths.results_dir() / "audit").glob("*.npz"):
        path.unlink()
    again = audit_of(real_cohort, is_spent=True).signals(PRIVATE)
    np.testing.assert_array_equal(again["log_likelihood"], first["log_likelihood"])
    assert len(register.Register().runs()) == 6
    assert len([*paths.results_dir().glob("runs/*/checkpoint.pt")]) == 6


def test_an_audit_beyond_the_budget_is_refused_before_its_first_model(real_cohort):
    audit = audit_of(real_cohort, is_spent=True, budget=20.0)
    with pytest.raises(errors.InputError, match="keep BUDGET = 20; got 7 on these patients"):
        audit.check_budget([PRIVATE])
    assert not register.Register().runs()
    with pytest.raises(errors.InputError, match="BUDGET"):  # and without asking, at the latest one
        audit.signals(PRIVATE)
    assert 0 < len(register.Register().runs()) < 6


def test_no_lock_is_left_open(small_cohort):
    audit = audit_of(small_cohort)
    audit.signals(NON_PRIVATE)
    for name in audit._names(NON_PRIVATE):
        assert not locks.is_held(paths.lock_path(name))


def test_mislabelled_patients_are_in_by_coins_and_others_stay(small_cohort, monkeypatch):
    audit, seen = audit_of(small_cohort), {}
    trained = audit_models.Audit.trained

    def watched(self, arm, number, members, cohort):
        seen["table"] = self._left_out(members, cohort).table
        return trained(self, arm, number, members, cohort)

    monkeypatch.setattr(audit_models.Audit, "trained", watched)
    tried = audit.mislabelled(NON_PRIVATE)
    assert len(tried.scores) == 20 and tried.promised == np.inf
    before, after = small_cohort.table, seen["table"]
    is_changed = (before["dull"] != after["dull"]).groupby(before["patient_id"]).any()
    canaries = [patient for patient in audit.patients if is_changed[patient]]
    assert (
        len(canaries) == 20
        and (before["bright"] + after["bright"] == 1)[before["patient_id"].isin(canaries)].all()
    )
    in_training = set(after.loc[after["split"] == "train", "patient_id"])
    assert set(audit.patients) - set(canaries) <= in_training
    assert [patient in in_training for patient in canaries] == tried.is_in.tolist()


def test_a_minority_of_ten_times_the_weight_is_more_exposed():
    # Logistic regressions of noise on noise: what they know of a patient they remember.
    stream = np.random.default_rng(0)
    n, minority = 160, np.arange(160) < 40
    features, labels = stream.normal(size=(n, 60)), stream.integers(0, 2, n)
    members = audit_plan.draw_members(24, n, 0)
    verdicts = {}
    for weight in (10.0, 1.0):
        values = []
        for member in members:
            model = LogisticRegression(C=0.05, max_iter=200).fit(
                features[member],
                labels[member],
                sample_weight=np.where(minority, weight, 1.0)[member],
            )
            values.append(model.predict_log_proba(features)[np.arange(n), labels])
        signals = membership_attacks.Signals(members, np.array(values), np.array(values)[:, :5])
        of_patients = pd.DataFrame(
            {"patient_id": np.arange(n).astype(str), "group": np.where(minority, "few", "many")}
        )
        table = exposed_groups.by_group(
            *signals.with_and_without(signals.log_likelihood), of_patients, 0.05
        )
        verdicts[weight] = table["verdict"].item()
    assert verdicts[10.0] == exposed_groups.MORE
    assert verdicts[1.0] not in (exposed_groups.MORE, exposed_groups.LESS)


def test_weights_of_the_start_are_untouched_by_the_models(small_cohort):
    weights = networks.resnet9(["bright", "dull"], 1, 8, 0, "halves").state_dict()
    before = weight_files.weights_hash(weights)
    audit = dataclasses.replace(
        audit_of(small_cohort), start=starts.Start(weights, ["bright", "dull"], [])
    )
    audit.signals(NON_PRIVATE)
    assert weight_files.weights_hash(weights) == before
