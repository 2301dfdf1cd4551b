"""Rules that never match are refused before an image is decoded, with what is nearest."""

import numpy as np
import pandas as pd
import pytest
from test_row_rules import BASE, apply, manifest_of

from helpers.core import errors
from helpers.data.tables import patient_checks, rule_checks


def table_of(*cells: str, **columns: object) -> pd.DataFrame:
    """A film a cell, two of each patient."""
    n = len(cells)
    names, patients = [f"f{k}" for k in range(n)], [f"p{k // 2}" for k in range(n)]
    return pd.DataFrame({"file": names, "patient": patients, "effusion": cells}).assign(**columns)


def rule(**fields: object) -> dict:
    return dict(findings=dict(effusion=dict(canonical="effusion", column="effusion") | fields))


LISTS = rule(contains=["pleural effusion"], cell="list")


def test_lists_in_cells_are_read_whatever_writes_them():
    table = table_of(
        "['pleural effusion', 'mass']",
        '["mass", "pleural effusion "]',  # JSON
        "['loc, right', 'mass']",
        "[]",
        "",
        "('pleural effusion',)",
    )
    labels = apply(table, **LISTS).rows["effusion"]
    np.testing.assert_array_equal(labels, [1, 1, 0, np.nan, np.nan, 1])


@pytest.mark.parametrize(
    "cell",
    [
        "['pleural effusion', 'mass'",
        "['mass' 'pleural effusion']",  # numpy's: Python would read one entry
        "[mass]",
        "nan",
        "pleural effusion",
        "__import__('os').getcwd()",
        "{'mass': 1}",
        "[['mass']]",
    ],
)
def test_cells_that_are_no_lists_are_refused_by_cell(cell):
    table = table_of("['pleural effusion']", "['mass']", cell)
    with pytest.raises(errors.InputError) as refusal:
        apply(table, **LISTS)
    assert f"got {cell!r} in 1 rows" in str(refusal.value)


@pytest.mark.parametrize(
    "fields, cells, words",
    [
        (
            dict(contains=["'mass'"], separator=","),
            ["['mass', 'x']", "['x']", "[]"],
            "list literals: set `findings.effusion.cell: list`",
        ),
        (
            dict(contains=["Efusion"]),
            ["Effusion|Mass", "Mass"],
            "lists 'Efusion'.*none; it holds 'Effusion.Mass'.*Did you mean 'Effusion'",
        ),
        (dict(contains=["effusion"]), ["Effusion", "Mass"], "Did you mean 'Effusion'"),
        (
            dict(contains=["Effusion"]),
            ["Effusion", "effusion", "Mass"],
            "one spelling of 'Effusion'.*also 'effusion'",
        ),
        (
            dict(contains=["Effusion"], separator="|"),
            ["Effusion", "Effusion;Mass", "Mass"],
            r"between separators '\|'; got the one entry 'Effusion;Mass'",
        ),
        (
            dict(values={"yes": "positive", "no": "negative"}),
            ["no", "no", ""],
            r"0 with, 2 without, 1 unknown; column 'effusion' holds 'no' \(2\), blank \(1\)",
        ),
        (
            dict(values={"1": "positive", "0": "negative"}),
            ["1", "", "1"],
            "set `findings.effusion.blank_means: negative`",
        ),
        (dict(grades=[0, 1, 2], positive_grades=[2]), ["1", "0", "1"], "0 with, 3 without"),
        (dict(values={"Yes": "positive", "No": "negative"}), ["Yes", "no"], "Did you mean 'No'"),
    ],
)
def test_a_label_rule_that_cannot_be_meant_is_refused(fields, cells, words):
    with pytest.raises(errors.InputError, match=words):
        apply(table_of(*cells), **rule(**fields))


def test_entries_that_hold_the_wanted_word_but_are_not_it_are_counted():
    cells = ["effusion", "mass", "effusion?", "effusion (small)", "nodule & effusion", "effusion?"]
    source = apply(table_of(*cells, "Effusions", "effusive"), **rule(contains=["effusion"]))
    assert source.rows["effusion"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    (note,) = [note for note in source.notes if "contains" in note]
    assert note.startswith("5 rows count as without effusion although column 'effusion' lists")
    assert "'effusion?' (2), 'effusion (small)' (1), 'nodule & effusion' (1) and 1 more" in note
    known = rule(contains=["effusion"], known=["effusion", "mass", "effusion?"])
    notes = apply(table_of("effusion", "mass", "effusion?"), **known).notes
    assert not [note for note in notes if "contains" in note]


def test_values_that_are_one_number_have_one_meaning():
    for one, other in (("01", "1"), ("1.1", "1.10")):
        with pytest.raises(errors.InputError, match=f"of a number.*got '{one}', '{other}', which"):
            apply(table_of(one, other), **rule(values={one: "positive", other: "negative"}))
    labels = apply(
        table_of("01", "1", "0"),
        **rule(values={"01": "positive", "1": "positive", "0": "negative"}),
    )
    assert labels.rows["effusion"].tolist() == [1, 1, 0]
    labels = apply(
        table_of("True", "FALSE"), **rule(values={"TRUE": "positive", "false": "negative"})
    )
    assert labels.rows["effusion"].tolist() == [1, 0]


def test_one_of_several_entries_or_values_that_never_occurs_is_a_note():
    table = table_of("Effusion", "Mass", sex="F")
    changes = rule(contains=["Effusion", "Fluid"]) | dict(
        sex=dict(column="sex", values={"F": "female", "M": "male"})
    )
    notes = apply(table, **changes).notes
    assert "No row has 'Fluid' of `findings.effusion.contains`." in notes
    assert "No row has 'M' of `sex.values`." in notes


def test_long_codes_are_not_taken_for_one_number():
    codes = {"396230008": "positive", "396230009": "negative"}
    labels = apply(table_of("396230008", "396230009", "396230008"), **rule(values=codes)).rows
    assert labels["effusion"].tolist() == [1, 0, 1]


def test_keep_that_matches_no_row_is_refused_with_the_values_there_are():
    table = table_of("1", "0", "1", view=["PA", "PA ", "LL"])
    with pytest.raises(
        rule_checks.Unusable, match=r"'view' of 'pa'; got none; it holds 'PA' \(2\), 'LL' \(1\)"
    ) as refusal:
        apply(table, keep=dict(view=["pa"]))
    assert refusal.value.excluded["reason"].tolist() == ["view is not pa"] * 3
    assert "Did you mean 'PA'?" in str(refusal.value)
    assert len(apply(table, keep=dict(view=["PA", "AP"])).rows) == 2
    with pytest.raises(errors.InputError, match="one spelling of 'PA'.*also 'pa'"):
        apply(table.assign(view=["PA", "PA", "pa"]), keep=dict(view=["PA"]))


@pytest.mark.parametrize(
    "patients", [[f"f{k}" for k in range(4)], [f"F/f{k}.png" for k in range(4)]]
)
def test_a_patient_id_that_is_the_image_id_must_be_confirmed(patients):
    table = table_of("1", "0", "1", "0").assign(file=patients)
    table["patient"] = [name.removeprefix("F/").removesuffix(".png") for name in patients]
    with pytest.raises(errors.InputError, match="confirm with `one_image_a_patient: true`"):
        apply(table)
    source = apply(table, one_image_a_patient=True)
    assert source.rows["patient_id"].tolist() == table["patient"].tolist()


def test_a_patient_taken_from_the_images_name_must_repeat():
    """A study's number in place of a patient's: every row another patient."""
    table = table_of(*"10" * 15).assign(file=[f"p{k // 2}/s{k}/1.png" for k in range(30)])
    wrong, right = (
        dict(extract=dict(who=dict(column="file", pattern=pattern)), patient_id="who")
        for pattern in (r"(p\d+/s\d+)/", r"(p\d+)/")
    )
    with pytest.raises(errors.InputError, match="`patient_id: who` to say whose an image is"):
        apply(table, **wrong)
    assert apply(table, **right).rows["patient_id"].nunique() == 15
    alone = apply(table.assign(patient=[f"n{k}" for k in range(30)]))
    assert "Each of 30 images has a patient of its own in 'patient'" in alone.notes[0]


def test_a_path_as_patient_is_refused_whatever_the_image_id_is():
    table = table_of("1", "0", "1", "0").assign(number=list("1234"))
    with pytest.raises(errors.InputError, match="as the image's name, e.g. 'f0', 'f1'"):
        apply(table, image_id="n{number}", patient_id="file")


def test_patient_ids_that_differ_in_case_or_zeros_are_named():
    table = table_of(*"101010").assign(patient=["A1", "a1", "007", "7", "b", "b"])
    assert apply(table).notes == [
        "4 patient ids differ from another one in letter case, leading zeros or form only, e.g."
        " 'A1', 'a1': they count as different patients."
    ]
    patients = ["'12", "12", "\uff13", "3", "4\u200b", "4"]
    images = pd.DataFrame(dict(image_id=table["file"], patient_id=patients))
    (note,) = patient_checks.check(manifest_of(one_image_a_patient=True), images, "films.csv")
    assert note.startswith("6 patient ids differ")


def test_a_word_for_unknown_as_patient_is_counted():
    patients = ["unknown"] * 500 + ["NA"] * 3 + [f"p{k}" for k in range(50)]
    source = apply(table_of(*("10" * 277)[:553]).assign(patient=patients))
    assert source.rows["patient_id"].nunique() == 52
    assert any("patient_id is 'na' or 'unknown' on 503 rows" in note for note in source.notes)
    numbered = table_of(*"101010").assign(patient=["0", "0", "1", "1", "2", "2"])
    assert apply(numbered).notes == []  # counted from 0


def test_patients_of_merged_cells_are_refused_and_other_blanks_counted():
    cells = list("1001" * 10)
    first = [f"p{k}" if k % 2 == 0 else "" for k in range(40)]
    longer = [f"p{k}" if k in (0, 1, 5, 6, 12, 20, 30, 31) else "" for k in range(40)]
    for patients in (first, longer):
        with pytest.raises(
            errors.InputError, match=r"a blank 'patient' in \d+ of 40.*merged cells"
        ):
            apply(table_of(*cells).assign(patient=patients))
    repeated = [f"p{k // 4}" if k % 4 < 3 else "" for k in range(40)]
    at_the_end = [f"p{k}" if k < 20 else "" for k in range(40)]
    for patients, n_blank in ((repeated, 10), (at_the_end, 20)):
        source = apply(table_of(*cells).assign(patient=patients))
        assert len(source.rows) == 40 - n_blank
        assert any(f"{n_blank} of 40 rows of films.csv have a blank" in n for n in source.notes)


def test_one_patient_for_all_images_is_refused():
    table = table_of(*"10" * 15).assign(patient="A")
    with pytest.raises(errors.InputError, match="got 'A' in all 30 rows"):
        apply(table)


def test_without_a_patient_id_every_image_is_its_own_and_that_is_said():
    source = apply(table_of("1", "0", "1"), patient_id=None)
    assert source.rows["patient_id"].tolist() == source.rows["image_id"].tolist()
    assert set(source.rows["sex"]) == {"unknown"} and source.rows["age_years"].isna().all()
    assert "does not say whose an image is" in source.notes[0]


def test_training_images_need_both_labels_and_others_get_a_note():
    rows = pd.DataFrame({"split": ["train"] * 3 + ["test"] * 2, "effusion": [1, 0, 1, 1, np.nan]})
    nothing = pd.DataFrame(columns=["row", "image_id", "patient_id", "reason"])
    judge = rule_checks.check_splits
    assert judge(manifest_of(), rows, nothing, "films.csv") == [
        "Of 2 images in test, 1 have effusion and 0 do not: no AUROC of it there."
    ]
    with pytest.raises(rule_checks.Unusable, match="training images with and without effusion"):
        judge(manifest_of(), rows.assign(effusion=[1, 1, 1, 0, 0]), nothing, "films.csv")


def test_drawn_cohorts_are_not_judged():
    drawn = manifest_of(
        layout=dict(kind="synthetic", site="public", generator_version=1, patients={}),
        access="embedded",
    )
    cells = pd.DataFrame({"effusion": ["1", "1"]})
    labels = pd.DataFrame({"effusion": [1.0, 1.0]})
    assert rule_checks.check_labels(drawn, cells, labels, "t") == []
    assert BASE["layout"]["kind"] == "table_and_images"
