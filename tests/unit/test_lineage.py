"""Weights know what trained them, and a private run refuses those that saw its patients, however
they came.
"""

import dataclasses

import numpy as np
import pytest
from safetensors.torch import save_file

from helpers.core import errors, paths
from helpers.privacy import lineage, privacy_ledger, register
from helpers.training import finished_runs, networks, pretraining, starts, weight_files


def network(seed=1):
    return networks.resnet9(2, width=8, seed=seed)


def finish(cohort, arm, start, run=None):
    """Write a run's weights as notebook 02 does; return their path."""
    run = run or f"{cohort.name}-{arm}-seed0"
    finished_runs.finish(
        network(),
        cohort,
        1,
        run=run,
        arm=arm,
        seed=0,
        parameters={"PRETRAIN": "x"},
        seconds=1.0,
        fingerprint="f",
        start=start,
    )
    return str(paths.run_dir(run) / "weights.safetensors")


@pytest.fixture
def elsewhere(small_cohort):
    """Another cohort: no patient and no film of the small one."""
    return dataclasses.replace(
        small_cohort,
        name="elsewhere",
        images=255 - small_cohort.images,
        table=small_cohort.table.assign(patient_id="e" + small_cohort.table["patient_id"]),
    )


def guarantee(start):
    return privacy_ledger.ledger(
        unit="patient",
        n_units=2000,
        expected_batch_size=200,
        steps=20,
        steps_done=20,
        noise_multiplier=1.5,
        clip_norm=1.0,
        delta=1e-5,
        epsilon=2.0,
        max_images_per_unit=4,
        mode="private",
        lineage=start,
    )["guarantee"]


@pytest.mark.parametrize(
    "start, words",
    [
        ([], "random weights"),
        ([{"cohort": "a", "patients": "k"}], "trained on a"),
        (None, privacy_ledger.UNKNOWN_ORIGIN),
        ([{"cohort": "a", "patients": "k"}, {"cohort": "b", "mark": "m"}], "trained on a, then b"),
        ([{}, {"cohort": "b", "patients": "k"}], privacy_ledger.UNKNOWN_ORIGIN),
    ],
)
def test_a_start_in_words(start, words):
    assert privacy_ledger.start_in_words(start) == words


def test_an_unknown_origin_stays_unknown_whatever_follows():
    laundered = lineage.after(
        lineage.after(None, {"cohort": "a", "patients": "k"}), {"cohort": "b", "patients": "l"}
    )
    assert (
        laundered[0] == lineage.UNKNOWN
        and privacy_ledger.start_in_words(laundered) == privacy_ledger.UNKNOWN_ORIGIN
    )
    assert lineage.after([{"cohort": "a"}], {"cohort": "a"}) == [{"cohort": "a"}]


def test_lineage_travels_through_any_number_of_starts(small_cohort, elsewhere, results):
    first = finish(elsewhere, "baseline", [])
    start = starts.weights_to_start_from(first, small_cohort)
    assert [ancestor["cohort"] for ancestor in start.lineage] == ["elsewhere"]
    zero_shot = finish(small_cohort, "zero_shot", start.lineage)
    # nothing of the small cohort was learnt
    assert weight_files.lineage_of(zero_shot) == start.lineage
    assert [
        ancestor["cohort"]
        for ancestor in weight_files.lineage_of(finish(small_cohort, "baseline", start.lineage))
    ] == ["elsewhere", "small"]


def renamed(cohort):
    """The same patients in another order, under another name."""
    order = np.random.default_rng(0).permutation(len(cohort.table))
    return dataclasses.replace(
        cohort,
        name="renamed",
        images=cohort.images[order],
        table=cohort.table.iloc[order].reset_index(drop=True),
    )


def one_more(cohort):
    """The same patients but one, and other names for all."""
    kept = (cohort.table["patient_id"] != "p0").to_numpy()
    return dataclasses.replace(
        cohort,
        name="one_more",
        images=cohort.images[kept],
        table=cohort.table[kept]
        .reset_index(drop=True)
        .assign(patient_id=lambda table: "z" + table["patient_id"]),
    )


@pytest.mark.parametrize("launder", [lambda cohort: cohort, renamed, one_more])
def test_weights_that_saw_the_patients_are_refused_under_any_name_and_after_any_detour(
    small_cohort, elsewhere, results, launder
):
    seen = finish(launder(small_cohort), "baseline", [])
    with pytest.raises(
        errors.InputError,
        match="PRETRAIN that has not seen small; got weights trained on (small|renamed|one_more)",
    ):
        starts.weights_to_start_from(seen, small_cohort)
    detour = finish(
        elsewhere, "baseline", weight_files.lineage_of(seen), run="elsewhere-baseline-seed1"
    )
    with pytest.raises(errors.InputError, match="PRETRAIN that has not seen small"):
        starts.weights_to_start_from(detour, small_cohort)
    assert starts.weights_to_start_from(
        detour, dataclasses.replace(elsewhere, name="third", images=elsewhere.images // 2)
    ).lineage


def test_equal_patient_ids_alone_refuse_no_start_and_are_named_in_the_guarantee(
    small_cohort, results
):
    counted_alike = dataclasses.replace(
        small_cohort, name="other", images=255 - small_cohort.images
    )
    start = starts.weights_to_start_from(finish(counted_alike, "baseline", []), small_cohort)
    assert (
        start.lineage[0]["cohort"] == "other"
        and guarantee(start.lineage)
        == "valid only if the start never saw these patients (trained on other (40 patient ids are"
        " equal))"
    )


def test_a_start_whose_patients_another_register_knows_is_named_in_the_guarantee(
    small_cohort, elsewhere, results, monkeypatch, tmp_path
):
    path = finish(elsewhere, "baseline", [])
    assert guarantee(starts.weights_to_start_from(path, small_cohort).lineage) == "valid"
    monkeypatch.setenv("PRIVACY_REGISTER", str(tmp_path / "another"))
    doubted = starts.weights_to_start_from(path, small_cohort).lineage
    assert "(trained on elsewhere (its patients are not in this privacy register))" in guarantee(
        doubted
    )
    monkeypatch.delenv("PRIVACY_REGISTER")
    assert (
        guarantee(
            lineage.checked(
                doubted, "small", register.Register().enrol(*small_cohort.training_patients())
            )
        )
        == "valid"
    )  # looked at anew


def test_public_and_private_cohorts_with_a_film_in_common_are_refused_before_pretraining(
    small_cohort, elsewhere, results
):
    pretraining.refuse_shared(elsewhere, small_cohort)
    with pytest.raises(errors.InputError, match="weights trained on renamed, which shares"):
        pretraining.refuse_shared(renamed(small_cohort), small_cohort)


def test_weights_of_a_private_run_hold_nothing_that_tells_who_was_there(small_cohort, results):
    patients = register.Register().enrol(*small_cohort.training_patients())
    private = lineage.of_training("small", patients, is_private=True)
    assert private == {"cohort": "small", "mark": patients.mark} and patients.key not in str(
        private
    )
    with pytest.raises(errors.InputError, match="has not seen renamed"):  # by its mark
        lineage.checked([private], "renamed", patients)


def test_weights_without_metadata_are_of_unknown_origin_in_the_guarantee(
    small_cohort, results, tmp_path
):
    save_file(
        {name: value.contiguous() for name, value in network().state_dict().items()},
        tmp_path / "w.safetensors",
    )
    start = starts.weights_to_start_from(str(tmp_path / "w.safetensors"), small_cohort)
    assert start.lineage is None
    entries = privacy_ledger.ledger(
        unit="patient",
        n_units=2000,
        expected_batch_size=200,
        steps=20,
        steps_done=20,
        noise_multiplier=1.5,
        clip_norm=1.0,
        delta=1e-5,
        epsilon=2.0,
        max_images_per_unit=4,
        mode="private",
        lineage=start.lineage,
    )
    assert (
        entries["guarantee"]
        == "valid only if the start never saw these patients (start of unknown origin)"
        and privacy_ledger.is_valid(entries)
    )
    assert entries["start"] == privacy_ledger.UNKNOWN_ORIGIN


@pytest.mark.parametrize("said", ["{", '"a"', "[1]"])
def test_a_lineage_in_another_form_is_refused(said, tmp_path):
    save_file(network().state_dict(), tmp_path / "w.safetensors", metadata={"lineage": said})
    with pytest.raises(errors.InputError, match="a list of ancestors as the lineage"):
        weight_files.lineage_of(tmp_path / "w.safetensors")


def test_weights_are_compared_by_value_not_by_file(tmp_path):
    state = network().state_dict()
    save_file(state, tmp_path / "a.safetensors", metadata={"x": "1"})
    save_file(dict(reversed(state.items())), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() != (tmp_path / "b.safetensors").read_bytes()
    assert (
        weight_files.hash_of_file(tmp_path / "a.safetensors")
        == weight_files.hash_of_file(tmp_path / "b.safetensors")
        == weight_files.weights_hash(state)
    )
    assert weight_files.hash_of_file(tmp_path / "absent.safetensors") is None
