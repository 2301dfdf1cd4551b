"""Rows, extraction, blank cells.

What several rows of an image become, worked by hand, and the refusal where no rule says it.
"""

import time

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from helpers.core import errors
from helpers.data import manifest_schema
from helpers.data.tables import image_rows, row_rules, source_tables

VALUES = {"1": "positive", "0": "negative"}
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
    findings=dict(effusion=dict(canonical="effusion", column="effusion", values=VALUES)),
)
# three readers a film; of film c one does not say, of film d they do not agree
READ = pd.DataFrame(
    {
        "file": list("aaabbbcccdd"),
        "patient": list("11111122233"),
        "effusion": ["1", "1", "0", "0", "1", "0", "1", "1", "", "1", "0"],
        "rad_id": ["R1", "R2", "R3", "R1", "R2", "R3", "R1", "R2", "R3", "R1", "R2"],
        "sex": "F",
    }
)
LISTED = pd.DataFrame(
    {
        "file": list("aabcd"),
        "patient": list("11223"),
        "finding": ["Effusion", "Mass", "No Finding", "Effusion", "Mass"],
        "share": ["0.7", "0.2", "", "0.1", "0.4"],
    }
)
LONG = dict(values={"1": "positive"}, blank_means="negative", canonical="effusion")


def manifest_of(**changes: object) -> manifest_schema.Manifest:
    return manifest_schema.Manifest.model_validate(BASE | changes)


def apply(table: pd.DataFrame, **changes: object) -> source_tables.Source:
    manifest = manifest_of(**changes)
    text = row_rules.as_text(manifest, table, "films.csv")
    return source_tables.apply_rules(manifest, table, pd.DataFrame({"file": text["file"]}))


@pytest.mark.parametrize(
    "how, labels",
    [
        # a: 1 1 0; b: 0 1 0; c: 1 1 unknown; d: 1 0
        ("majority", [1, 0, 1, np.nan]),
        ("any", [1, 1, 1, 1]),
        ("all", [0, 0, np.nan, 0]),
    ],
)
def test_labels_of_readers_are_combined_as_the_manifest_says(how, labels):
    table = pd.concat([READ, pd.DataFrame([["e", "9", "0", "R1", "F"]], columns=READ.columns)])
    table = pd.concat([table, pd.DataFrame([["f", "9", "1", "R1", "F"]], columns=READ.columns)])
    source = apply(table.reset_index(drop=True), rows=dict(readers=how))
    assert source.rows["image_id"].tolist() == list("abcdef")
    np.testing.assert_array_equal(source.rows["effusion"], [*labels, 0, 1])
    assert source.rows["row"].tolist() == [0, 3, 6, 9, 11, 12]
    assert source.excluded["reason"].tolist() == [row_rules.COMBINED] * 7
    assert f"13 rows are of 6 images: labels combined by `rows`, {how}." in source.notes


def test_combined_labels_agree_with_a_loop_over_images():
    rng = np.random.default_rng(4)
    images = image_rows.numbered(pd.Series(rng.integers(0, 30, 200)))
    labels = pd.DataFrame({"x": rng.choice([0, 1, np.nan], 200, p=[0.4, 0.4, 0.2])})
    for how in ("majority", "any", "all"):
        combined = row_rules.combined_labels(labels, images, how)["x"]
        for image, value in enumerate(combined):
            of_image = labels["x"][images.number == image].tolist()
            ones, zeros = of_image.count(1), of_image.count(0)
            has_unknown = ones + zeros < len(of_image)
            expected = {
                "majority": 1 if ones > zeros else 0 if zeros > ones else np.nan,
                "any": 1 if ones else np.nan if has_unknown else 0,
                "all": 0 if zeros else np.nan if has_unknown else 1,
            }[how]
            np.testing.assert_equal(value, expected)


def test_several_rows_without_a_rule_are_refused_with_the_rule_that_fits():
    with pytest.raises(
        errors.InputError,
        match=r"11 rows of 4 images; rows of 4 images differ in 'effusion', e.g. 'a' has 3 rows"
        r" with '1', '0' in 'effusion'.*readers: majority",
    ):
        apply(READ)
    rule = dict(canonical="effusion", column="finding", contains=["Effusion"])
    with pytest.raises(errors.InputError, match=r"readers: any.*long: \{finding: finding\}"):
        apply(LISTED, findings=dict(effusion=rule))


def test_rows_that_say_the_same_are_one_image_and_counted():
    """Boxes of a film, as in RSNA's table: everything that is used is equal."""
    boxes = READ[READ["file"].isin(["a", "b"])].assign(effusion=list("111000"), x=range(6))
    source = apply(boxes)
    assert source.rows[["image_id", "effusion"]].values.tolist() == [["a", 1.0], ["b", 0.0]]
    assert source.excluded["reason"].tolist() == [row_rules.REPEATED] * 4
    assert source.notes == [
        "6 rows are of 2 images: one row of each is kept, since the others say the same."
    ]


@pytest.mark.parametrize("rows", [None, dict(readers="any")])
def test_rows_of_an_image_must_agree_in_all_but_labels(rows):
    sex = dict(column="sex", values={"F": "female", "M": "male"})
    table = READ.assign(sex=["M", *"FFFFFFFFFF"])
    with pytest.raises(errors.InputError, match="differ in 'sex'.*'M', 'F' in 'sex'.*not 'sex'"):
        apply(table, rows=rows, sex=sex)
    with pytest.raises(errors.InputError, match="differ in 'patient'"):
        apply(READ.assign(patient=[*"12111122233"]), rows=rows)


def test_a_reader_is_chosen_by_keep():
    source = apply(READ, keep=dict(rad_id=["R2"]))
    assert source.rows["effusion"].tolist() == [1, 1, 1, 0]
    assert set(source.excluded["reason"]) == {"rad_id is not R2"}


def test_a_row_a_finding_is_pivoted_and_an_image_without_one_keeps_its_row():
    findings = dict(
        effusion=LONG | dict(column="Effusion"), mass=LONG | dict(column="Mass", canonical="mass")
    )
    source = apply(LISTED, rows=dict(long=dict(finding="finding")), findings=findings)
    assert source.rows["image_id"].tolist() == list("abcd")
    assert source.rows["effusion"].tolist() == [1, 0, 1, 0]
    assert source.rows["mass"].tolist() == [1, 0, 0, 1]
    both = dict(any=LONG | dict(any_of=["Effusion", "Mass"]))
    source = apply(LISTED, rows=dict(long=dict(finding="finding")), findings=both)
    assert source.rows["any"].tolist() == [1, 0, 1, 1]


def test_the_values_of_a_long_table_are_read_and_two_of_one_image_refused():
    rule = dict(canonical="mass", column="Mass", values={"0.2": "negative", "0.4": "positive"})
    long = dict(rows=dict(long=dict(finding="finding", value="share")), findings=dict(mass=rule))
    assert apply(LISTED, **long).rows["mass"].tolist()[0] == 0
    twice = pd.concat([LISTED, LISTED.iloc[1:2].assign(share="0.4")], ignore_index=True)
    with pytest.raises(errors.InputError, match="one value of 'Mass'.*'0.2', '0.4' for 'a'"):
        apply(twice, **long)


@pytest.mark.parametrize(
    "column, words",
    [
        ("Effusions", r"rows with 'Effusions'.*holds 'Effusion' \(2\).*Did you mean 'Effusion'"),
        ("finding", "With `rows.long` a finding's `column` is a name in that column, e.g."),
    ],
)
def test_a_finding_that_no_row_of_a_long_table_lists_is_refused(column, words):
    findings = dict(effusion=LONG | dict(column=column))
    with pytest.raises(errors.InputError, match=words):
        apply(LISTED, rows=dict(long=dict(finding="finding")), findings=findings)


def test_one_file_is_one_image_and_one_image_id_one_file():
    table = READ.assign(effusion=list("11100011100"))
    with pytest.raises(
        errors.InputError, match="one image_id a file.*4 with several, e.g. 'a' with 'a-R1', 'a-R2'"
    ):
        apply(table, image_id="{file}-{rad_id}")
    two = pd.DataFrame({"file": ["x/1", "y/1", "x/2"], "name": list("112"), "patient": list("112")})
    two["effusion"] = list("110")
    with pytest.raises(
        errors.InputError, match="one image file an image_id.*'1' with 'x/1', 'y/1'"
    ):
        apply(two, image_id="{name}")


def test_one_file_spelt_in_two_ways_is_one_file():
    table = pd.DataFrame({"file": ["a", "./a", "x//b"], "patient": list("112")})
    with pytest.raises(errors.InputError, match=r"one image_id a file.*'a' with 'a', './a'"):
        apply(table.assign(effusion=list("100")))


def test_a_shard_may_store_an_image_once_a_reader_where_the_rule_says_so():
    layout = dict(kind="parquet_images", shards=["data/*.parquet"], image_column="image")
    shard = dict(file="data/0.parquet", row_group=0, row_in_group=range(len(READ)))
    manifests = [manifest_of(layout=layout, rows=rows) for rows in (dict(readers="all"), None)]
    locations = READ[[]].assign(**shard)
    source = source_tables.apply_rules(
        manifests[0], READ.assign(effusion=list("11100011100")), locations
    )
    assert source.rows["effusion"].tolist() == [1, 0, 1, 0]
    assert source.rows["row_in_group"].tolist() == [0, 3, 6, 9]
    with pytest.raises(errors.InputError, match="one image file an image_id"):
        source_tables.apply_rules(manifests[1], READ, locations)


def test_rows_of_one_image_id_in_shards_hold_one_picture(tmp_path):
    names = list("aabbcc")
    pictures = [name.encode() for name in names]
    layout = dict(kind="parquet_images", shards=["*.parquet"], image_column="image")
    manifest = manifest_of(layout=layout, rows=dict(readers="any"))
    table = pd.DataFrame(dict(file=names, patient=list("111122"), effusion=list("110010")))
    locations = pd.DataFrame(dict(file=["0.parquet"] * 4 + ["1.parquet"] * 2, row_group=0))
    locations["row_in_group"] = [0, 1, 2, 3, 0, 1]

    def write_and_apply():
        for file, rows in locations.groupby("file"):
            shard = pd.DataFrame({"image": [pictures[k] for k in rows.index]})
            shard.to_parquet(tmp_path / file)
        return source_tables.apply_rules(manifest, table, locations, tmp_path)

    assert write_and_apply().rows["effusion"].tolist() == [1, 0, 1]
    pictures[3] = b"another"
    with pytest.raises(errors.InputError, match="1 of 3 repeated image ids with.*e.g. 'b'"):
        write_and_apply()


def test_one_study_of_two_patients_names_files_not_all_slices():
    table = pd.DataFrame(dict(file=["u", "u", "v"], patient=list("123"), effusion=list("101")))
    slices = ["\n".join(f"{k}/{n}.dcm" for n in range(99)) for k in range(3)]
    locations = pd.DataFrame({"file": [f"{k}/0.dcm" for k in range(3)]}).assign(slices=slices)
    with pytest.raises(errors.InputError, match="two PatientIDs") as refusal:
        source_tables.apply_rules(manifest_of(), table, locations)
    assert "e.g. 'u' with '0/0.dcm', '1/0.dcm'." in str(refusal.value)


def test_a_film_of_two_patients_makes_them_one_where_that_is_rare():
    table = pd.DataFrame({"file": [f"f{k:03d}" for k in range(200)]}).assign(
        patient=[f"p{k // 2}" for k in range(200)], effusion=list("10") * 100
    )
    table = pd.concat([table, table.iloc[:1].assign(patient="other")], ignore_index=True)
    rows = apply(table).rows
    assert rows.loc[rows["image_id"] == "f000", "patient_id"].tolist() == ["p0", "other"]


@pytest.mark.parametrize(
    "pattern, patients",
    [
        (r"P0(\d)", None),  # P012 and P013 would be one patient
        (r"(\d)_", None),
        (r"P(\d{2})", None),
        (r"P(\d+)", ["012", "012", "013"]),
        (r"P(\d{2})\d*", ["01", "01", "01"]),  # a part that is meant
        (r"(P\d+)_", ["P012", "P012", "P013"]),
    ],
)
def test_extract_takes_no_half_numbers(pattern, patients):
    table = pd.DataFrame({"file": ["P012_1", "P012_2", "P013_1"], "effusion": list("101")})
    rule = dict(extract=dict(who=dict(column="file", pattern=pattern)), patient_id="who")
    if patients:
        assert apply(table, **rule).rows["patient_id"].tolist() == patients
    else:
        with pytest.raises(errors.InputError, match="whole numbers.*out of 'P012_1'.*in 3 rows"):
            apply(table, **rule)


def test_an_identifier_of_an_extracted_column_is_not_cut_either():
    table = pd.DataFrame({"file": ["P012_1", "P012_2", "P013_1"], "effusion": list("101")})
    first = dict(column="file", pattern=r"(P\d{2})")
    extract = dict(code=first, who=dict(column="code", pattern=r"(\d+)"))
    with pytest.raises(errors.InputError, match="`extract.code.pattern` to take whole numbers"):
        apply(table, extract=extract, patient_id="who")
    source = apply(
        table.assign(patient=list("112")),
        extract=dict(shelf=first),
        further_columns=dict(shelf="shelf"),
    )
    assert source.rows["shelf"].tolist() == ["P01"] * 3  # no identifier


def test_numbers_that_mean_blank_are_compared_as_numbers():
    table = pd.DataFrame({"file": list("abcd"), "patient": list("1123")})
    table["effusion"] = ["1", "-999", "-999.0", "0"]
    for missing in (["-999"], ["-999.0"]):
        np.testing.assert_array_equal(
            apply(table, missing=missing).rows["effusion"], [1, np.nan, np.nan, 0]
        )


def test_extract_takes_the_patient_out_of_a_path():
    """CheXpert's train.csv: the patient stands in `Path` alone."""
    paths = [f"train/patient{n:05d}/study{s}/view1.jpg" for n in (7, 12, 30) for s in (1, 2)]
    table = pd.DataFrame({"file": paths, "effusion": list("100110")})
    extract = {
        "patient": dict(column="file", pattern=r"(patient\d+)/"),
        "study": dict(column="file", pattern=r"study(\d+)"),
    }
    source = apply(table, extract=extract, image_id="{patient}-{study}")
    names = ["patient00007", "patient00012", "patient00030"]
    assert source.rows["patient_id"].tolist() == [name for name in names for _ in (1, 2)]
    assert source.rows["image_id"].tolist()[:2] == ["patient00007-1", "patient00007-2"]
    assert manifest_of(extract=extract).source_columns == ["file", "effusion"]


def test_extract_refuses_cells_without_the_pattern_and_names_that_are_taken():
    table = pd.DataFrame({"file": ["p1/a", "x", "y", "", "z", "w"], "effusion": list("101010")})
    rule = dict(column="file", pattern=r"(p\d+)/")
    with pytest.raises(errors.InputError, match=r"is found; got 'x', 'y', 'z' \(\+1 more\)"):
        apply(table, extract=dict(patient=rule))
    with pytest.raises(errors.InputError, match="new names of columns.*got 'patient'"):
        apply(table.assign(patient="1"), extract=dict(patient=rule))
    with pytest.raises(ValidationError, match="exactly one group"):
        manifest_of(extract=dict(patient=dict(column="file", pattern="p")))
    with pytest.raises(ValidationError, match="`extract` takes a patient out of a path"):
        manifest_of(patient_id="{patient}/study")


def test_missing_cells_are_blank_in_every_column_and_only_where_they_are_listed():
    table = pd.DataFrame(
        {
            "file": list("abcd"),
            "patient": ["1", "NA", "2", "3"],
            "effusion": ["1", "0", " NA ", "0"],
        }
    )
    with pytest.raises(errors.InputError, match="to hold 1 or 0; got 'NA' in 1 rows"):
        apply(table)
    source = apply(table, missing=["NA"])
    np.testing.assert_array_equal(source.rows["effusion"], [1, np.nan, 0])
    assert source.excluded[["image_id", "reason"]].values.tolist() == [["b", "no patient_id"]]


def test_a_column_that_the_layout_adds_need_not_be_in_a_file():
    manifest = manifest_of(keep=dict(table_file=["films.csv"]))
    assert "table_file" in manifest.read_columns and "table_file" not in manifest.source_columns


def test_three_readers_of_a_hundred_thousand_films_take_a_second_or_two():
    n = 300_000
    images = image_rows.numbered(pd.Series(np.arange(n) // 3).astype(str))
    labels = pd.DataFrame({f"f{k}": np.arange(n) % (k + 2) % 2.0 for k in range(8)})
    start = time.perf_counter()
    row_rules.combined_labels(labels, images, "majority")
    assert time.perf_counter() - start < 5
