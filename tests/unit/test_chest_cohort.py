"""The generator of the embedded cohorts.

Who is drawn, what is drawn where, and that it is frozen.
"""

import functools
import hashlib

import numpy as np
import pandas as pd
import pytest

from helpers.data.synthetic import chest_cohort

BOTH_SITES = pytest.mark.parametrize("site", chest_cohort.SITES)
FINDINGS = list(chest_cohort.FINDINGS)
# Of the first 100 images of block 0, split "test", seed 0, 48 px: see `digest`.
FROZEN_TABLE = {"public": "d259b9b058385ddd", "private": "0b028f254e1de6dc"}
FROZEN_IMAGES = {
    "public": [
        32.11,
        81.42,
        137.35,
        64.40,
        45.70,
        81.82,
        149.68,
        107.42,
        45.00,
        96.28,
        197.17,
        95.19,
        43.84,
        147.97,
        161.52,
        145.47,
    ],
    "private": [
        27.38,
        62.24,
        144.90,
        52.30,
        30.74,
        103.33,
        156.81,
        132.27,
        30.55,
        98.23,
        196.28,
        116.33,
        31.26,
        158.69,
        171.37,
        151.40,
    ],
}


@functools.cache
def tables(site: str, n_blocks: int, split: str = "train") -> pd.DataFrame:
    """Return the tables of some blocks, drawn small."""
    blocks = [
        chest_cohort.draw_block(site, split, index, seed=0, image_px=32)[1]
        for index in range(n_blocks)
    ]
    return pd.concat(blocks, ignore_index=True)


@functools.cache
def public_films() -> tuple[np.ndarray, pd.DataFrame]:
    """Return some films of the public site and their table."""
    images, blocks = zip(
        *(chest_cohort.draw_block("public", "train", index, seed=0) for index in range(5))
    )
    return np.concatenate(images).astype(float), pd.concat(blocks)


def digest(images: np.ndarray) -> np.ndarray:
    """Return 12 x 12 grey levels.

    The mean over images and tiles of 4 x 4 pixels, later images weighing more.
    """
    weights = np.linspace(0.5, 1.5, len(images)) / len(images)
    return np.tensordot(
        weights, images.reshape(len(images), 12, 4, 12, 4).mean(axis=(2, 4)), axes=1
    )


@BOTH_SITES
def test_the_generator_is_frozen(site):
    """A failure means that published demo numbers no longer hold: raise GENERATOR_VERSION, measure
    all bounds again.

    The table is compared by hash. The images are compared by weighted tile means within 0.02 grey
    levels and not by
    hash: only correctly rounded operations make the pixels, but a library may still sum or fuse
    them differently, and one pixel in a million that is rounded the other way is no other cohort.
    """
    images, table = chest_cohort.draw_block(site, "test", 0, seed=0)
    text = table[:100].to_csv(index=False, float_format="%.1f", lineterminator="\n")
    assert chest_cohort.GENERATOR_VERSION == 1
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN_TABLE[site]
    np.testing.assert_allclose(
        digest(images[:100])[::3, ::3].ravel(), FROZEN_IMAGES[site], atol=0.02
    )


@BOTH_SITES
def test_draw_block_repeats_itself_and_blocks_differ(site):
    images, table = chest_cohort.draw_block(site, "valid", 3, seed=5, n_patients=10)
    again, same = chest_cohort.draw_block(site, "valid", 3, seed=5, n_patients=10)
    np.testing.assert_array_equal(images, again)
    pd.testing.assert_frame_equal(table, same)
    for other in (("valid", 4, 5), ("valid", 3, 6), ("train", 3, 5)):
        _, different = chest_cohort.draw_block(site, *other, n_patients=10)
        assert not different["age_years"].equals(table["age_years"])


def test_draw_with_and_without_shows_one_patient_twice_and_points_to_the_finding():
    films = chest_cohort.draw_with_and_without("private", seed=0, image_px=48)
    assert films["is_present"].tolist() == [True, False] * len(chest_cohort.EXAMPLES)
    assert list(zip(films["finding"], films["scanner"]))[::2] == list(chest_cohort.EXAMPLES)
    for k in range(0, len(films), 2):
        with_finding, without = (
            films["pixels"][k].astype(float),
            films["pixels"][k + 1].astype(float),
        )
        difference = with_finding - without
        row, column = int(films["y"][k] * 48), int(films["x"][k] * 48)
        at_arrow = difference[row - 1 : row + 2, column - 1 : column + 2].mean()
        # dense is bright, but dark on the inverted films of scanner B
        assert at_arrow > 20 if films["scanner"][k] == "A" else at_arrow < -20
        assert np.abs(difference[:6]).max() <= 1  # nothing else changes: shoulders and neck
    assert films["x"].notna().tolist() == films["y"].notna().tolist() == [True, False] * 4
    # the patient's right is on the viewer's left
    assert (films["x"].dropna() > 0.5).tolist() == [True, False, True, True]


def test_draw_with_and_without_draws_the_cohorts_patients():
    films = chest_cohort.draw_with_and_without("private", seed=0, image_px=48)
    first = films.iloc[0]
    index = int(first["image_id"].split("-")[2]) // chest_cohort.BLOCK_PATIENTS
    images, table = chest_cohort.draw_block("private", "train", index, seed=0)
    row = table.index[table["image_id"] == first["image_id"]][0]
    assert table.loc[row, first["finding"]] == 4
    # means of 4 x 4 pixels, as the grain is another: the films before it are not drawn here
    means = [
        film.reshape(12, 4, 12, 4).mean(axis=(1, 3)).ravel()
        for film in (images[row], first["pixels"], films["pixels"][2])
    ]
    correlations = np.corrcoef(means)[0]
    assert correlations[1] > 0.98 and correlations[2] < 0.95
    public = chest_cohort.draw_with_and_without("public", seed=0, image_px=32)
    assert set(public["scanner"]) == {"A"} and len(public) == 6


def test_fewer_patients_are_a_prefix_of_the_block():
    images, table = chest_cohort.draw_block("private", "test", 1, seed=0)
    first_images, first_table = chest_cohort.draw_block("private", "test", 1, seed=0, n_patients=7)
    assert first_table["patient_id"].nunique() == 7
    pd.testing.assert_frame_equal(first_table, table[: len(first_table)])
    np.testing.assert_array_equal(first_images, images[: len(first_images)])
    drawn_alone = chest_cohort.draw_table("private", "test", 1, seed=0, n_patients=7)
    pd.testing.assert_frame_equal(drawn_alone, first_table)


@pytest.mark.parametrize("image_px", [32, 64, 200])
def test_size_changes_neither_patients_nor_grades_nor_what_is_seen(image_px):
    reference_images, reference = chest_cohort.draw_block("public", "test", 0, seed=0, n_patients=4)
    images, table = chest_cohort.draw_block(
        "public", "test", 0, seed=0, image_px=image_px, n_patients=4
    )
    assert images.shape == (len(table), image_px, image_px) and images.dtype == np.uint8
    pd.testing.assert_frame_equal(table, reference)

    def halves(films):  # right and left, upper and lower quarter of each film
        half = films.shape[1] // 2
        return np.array(
            [
                films[:, rows, columns].mean((1, 2))
                for rows in (slice(half), slice(half, None))
                for columns in (slice(half), slice(half, None))
            ]
        )

    np.testing.assert_allclose(halves(images), halves(reference_images), atol=4)


def test_table_has_the_columns_and_values_promised():
    table = pd.concat(
        [tables(site, 2, split) for site in chest_cohort.SITES for split in ("train", "test")]
    )
    assert list(table.columns) == [
        "image_id",
        "patient_id",
        "sex",
        "age_years",
        "n_comorbidities",
        "scanner",
        "admission",
        *FINDINGS,
    ]
    assert table["image_id"].is_unique and table["patient_id"].nunique() == 800
    assert set(table["sex"]) == {"female", "male"} and set(table["admission"]) == {
        "weekday",
        "weekend",
    }
    assert table["age_years"].between(18, 99).all() and (table["n_comorbidities"] >= 0).all()
    assert table[FINDINGS].isin(range(5)).all(axis=None)
    constant = ["sex", "age_years", "n_comorbidities", "scanner", "admission"]
    assert (table.groupby("patient_id")[constant].nunique() == 1).all(axis=None)


def test_patients_are_like_those_of_an_intensive_care_unit():
    table = tables("private", 20)
    patients = table.drop_duplicates("patient_id")
    n_images = table["patient_id"].value_counts()
    assert n_images.between(1, 8).all() and n_images.mean() == pytest.approx(3.4, abs=0.15)
    assert (patients["sex"] == "female").mean() == pytest.approx(0.42, abs=0.04)
    assert patients["age_years"].mean() == pytest.approx(66, abs=1)
    assert patients["age_years"].std() == pytest.approx(16, abs=1)
    assert patients["age_years"].corr(patients["n_comorbidities"]) > 0.3
    assert (patients["scanner"] == "B").mean() == pytest.approx(
        chest_cohort.SCANNER_B_SHARE, abs=0.02
    )
    prevalence = (table[FINDINGS] > 0).mean()
    assert prevalence["cardiomegaly"] == pytest.approx(0.45, abs=0.03)
    assert prevalence.drop("cardiomegaly").between(0.07, 0.25).all()


def test_findings_go_together_differ_between_images_and_are_graded():
    table = tables("private", 20)
    present = table[FINDINGS] > 0
    correlations = present.corr().to_numpy()[np.triu_indices(8, 1)]
    assert correlations.mean() > 0.05
    by_patient = present.groupby(table["patient_id"])
    changes = by_patient.nunique()[by_patient.size() >= 4] > 1
    assert changes.mean().between(0.1, 0.9).all()
    counts = np.bincount(table[FINDINGS].to_numpy().ravel(), minlength=5)
    assert (np.diff(counts) < 0).all() and counts[4] > 0.01 * counts.sum()


def test_public_site_has_no_scanner_b_and_the_share_is_a_parameter():
    assert (tables("public", 5)["scanner"] == "A").all()
    _, all_b = chest_cohort.draw_block(
        "private", "train", 0, seed=0, n_patients=20, scanner_b_share=1.0
    )
    _, none_b = chest_cohort.draw_block(
        "private", "train", 0, seed=0, n_patients=20, scanner_b_share=0.0
    )
    assert set(all_b["scanner"]) == {"B"} and set(none_b["scanner"]) == {"A"}
    people = ["patient_id", "sex", "age_years", "n_comorbidities", "admission"]
    pd.testing.assert_frame_equal(
        *(
            table.drop_duplicates("patient_id")[people].reset_index(drop=True)
            for table in (all_b, none_b)
        )
    )


@pytest.mark.parametrize("finding", ["pleural_effusion", "pneumonic_infiltrates", "atelectasis"])
def test_findings_brighten_their_own_side(finding):
    """The patient's right is the viewer's left: the lower columns of the image."""
    images, table = public_films()
    right, left = (table[f"{finding}_{side}"].to_numpy() for side in ("right", "left"))
    difference = images[:, 10:36, 6:22].mean((1, 2)) - images[:, 10:36, 26:42].mean((1, 2))
    neither = difference[(right == 0) & (left == 0)].mean()
    assert difference[(right >= 3) & (left == 0)].mean() > neither + 3
    assert difference[(left >= 3) & (right == 0)].mean() < neither - 3


def test_admission_influences_nothing_in_the_image():
    """Redrawing it would change no pixel.

    No weekend effect beyond chance in mean, spread or asymmetry of films.
    """
    blocks = [
        chest_cohort.draw_block("private", "train", index, seed=0, scanner_b_share=0.0)
        for index in range(4)
    ]
    per_image = pd.concat(
        [
            table.assign(grey=images.mean((1, 2)), spread=images.std((1, 2)))
            for images, table in blocks
        ]
    )
    patients = per_image.groupby("patient_id").agg(
        admission=("admission", "first"), grey=("grey", "mean"), spread=("spread", "mean")
    )
    is_weekend = patients["admission"] == "weekend"
    for name in ("grey", "spread"):
        error = patients[name].std() * np.sqrt(1 / is_weekend.sum() + 1 / (~is_weekend).sum())
        assert (
            abs(patients[name][is_weekend].mean() - patients[name][~is_weekend].mean())
            < 3.5 * error
        )


def test_planted_truth_names_columns_and_groups_of_the_table():
    truth, table = chest_cohort.planted_truth(), tables("private", 5)
    assert set(truth["attribute"]) <= set(table.columns)
    assert set(truth["effect"]) == {"harder", "null", "harder_when_private"}
    assert (truth["contrast_low"] < truth["contrast_high"]).all()
    null = truth[truth["effect"] == "null"].iloc[0]
    assert null["severity_factor"] == 1 and null["contrast_low"] < 0 < null["contrast_high"]
    old = (table.drop_duplicates("patient_id")["age_years"] >= chest_cohort.OLD_AGE_YEARS).mean()
    assert old == pytest.approx(truth.set_index("group")["share"]["80+"], abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(site="privat"),
            "site to be one of public, private; got 'privat'. Did you mean 'private'",
        ),
        (dict(split="tests"), "split to be one of"),
        (dict(index=-1), "index to be an integer in"),
        (dict(image_px=8), "image_px to be an integer in"),
        (dict(n_patients=101), "n_patients to be an integer in"),
        (dict(scanner_b_share=1.5), "scanner_b_share to be a number in"),
    ],
)
def test_draw_block_refuses_what_it_cannot_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        chest_cohort.draw_block(
            **(dict(site="private", split="train", index=0, seed=0) | arguments)
        )
