"""Identical images: who is one patient, what is left out, worked by hand."""

import pandas as pd
import pytest

from helpers.core import errors
from helpers.data import duplicates, manifests, rule_schema
from helpers.data.tables import source_tables, split_rules


def settle(
    rows: list[tuple[str, str, str, str | None]], **split: object
) -> tuple[pd.DataFrame, pd.DataFrame, list[str], dict[str, int]]:
    """Settle rows of (image_id, patient_id, hash of pixels, given split).

    A hash that begins with blank is of an image of one value.
    """
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "sha256", "split"]).assign(
        row=range(len(rows))
    )
    manifest = manifests.read("covid_chestxray").model_copy(
        update={"split": rule_schema.SplitRule.model_validate(split)}
    )
    facts = pd.DataFrame(
        {
            "row": table["row"],
            "sha256": "of file " + table["image_id"],
            "pixels_sha256": table["sha256"],
            "is_nearly_uniform": table["sha256"].str.startswith("noise"),
            "reason": None,
            "chunk": 0,
            "index_in_chunk": table["row"],
            "is_constant": table["sha256"].str.startswith("blank"),
        }
    )
    if not manifest.split.is_given:
        table = table.drop(columns="split")
    nothing = pd.DataFrame(columns=source_tables.EXCLUDED_COLUMNS)
    return duplicates.settle(
        manifest, source_tables.Source(table.drop(columns="sha256"), nothing, []), facts
    )


def test_patients_with_an_identical_image_are_one_patient_also_through_a_third():
    rows, excluded, notes, _ = settle(
        [
            ("a", "3", "x", None),
            ("b", "2", "x", None),
            ("c", "2", "y", None),
            ("d", "1", "y", None),
            ("e", "9", "z", None),
        ],
        test_share=0.3,
    )
    assert rows[["image_id", "patient_id"]].values.tolist() == [["a", "1"], ["c", "1"], ["e", "9"]]
    assert set(excluded["reason"]) == {"identical image of the same patient"} and excluded[
        "image_id"
    ].tolist() == ["b", "d"]
    assert notes == ["Patients '1', '2', '3' have an identical image and count as one patient, 1."]


def test_identical_images_with_a_given_split():
    split_rule = dict(column="part", values={"train": "train"})
    rows, excluded, notes, _ = settle(
        [
            ("a", "1", "x", "train"),
            ("b", "1", "x", "train"),  # one patient: the second goes
            # another patient of train: the two are one
            ("c", "2", "x", "train"),
            ("g", "2", "y", "train"),
            # the later split goes
            ("d", "3", "x", "test"),
            ("e", "4", "w", "valid"),
            ("f", "5", "w", "test"),
        ],
        **split_rule,
    )
    assert rows["image_id"].tolist() == ["a", "g", "e"] and rows["patient_id"].tolist() == [
        "1",
        "1",
        "4",
    ]
    assert excluded[["image_id", "reason"]].values.tolist() == [
        ["b", "identical image of the same patient"],
        ["c", "identical image of the same patient"],
        ["d", "identical image in an earlier split"],
        ["f", "identical image in an earlier split"],
    ]
    assert notes == ["Patients '1', '2' have an identical image and count as one patient, 1."]


def test_merged_counts_the_ids_that_became_one_training_patient():
    split_rule = dict(column="part", values={"train": "train", "test": "test"})
    merged = settle(
        [
            ("a", "3", "x", "train"),
            ("b", "2", "x", "train"),
            ("c", "2", "y", "train"),
            ("d", "1", "y", "train"),  # 1, 2, 3 by a chain
            ("e", "4", "z", "train"),
            ("f", "5", "z", "train"),  # 4 and 5
            # 6 alone; its film in test is left out
            ("g", "6", "w", "train"),
            ("h", "6", "w", "train"),
            ("i", "7", "w", "test"),
            # 8 and 9, not of training
            ("j", "8", "v", "test"),
            ("k", "9", "v", "test"),
        ],
        **split_rule,
    )[3]
    assert merged == {"ids": 5, "units": 2, "largest": 3}
    assert settle(
        [("a", "3", "x", None), ("b", "2", "x", None), ("c", "2", "y", None), ("d", "1", "y", None)]
    )[3] == {"ids": 3, "units": 1, "largest": 3}
    assert settle([("a", "1", "x", None), ("b", "2", "y", None)])[3] == {
        "ids": 0,
        "units": 0,
        "largest": 0,
    }


def test_a_blank_image_makes_no_two_patients_one_and_leaves_out_no_image_of_another():
    # one patient: the second goes
    rows = [
        ("a", "1", "blank", "train"),
        ("b", "1", "blank", "train"),
        # two more patients: all stay
        ("c", "2", "blank", "train"),
        ("d", "3", "blank", "test"),
        # 2 and 4 are one: its second goes
        ("e", "2", "x", "train"),
        ("f", "4", "x", "train"),
        ("g", "4", "blank", "train"),
    ]
    for split in (dict(column="part", values={"train": "train"}), dict(test_share=0.3)):
        kept, excluded, notes, _ = settle(rows, **split)
        assert kept[["image_id", "patient_id"]].values.tolist() == [
            ["a", "1"],
            ["c", "2"],
            ["d", "3"],
            ["e", "2"],
        ]
        assert excluded["image_id"].tolist() == ["b", "f", "g"] and set(excluded["reason"]) == {
            "identical image of the same patient"
        }
        assert notes == ["Patients '2', '4' have an identical image and count as one patient, 2."]


def test_noise_is_noted_and_kept():
    kept, _, notes, _ = settle(
        [("a", "1", "noise", None), ("b", "2", "x", None), ("c", "3", "noise 2", None)]
    )
    assert len(kept) == 3
    assert notes == [
        "2 images are nearly uniform (98 % of their pixels within 4 grey values): what they show is"
        " noise, e.g. 'a', 'c'."
    ]


def test_given_split_may_give_a_share_of_training_patients_to_valid_whole():
    split_rule = dict(column="part", values={"train": "train", "test": "test"}, valid_share=0.4)
    rows, *_ = settle(
        [(f"i{i}", f"{i % 200}", f"x{i}", "test" if i % 200 < 50 else "train") for i in range(600)],
        **split_rule,
    )
    counts = rows.drop_duplicates("patient_id")["split"].value_counts()
    assert counts["test"] == 50 and 40 < counts["valid"] < 80  # 60 expected of 150
    assert (rows.groupby("patient_id")["split"].nunique() == 1).all()


def test_a_person_under_two_names_in_a_given_train_is_not_in_train_and_valid():
    split_rule = dict(column="part", values={"train": "train"}, valid_share=0.5)
    people = [str(k) for k in range(20)]
    assert (
        len(
            {
                split_rules.hash_split(person, rule_schema.SplitRule.model_validate(split_rule))
                for person in people
            }
        )
        == 2
    )
    rows, *_ = settle(
        [
            row
            for person in people
            for row in (
                (f"a{person}", person, "x", "train"),
                (f"b{person}", person, f"y{person}", "train"),
            )
        ],
        **split_rule,
    )
    assert rows["patient_id"].nunique() == 1 and rows["split"].nunique() == 1 and len(rows) == 21


def test_repeated_image_ids_are_refused():
    with pytest.raises(
        errors.InputError, match="one image an image_id .* got 1 repeated, e.g. 'a'"
    ):
        settle([("a", "1", "x", None), ("a", "2", "y", None)], test_share=0.3)
