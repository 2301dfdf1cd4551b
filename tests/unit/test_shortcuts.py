"""What a scanner alone says of a finding, beside the model, and the model within a scanner."""

import numpy as np
import pandas as pd
import pytest
from conftest import image_table, predictions_of
from sklearn.metrics import roc_auc_score

from helpers.analysis import shortcuts
from helpers.core import errors


def study(score):
    """A cohort whose cases come from scanner X by three to one; predictions with a score from
    (label, is X, stream).

    Four images a patient, which are much alike.
    """
    rng = np.random.default_rng(3)
    n, patient = 4000, np.arange(4000) // 4
    label = (rng.random(n // 4) < 0.5).astype(float)[patient]
    is_x = (rng.random(n // 4) < np.where(label[::4] == 1, 0.75, 0.25))[patient]
    noise = 0.95 * rng.standard_normal(n // 4)[patient] + 0.3 * rng.standard_normal(n)
    table = image_table(
        patient,
        split=np.where(patient % 2, "train", "test"),
        scanner=np.where(is_x, "X", "Y"),
        source="one",
        tumour=label,
    )
    test = table[table["split"] == "test"]
    is_x = (test["scanner"] == "X").to_numpy(float)
    scores = score(test["tumour"].to_numpy(), is_x, noise[test.index])
    return {"run": predictions_of(test, {"tumour": scores})}, table


def test_a_model_that_reads_the_scanner_is_no_better_than_it_within_it():
    shortcut_table = shortcuts.beside_model(
        *study(lambda label, is_x, noise: is_x + 1e-3 * noise),
        ["scanner", "source"],
        n_bootstrap=100,
        min_patients=10,
    )
    shortcut_table = shortcut_table.set_index("column")
    assert abs(shortcut_table.loc["scanner", "alone"] - 0.75) < 0.05
    assert abs(shortcut_table.loc["scanner", "model"] - 0.75) < 0.05
    assert abs(shortcut_table.loc["scanner", "within"] - 0.5) < 0.06
    assert shortcut_table.loc["scanner", "low"] > 0.1
    assert shortcut_table.loc["source", "alone"] == 0.5
    assert shortcut_table.loc["source", "within"] == shortcut_table.loc["source", "model"]


def test_a_model_that_reads_the_image_keeps_its_auroc_within():
    row = shortcuts.beside_model(
        *study(lambda label, is_x, noise: label + noise),
        ["scanner"],
        n_bootstrap=100,
        min_patients=10,
    ).iloc[0]
    assert abs(row["within"] - row["model"]) < 0.02
    assert row["model"] > 0.7
    assert row["low"] < row["lost"] < row["high"] < 0.03


def test_the_interval_of_what_is_lost_is_that_of_a_loop_over_resamples_of_patients():
    predictions, table = study(lambda label, is_x, noise: label + is_x + noise)
    row = shortcuts.beside_model(
        predictions, table, ["scanner"], n_bootstrap=2000, min_patients=10
    ).iloc[0]
    test = predictions["run"].merge(table[["image_id", "scanner"]], on="image_id")
    rng, lost, of_patients = np.random.default_rng(1), [], test.groupby("patient_id").indices
    for _ in range(300):
        drawn = test.iloc[
            np.concatenate(
                [
                    of_patients[patient]
                    for patient in rng.choice(list(of_patients), len(of_patients))
                ]
            )
        ]
        parts = [part for _, part in drawn.groupby("scanner")]
        pairs = [(part["label"] == 1).sum() * (part["label"] == 0).sum() for part in parts]
        lost.append(
            roc_auc_score(drawn["label"], drawn["score"])
            - np.average(
                [roc_auc_score(part["label"], part["score"]) for part in parts], weights=pairs
            )
        )
    assert np.allclose(np.percentile(lost, [2.5, 97.5]), [row["low"], row["high"]], atol=0.006)
    assert row["low"] > 0


def test_a_scanner_with_one_class_only_says_nothing_within():
    predictions, table = study(lambda label, is_x, noise: label + noise)
    table["scanner"] = np.where(table["tumour"] == 1, "X", "Y")
    row = shortcuts.beside_model(
        predictions, table, ["scanner"], n_bootstrap=100, min_patients=10
    ).iloc[0]
    assert row["alone"] == 1
    assert np.isnan(row["within"])
    assert np.isnan(row["low"])


def test_within_is_not_estimable_by_a_few_patients():
    predictions, table = study(lambda label, is_x, noise: label + noise)
    one = table.index[(table["tumour"] == 1) & (table["split"] == "test")][0]
    table["scanner"] = np.where((table["tumour"] == 1) & (table.index != one), "X", "Y")
    row = shortcuts.beside_model(
        predictions, table, ["scanner"], n_bootstrap=20, min_patients=10
    ).iloc[0]
    assert np.isnan(row["within"])
    assert row["model"] > 0.7
    assert (
        shortcuts.beside_model(
            predictions, table, ["scanner"], n_bootstrap=20, min_patients=1
        ).iloc[0]["within"]
        > 0
    )


def test_images_whose_scanner_is_not_known_are_left_out_of_all_three():
    """Half of the images have no scanner and are easy: that is no shortcut."""
    predictions, table = study(lambda label, is_x, noise: noise)
    rng = np.random.default_rng(5)
    table["scanner"] = np.where(
        rng.random(len(table)) < 0.5, "", rng.choice(["X", "Y"], len(table))
    )
    easy = predictions["run"]["image_id"].map(table.set_index("image_id")["scanner"]) == ""
    predictions["run"].loc[easy, "score"] += 5 * predictions["run"].loc[easy, "label"]
    row = shortcuts.beside_model(
        predictions, table, ["scanner"], n_bootstrap=100, min_patients=10
    ).iloc[0]
    assert abs(row["lost"]) < 0.01
    assert abs(row["model"] - 0.5) < 0.06
    assert row["n_patients"] < 500


def test_without_labels_or_training_images_alone_is_not_there():
    predictions, table = study(lambda label, is_x, noise: label + noise)
    for poorer in (table.drop(columns="tumour"), table[table["split"] == "test"]):
        row = shortcuts.beside_model(
            predictions, poorer, ["scanner"], n_bootstrap=100, min_patients=10
        ).iloc[0]
        assert np.isnan(row["alone"])
        assert row["within"] > 0.7


def test_an_unknown_scanner_is_no_scanner():
    predictions, table = study(lambda label, is_x, noise: is_x + 1e-3 * noise)
    table["scanner"] = table["scanner"].where(np.random.default_rng(1).random(len(table)) < 0.5, "")
    row = shortcuts.beside_model(
        predictions, table, ["scanner"], n_bootstrap=100, min_patients=10
    ).iloc[0]
    assert row["n_values"] == 2
    assert abs(row["within"] - 0.5) < 0.06


def test_a_value_that_training_does_not_have_counts_as_the_share_of_all():
    predictions, table = study(lambda label, is_x, noise: noise)
    is_new = (table["split"] == "test") & (np.arange(len(table)) // 4 % 3 == 0)
    table["scanner"] = table["scanner"].mask(is_new, "Z")
    row = shortcuts.beside_model(
        predictions, table, ["scanner"], n_bootstrap=2, min_patients=10
    ).iloc[0]
    train = table[table["split"] == "train"]
    score = (
        table["scanner"]
        .map(train.groupby("scanner")["tumour"].mean())
        .fillna(train["tumour"].mean())[table["split"] == "test"]
    )
    assert row["alone"] == pytest.approx(roc_auc_score(table.loc[score.index, "tumour"], score))


def test_numbers_serve_as_values_too():
    predictions, table = study(lambda label, is_x, noise: noise)
    table["n"] = pd.array(
        [1 if scanner == "X" else None for scanner in table["scanner"]], dtype="Int64"
    )
    row = shortcuts.beside_model(predictions, table, ["n"], n_bootstrap=2, min_patients=10).iloc[0]
    assert row["n_values"] == 1
    assert row["n_patients"] < 500


def test_an_absent_column_is_refused_and_none_is_an_empty_table():
    predictions, table = study(lambda label, is_x, noise: noise)
    with pytest.raises(errors.InputError, match="SHORTCUTS"):
        shortcuts.beside_model(predictions, table, ["vendor"], n_bootstrap=1, min_patients=10)
    assert shortcuts.beside_model(predictions, table, [], n_bootstrap=1, min_patients=10).empty
