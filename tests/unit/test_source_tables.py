"""Source tables.

Label, age, sex and split rules worked by hand; every value outside a rule is refused by name.
"""

import numpy as np
import pandas as pd
import pytest

from helpers.core import errors
from helpers.data import manifest_schema, rule_schema
from helpers.data.tables import label_rules, source_tables, source_text, split_rules

BASE = dict(
    name="ward",
    title="A ward",
    modality="chest radiograph",
    access="private",
    licence="none",
    citation="none",
    how_to_get="Ask.",
    layout=dict(kind="table_and_images", table="films.csv", image_path="{file}"),
    image_id="{file}",
    patient_id="patient",
    split=dict(test_share=0.3, valid_share=0.2),
    findings=dict(
        effusion=dict(
            canonical="effusion",
            column="effusion",
            values={"1": "positive", "0": "negative", "-1": "uncertain"},
        )
    ),
)
TABLE = pd.DataFrame(
    {
        "file": ["a", "b", "c", "d"],
        "patient": ["1", "1", "2", "3"],
        "effusion": ["1", "0.0", "-1", ""],
        "age": ["70", "042Y", "414", ""],
        "sex": ["M", "F", "", "F"],
        "view": ["PA", "PA", "AP", "L"],
    }
)


def apply(table: pd.DataFrame = TABLE, **changes: object) -> source_tables.Source:
    manifest = manifest_schema.Manifest.model_validate(BASE | changes)
    return source_tables.apply_rules(manifest, table, pd.DataFrame(index=table.index))


def finding(**rule: object) -> dict:
    return dict(findings=dict(effusion=dict(canonical="effusion") | rule))


@pytest.mark.parametrize(
    "rule, cells, labels",
    [
        (
            dict(column="g", grades=[0, 1, 2, 3], positive_grades=[2, 3]),
            ["0", "1", "2", "3.0", ""],
            [0, 0, 1, 1, np.nan],
        ),
        (
            dict(column="g", grades=[0, 1], positive_grades=[1], blank_means="negative"),
            ["1", ""],
            [1, 0],
        ),
        (
            dict(column="g", contains=["Effusion"]),
            ["Effusion|Mass", "Mass", "Effusions", ""],
            [1, 0, 0, np.nan],
        ),
        (dict(column="g", contains=["A", "B"], separator=","), ["C, B", "C", "A"], [1, 0, 1]),
        (
            dict(column="g", values={"yes": "positive", "no": "negative"}),
            ["yes", "no", ""],
            [1, 0, np.nan],
        ),
        (
            dict(
                column="g",
                values={"1": "positive", "0": "negative", "-1": "uncertain"},
                blank_means="negative",
            ),
            ["1.0", "0", "-1", ""],
            [1, 0, np.nan, 0],
        ),
        (
            dict(
                column="g",
                values={"1": "positive", "-1": "uncertain", "0": "negative"},
                uncertain_means="positive",
            ),
            ["1", "-1", "0"],
            [1, 1, 0],
        ),
    ],
)
def test_label_rules_worked_by_hand(rule, cells, labels):
    table = pd.DataFrame({"file": [str(i) for i in range(len(cells))], "patient": "1", "g": cells})
    np.testing.assert_array_equal(apply(table, **finding(**rule)).rows["effusion"], labels)


def test_any_of_is_1_if_any_is_1_and_unknown_only_if_it_could_be_1():
    table = pd.DataFrame(
        {
            "file": list("abcde"),
            "patient": "1",
            "right": [1, 0, 0, np.nan, np.nan],
            "left": [0, 0, np.nan, 3, np.nan],
        }
    )
    rule = finding(any_of=["right", "left"], grades=[0, 1, 2, 3], positive_grades=[1, 2, 3])
    np.testing.assert_array_equal(apply(table, **rule).rows["effusion"], [1, 0, np.nan, 1, np.nan])


def test_impossible_ages_become_unknown_and_are_counted_and_days_become_years():
    source = apply(age=dict(column="age", unit="years", max_years=120))
    np.testing.assert_array_equal(source.rows["age_years"], [70, 42, np.nan, np.nan])
    assert source.notes == [
        "1 rows with an impossible age (below 0 or above 120 years) count as age unknown; column"
        " 'age' has there '414' (1)."
    ]
    days = TABLE.assign(age=[0, 36525, -1, 50000])  # 36,525 days are 100 years of 365.25 days
    source = apply(days, age=dict(column="age", unit="days"))
    np.testing.assert_array_equal(source.rows["age_years"], [0, 100, np.nan, np.nan])


def test_sex_is_mapped_and_blank_is_unknown():
    assert apply(sex=dict(column="sex", values={"M": "male", "F": "female"})).rows[
        "sex"
    ].tolist() == ["male", "female", "unknown", "female"]


def test_rows_are_kept_or_excluded_with_a_reason_and_the_counts_close():
    table = TABLE.assign(patient=["1", "", "2", "3"], effusion=["1", "0", "0", ""])
    source = apply(table, keep={"view": ["PA", "AP"]})
    assert source.rows["image_id"].tolist() == ["a", "c"]
    assert dict(zip(source.excluded["image_id"], source.excluded["reason"])) == {
        "b": "no patient_id",
        "d": "view is not PA or AP",
    }


def test_values_of_rows_that_are_not_kept_are_not_judged():
    assert (
        len(apply(TABLE.assign(effusion=["1", "0", "0", "7"]), keep={"view": ["PA", "AP"]}).rows)
        == 3
    )


@pytest.mark.parametrize(
    "changes, table, words",
    [
        (
            finding(column="g", grades=[0, 1, 2], positive_grades=[2]),
            dict(g=["0", "7", "1", "7"]),
            (
                r"column 'g' of films.csv to hold grades 0, 1, 2; got '7' in 2"
                r" rows.*findings.effusion.grades"
            ),
        ),
        (
            finding(column="g", grades=[0, 1], positive_grades=[1]),
            dict(g=["0", "0.5", "1", "x"]),
            r"got '0.5', 'x' in 2 rows",
        ),
        (
            finding(column="g", contains=["A"], known=["A", "B"]),
            dict(g=["A", "B|C", "", "B"]),
            r"got 'B\|C' in 1 rows",
        ),
        (
            {},
            dict(effusion=["2", "1", "1", "1"]),
            r"column 'effusion' of films.csv to hold 1 or 0 or -1; got '2'",
        ),
        (
            dict(sex=dict(column="sex", values={"M": "male"})),
            {},
            r"column 'sex' of films.csv to hold M; got 'F' in 2 rows",
        ),
        (
            dict(age=dict(column="sex", unit="years")),
            {},
            r"'sex' of films.csv to hold ages in years \(numbers\), or 042Y, 018M; got 'M', 'F'",
        ),
        (
            dict(n_comorbidities="age"),
            dict(age=["1.5", "2", "-1", ""]),
            r"to hold counts from 0 to 90; got '1.5', '-1' in 2 rows",
        ),
        (
            dict(age=dict(column="alter", unit="years")),
            {},
            r"columns 'alter' in films.csv; got columns 'file', 'patient'",
        ),
    ],
)
def test_values_outside_a_rule_are_refused_with_file_column_and_value(changes, table, words):
    with pytest.raises(errors.InputError, match=words):
        apply(TABLE.assign(**table), **changes)


def test_a_patient_in_two_given_splits_is_refused():
    table = TABLE.assign(part=["train", "test", "test", "train"])
    with pytest.raises(
        errors.InputError, match=r"no patient in two splits of films.csv; got 1, e.g. '1'"
    ):
        apply(table, split=dict(column="part", values=dict(train="train", test="test")))


def test_hash_split_is_stable_and_near_its_shares():
    rule = rule_schema.SplitRule(test_share=0.3, valid_share=0.2)
    splits = pd.Series([split_rules.hash_split(str(i), rule) for i in range(4000)])
    shares = splits.value_counts(normalize=True)
    assert abs(shares["test"] - 0.3) < 0.03 and abs(shares["valid"] - 0.2) < 0.03
    # Frozen: a change would move patients between splits of cohorts that exist.
    assert splits[:6].tolist() == ["test", "train", "test", "test", "valid", "valid"]


def test_fill_template_takes_columns_with_spaces_and_is_blank_where_one_is():
    text = pd.DataFrame({"Image Index": ["1.png", ""], "folder": ["a", "b"]})
    assert source_text.fill_template("x/{folder}/{Image Index}", text).tolist() == ["x/a/1.png", ""]


def test_describe_says_every_kind_of_rule_in_words():
    kinds = dict(
        a=dict(
            canonical="a",
            column="x",
            grades=[0, 1, 2],
            positive_grades=[1, 2],
            alternative_positive_grades=[2],
        ),
        b=dict(canonical="b", any_of=["x", "y"], contains=["Mass", "Nodule"]),
        c=dict(canonical="c", column="z", values={"1": "positive", "0": "negative"}),
    )
    described = label_rules.describe(
        manifest_schema.Manifest.model_validate(BASE | dict(findings=kinds))
    )
    assert described["positive_if"].tolist() == [
        "grade 1, 2 of 0 to 2",
        "lists Mass or Nodule",
        "is 1",
    ]
    assert described["alternative"].tolist() == ["grade 2", "-", "-"] and described[
        "source"
    ].tolist() == ["x", "x or y", "z"]
