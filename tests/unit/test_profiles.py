"""Profiles are in order, and set only parameters that their notebooks have."""

import pytest

from helpers.core import errors
from helpers.data import manifests
from helpers.study import profiles, study_data

pytestmark = pytest.mark.parametrize("name", profiles.names())


def test_profile_sets_only_parameters_of_its_notebooks_within_their_range(name):
    chosen, lists = profiles.collect(profiles.read_profile(name), [])
    assert set(chosen) == {"01", "02", "03", "04", "05", "06"}
    assert lists["EPSILONS"] and lists["SEEDS"]


def test_profile_names_manifests_that_are_there(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    assert set(study_data.data_sets(chosen)) <= set(manifests.names())


def test_profile_of_real_patients_is_private_in_earnest(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    is_drawn = manifests.read(chosen["01"]["COHORT"]).layout.kind == "synthetic"
    assert is_drawn or chosen["03"]["MODE"] == "private"


def test_networks_of_all_arms_are_the_same(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    assert "HEAD" not in chosen["03"]  # None there: as notebook 02


def test_every_data_set_with_files_is_asked_for(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    if manifests.read(chosen["01"]["COHORT"]).layout.kind != "synthetic":
        with pytest.raises(errors.InputError, match="under the data root"):
            study_data.read_data_roots([], study_data.data_sets(chosen))


def test_images_of_all_data_sets_have_one_size(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    read = [manifests.read(data_set) for data_set in study_data.data_sets(chosen)]
    sizes = {manifest.volume.shape if manifest.volume else manifest.image.px for manifest in read}
    assert len(sizes) == 1 or chosen["01"].get("IMAGE_PX") or chosen["01"].get("VOLUME_SHAPE")


def test_only_short_studies_have_the_recipe_without_noise_and_others_say_its_cost(name):
    short = {"demo", "chestxray14_part", "covid_chestxray", "paper_recipe"}
    short |= {"chestmnist", "pneumoniamnist", "nodulemnist3d"}
    assert profiles.read_profile(name).ablation == (name in short)
    text = (profiles.PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
    assert name in short or len(text.split("\nablation: false  # ")[1].splitlines()[0]) > 20
