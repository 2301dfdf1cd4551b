"""Profiles are in order, and set only parameters that their notebooks have, to other values than
the defaults.
"""

import pytest

from helpers.core import errors
from helpers.data import manifests
from helpers.study import notebook_files, plan, profiles

pytestmark = pytest.mark.parametrize("name", profiles.names())


def test_profile_sets_only_parameters_of_its_notebooks_within_their_range(name):
    chosen, lists = profiles.collect(profiles.read_profile(name), [])
    assert set(chosen) == {"01", "02", "03", "04"} and lists["EPSILONS"] and lists["SEEDS"]


def test_profile_names_manifests_that_are_there(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    assert set(plan.data_sets(chosen)) <= set(manifests.names())


def test_profile_of_real_patients_is_private_in_earnest(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    is_drawn = manifests.read(chosen["01"]["COHORT"]).layout.kind == "synthetic"
    assert is_drawn or chosen["03"]["MODE"] == "private"


def test_networks_of_all_arms_are_the_same(name):
    defaults = {
        number: notebook_files.default_parameters(path)
        for number, path in notebook_files.notebooks().items()
    }
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    for parameter in ("WIDTH", "CHANNELS", "HEAD"):
        assert len({(defaults[n] | chosen[n])[parameter] for n in ("02", "03")}) == 1


def test_every_data_set_with_files_is_asked_for(name):
    chosen, _ = profiles.collect(profiles.read_profile(name), [])
    if manifests.read(chosen["01"]["COHORT"]).layout.kind != "synthetic":
        with pytest.raises(errors.InputError, match="under the data root"):
            plan.read_data_roots([], plan.data_sets(chosen))
