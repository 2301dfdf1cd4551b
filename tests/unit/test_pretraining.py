"""The public model of a study: its session, its zero-shot run, and what later notebooks take up."""

import dataclasses
import types

import pytest

from helpers.core import errors, files, paths, run_records
from helpers.privacy import private_run_files
from helpers.training import loop, network_settings, pretraining, starts

SETTINGS = network_settings.NetworkSettings("public", "none", 8, 1, "pooled", "float32", 64)


@pytest.fixture
def public(small_cohort):
    """Another hospital, of other patients and films."""
    table = small_cohort.table.assign(patient_id="q" + small_cohort.table["patient_id"])
    images = 255 - small_cohort.images
    return dataclasses.replace(small_cohort, name="public", table=table, images=images)


def planned(private, public, settings=SETTINGS, **changes):
    """The public model of these settings, pretrained for an epoch."""
    pretrained = dict(epochs=1, learning_rate=1e-3, augmentation="shift", batch_size=16) | changes
    return pretraining.PublicModel.planned(settings, private, public, **pretrained)


def train(model, private):
    """Pretrain, and finish the zero-shot run."""
    session = model.session()
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    start = starts.weights_to_start_from("public", private, session, model.public)
    network, _ = starts.starting_model(
        private, start.weights, start.known, **model.settings.architecture, seed=0
    )
    model.finish(network, start, session)


def test_settings_are_read_as_they_were_written(results):
    network_settings.write("small", SETTINGS)
    assert network_settings.read("small") == SETTINGS
    assert files.read_json(paths.run_dir("small-network") / "network.json", "") == {
        "PRETRAIN": "public",
        "EVALUATE_ON": "none",
        "WIDTH": 8,
        "CHANNELS": 1,
        "HEAD": "pooled",
        "PRECISION": "float32",
        "PHYSICAL_BATCH_SIZE": 64,
        "SCORE_SHIFTS": 1,
        "NETWORK": "resnet9",
    }


def test_settings_of_version_0_3_know_no_shifts(results):
    network_settings.write("small", dataclasses.replace(SETTINGS, score_shifts=5))
    assert network_settings.read("small").score_shifts == 5
    path = network_settings.path_of("small")
    stored = files.read_json(path, "")
    del stored["SCORE_SHIFTS"]
    files.write_json(path, stored)
    assert network_settings.read("small") == SETTINGS  # with 1, as it predicted


def test_settings_of_version_0_7_know_no_network(results):
    network_settings.write("small", SETTINGS)
    path = network_settings.path_of("small")
    stored = files.read_json(path, "")
    del stored["NETWORK"]
    files.write_json(path, stored)
    assert network_settings.read("small") == SETTINGS
    assert SETTINGS.architecture == {"width": 8, "channels": 1, "head": "pooled"}  # as it was


def test_settings_that_nobody_wrote_are_refused(results):
    with pytest.raises(errors.InputError, match="Run notebook 02 with this cohort first"):
        network_settings.read("small")


def test_a_finished_public_model_is_not_trained_again(small_cohort, public, results):
    model = planned(small_cohort, public)
    train(model, small_cohort)
    assert run_records.is_whole("small-zero_shot") and model.session() is None
    assert network_settings.read("small") == SETTINGS
    assert planned(small_cohort, public, learning_rate=2e-3).session() is not None


def test_what_decides_the_public_model_decides_its_fingerprint(small_cohort, public, results):
    model = planned(small_cohort, public)
    wider = dataclasses.replace(SETTINGS, width=16)
    coarser = dataclasses.replace(SETTINGS, precision="bfloat16")
    other_data = dataclasses.replace(public, record=public.record | {"data_hash": "other"})
    faster = dataclasses.replace(SETTINGS, physical_batch_size=8)
    assert planned(small_cohort, public, faster).fingerprint == model.fingerprint
    for changed in (
        planned(small_cohort, public, wider),
        planned(small_cohort, public, coarser),
        planned(small_cohort, other_data),
        planned(small_cohort, public, augmentation="strong"),
        planned(small_cohort, public, inverted=0.25),
        planned(small_cohort, public, dataclasses.replace(SETTINGS, score_shifts=5)),
    ):
        assert changed.fingerprint != model.fingerprint
        assert changed.baseline(SEED=0)[1] != model.baseline(SEED=0)[1]


def test_what_is_not_used_enters_no_parameters(small_cohort, public, results):
    names = {"PRETRAIN_INVERTED", "SCORE_SHIFTS", "PRECISION"}
    assert not names & set(planned(small_cohort, public, inverted=0.0).parameters)
    five = dataclasses.replace(SETTINGS, score_shifts=5)
    model = planned(small_cohort, public, five, inverted=0.25)
    assert model.parameters["PRETRAIN_INVERTED"] == 0.25 and model.parameters["SCORE_SHIFTS"] == 5
    assert model.session().arm.inverted == 0.25
    assert planned(small_cohort, public).session().arm.inverted == 0.0


def test_shifts_decide_a_demo_run_as_well(small_cohort):
    data = types.SimpleNamespace(cohort=small_cohort)
    arm = types.SimpleNamespace(data=data, start="weights", pos_weight=None, network=None)
    fingerprint = pretraining.fingerprint_of_demo_run({"SEED": 0}, arm)
    assert pretraining.fingerprint_of_demo_run({"SEED": 0}, arm, 1) == fingerprint
    assert pretraining.fingerprint_of_demo_run({"SEED": 0}, arm, 5) != fingerprint


@pytest.mark.parametrize("shifts", [1, 5])
def test_other_shifts_predict_again_and_keep_the_start_of_a_private_run(
    small_cohort, public, results, shifts
):
    before = dataclasses.replace(SETTINGS, score_shifts=6 - shifts)
    train(planned(small_cohort, public, before), small_cohort)
    earlier = run_records.read_record("small-zero_shot")
    scores = run_records.read_predictions("small-zero_shot")["score"]
    model = planned(small_cohort, public, dataclasses.replace(SETTINGS, score_shifts=shifts))
    assert model.fingerprint != earlier["fingerprint"]
    files.write_json(paths.run_dir("small-dp-eps1-seed0") / private_run_files.NOTE, {})
    assert model.fingerprint == earlier["fingerprint"] and model.session() is None
    start = starts.weights_to_start_from("public", small_cohort, None, public)
    network, _ = starts.starting_model(
        small_cohort, start.weights, start.known, **SETTINGS.architecture, seed=0
    )
    model.finish(network, start, None)
    record = run_records.read_record("small-zero_shot")
    assert record["parameters"].get("SCORE_SHIFTS", 1) == shifts
    assert record["weights_hash"] == earlier["weights_hash"]
    assert record["fingerprint"] == earlier["fingerprint"]
    assert not run_records.read_predictions("small-zero_shot")["score"].equals(scores)


def test_code_no_longer_decides_once_a_private_run_has_started_from_it(
    small_cohort, public, results, monkeypatch
):
    model = planned(small_cohort, public)
    train(model, small_cohort)
    before = model.fingerprint
    # as if a helper had changed
    monkeypatch.setattr(pretraining, "CODE", ["training.loop"])
    assert model.fingerprint != before
    files.write_json(paths.run_dir("small-dp-eps1-seed0") / private_run_files.NOTE, {})
    assert model.fingerprint == before
    assert planned(small_cohort, public, epochs=2).fingerprint != before


def test_a_baseline_declares_its_start_and_depends_on_the_private_data(
    small_cohort, public, results
):
    parameters, fingerprint = planned(small_cohort, public).baseline(EPOCHS=4, SEED=0)
    assert parameters["PRETRAIN_EPOCHS"] == 1 and parameters["EPOCHS"] == 4
    other = dataclasses.replace(small_cohort, record=small_cohort.record | {"data_hash": "other"})
    assert planned(other, public).baseline(EPOCHS=4, SEED=0)[1] != fingerprint


@pytest.mark.parametrize(
    "content, message",
    [
        ({"WIDTH": 8}, "PRETRAIN, EVALUATE_ON, WIDTH"),
        ([1], "Run notebook 02 with this cohort first"),
        ({"PRECISION": "bf16"}, "PRECISION to be one of float32, bfloat16"),
        ({"WIDTH": "64"}, "WIDTH to be"),
        ({"PRETRAIN": None}, "PRETRAIN to be"),
        ({"EXTRA": 1}, "PRETRAIN, EVALUATE_ON, WIDTH"),
    ],
)
def test_settings_that_notebook_02_did_not_write_are_refused(results, content, message):
    network_settings.write("small", SETTINGS)
    path = network_settings.path_of("small")
    stored = files.read_json(path, "")
    is_edit = isinstance(content, dict) and "WIDTH" not in content or content == {"WIDTH": "64"}
    files.write_json(path, stored | content if is_edit else content)
    with pytest.raises(errors.InputError, match=message):
        network_settings.read("small")
