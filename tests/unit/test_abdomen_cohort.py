"""The embedded CT cohorts.

Repeatable, prefix by prefix, right on the viewer's left, with effects where they were planted.
"""

import numpy as np
import pandas as pd
import pytest

from helpers.analysis import equivalence
from helpers.analysis.auroc_intervals import Spread
from helpers.core import errors, files, paths
from helpers.data.images import decode_volume
from helpers.data.synthetic import abdomen_cohort, abdomen_phantom


@pytest.fixture(scope="module")
def people():
    """Who is in 40 blocks of the private site, with the lesions' radius in mm.

    Drawn in few voxels.
    """
    blocks = [
        abdomen_cohort.draw_block("ct_private", "train", index, 0, (4, 8, 8), (28, 20, 20))[1]
        for index in range(40)
    ]
    table = pd.concat(blocks, ignore_index=True)
    return table.assign(radius=table["lesion"].str.split().str[3].astype(float))


def test_equal_arguments_give_equal_results_and_fewer_patients_a_prefix():
    volume, table = abdomen_cohort.draw_block("ct_private", "test", 2, 7, (12, 24, 24))
    again, _ = abdomen_cohort.draw_block("ct_private", "test", 2, 7, (12, 24, 24))
    fewer, first = abdomen_cohort.draw_block("ct_private", "test", 2, 7, (12, 24, 24), n_patients=9)
    assert (volume == again).all() and (volume[:9] == fewer).all() and first.equals(table[:9])
    assert abdomen_cohort.draw_table("ct_private", "test", 2, 7, n_patients=9).equals(first)
    other, _ = abdomen_cohort.draw_block("ct_private", "test", 3, 7, (12, 24, 24))
    assert (volume != other).any() and volume.dtype == np.int16 and volume.min() >= -1024


def test_a_patient_is_the_same_at_every_size():
    tables = [
        abdomen_cohort.draw_block("ct_public", "train", 0, 0, shape, mm)[1]
        for shape, mm in (((8, 16, 16), (9, 9, 9)), ((16, 32, 32), (7, 5, 5)))
    ]
    assert tables[0].equals(tables[1])


def test_the_liver_lies_on_the_viewers_left_and_the_spine_at_the_back():
    volume, _ = abdomen_cohort.draw_block("ct_private", "train", 0, 0, (16, 48, 48), (7, 7, 7))
    mean = volume.astype(float).mean(0)
    soft = np.clip(mean, -100, 200)
    # liver against stomach and fat
    assert soft[4:8, 16:30, 8:18].mean() > soft[4:8, 16:30, 30:40].mean() + 30
    assert mean[8, 34, 24] > mean[8, 14, 24] + 50


def test_a_lesion_is_darker_than_the_pancreas_without_it():
    lesion_voxels = []
    for index in range(4):
        volume, table = abdomen_cohort.draw_block(
            "ct_private", "train", index, 0, (32, 64, 64), (3.5, 2.5, 2.5)
        )
        for image, lesion in zip(volume, table["lesion"]):
            if lesion:
                z, y, x = (
                    int(round(float(mm) / step + (n - 1) / 2))
                    for mm, step, n in zip(lesion.split(), (3.5, 2.5, 2.5), image.shape)
                )
                if 1 < z < 30 and 2 < y < 61 and 2 < x < 61:
                    lesion_voxels.append(image[z, y, x])
    assert (
        len(lesion_voxels) > 20 and np.median(lesion_voxels) < 50
    )  # pancreas about 92, lesion some 80 below


def test_women_have_smaller_lesions_and_nothing_else_is_planted_by_sex(people):
    radius = people.groupby("sex")["radius"].mean()
    assert abs(radius["female"] / radius["male"] - abdomen_cohort.FEMALE_SIZE) < 0.07
    share = people.groupby("sex")["pancreatic_cancer"].mean()
    assert abs(share["female"] - share["male"]) < 0.1
    assert (people["lesion"] != "").equals(people["pancreatic_cancer"] == 1)


def test_planted_truth_names_columns_and_groups_that_there_are(people):
    for effect in abdomen_cohort.planted_truth().itertuples():
        assert {effect.group, effect.comparison} <= set(
            people[effect.attribute]
        ) and effect.contrast_low < effect.contrast_high


def test_planted_ranges_are_the_measured_truth_and_two_standard_errors_of_325_patients():
    measured = files.read_json(
        paths.repository_root() / "benchmarks" / "results" / "ct_planted_truth.json", ""
    )
    rows = pd.DataFrame(measured["rows"]).set_index(["arm_label", "attribute"])
    for effect in abdomen_cohort.planted_truth().itertuples():
        for arm, ends in (
            ("no privacy", (effect.contrast_low, effect.contrast_high)),
            ("epsilon 1.06", (effect.private_contrast_low, effect.private_contrast_high)),
        ):
            row = rows.loc[(arm, effect.attribute)]
            truth = 0 if effect.effect == "null" else row["truth"]
            of_one = equivalence.minimum_detectable_change(Spread(1.0, np.inf))
            error = row["smallest_visible"] / of_one
            assert np.allclose(ends, [truth - 2 * error, truth + 2 * error], atol=0.006)


def test_sites_differ_and_only_the_private_one_has_scanner_b(people):
    public = abdomen_cohort.draw_block("ct_public", "train", 0, 0, (8, 16, 16), (9, 9, 9))[1]
    assert set(public["scanner"]) == {"A"} and 0.08 < (people["scanner"] == "B").mean() < 0.17
    with pytest.raises(errors.InputError, match="site to be one of ct_public, ct_private"):
        abdomen_cohort.draw_block("private", "train", 0, 0)


def test_a_small_field_is_enlarged_to_its_own_corners():
    field = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    large = abdomen_phantom.enlarge(field, (5, 4, 3))
    assert (
        large.shape == (5, 4, 3)
        and large[0, 0, 0] == 0
        and large[-1, -1, -1] == 7
        and np.ptp(large) == 7
    )


def test_windows_and_planes():
    assert decode_volume.window(np.array([-1000, -150, 50, 250, 900]), (-150, 250)).tolist() == [
        0,
        0,
        128,
        255,
        255,
    ]
    volume = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    planes = decode_volume.three_planes(volume, (1, 0, 9))
    assert (
        planes["axial"].shape == (3, 4)
        and planes["coronal"].shape == (2, 4)
        and (planes["sagittal"] == volume[:, :, 3]).all()
    )
