"""The reader of tables: every cell as text, the same from CSV, Excel and Parquet."""

import bz2
import datetime
import gzip
from decimal import Decimal
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.core import errors
from helpers.data.tables import damaged_identifiers, read_excel, read_table, source_text


def written(folder: Path, content: bytes | str, name: str = "films.csv") -> Path:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


def excel(folder: Path, rows: list[list], change: object = None) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if change:
        change(book.active)
    book.save(folder / "films.xlsx")
    return folder / "films.xlsx"


def test_one_table_is_the_same_text_from_csv_excel_and_parquet(tmp_path):
    table = pd.DataFrame(
        {
            "patient": ["001", "NA", "None"],
            "site": [1, None, 2],
            "grade": [0.5, 2.0, None],
            "day": [datetime.date(2024, 1, 31), None, datetime.date(1999, 12, 1)],
            "is_portable": [True, False, True],
        }
    )
    text = {
        "patient": ["001", "NA", "None"],
        "site": ["1", "", "2"],
        "grade": ["0.5", "2", ""],
        "day": ["2024-01-31", "", "1999-12-01"],
        "is_portable": ["True", "False", "True"],
    }
    table.to_excel(tmp_path / "films.xlsx", index=False)
    table.to_parquet(tmp_path / "films.parquet", index=False)
    assert read_table.read(tmp_path / "films.xlsx").to_dict("list") == text
    assert read_table.read(tmp_path / "films.parquet").to_dict("list") == text
    table.to_csv(tmp_path / "films.csv", index=False)  # grades are 0.5 and 2.0 there
    read = read_table.read(tmp_path / "films.csv")
    assert read.drop(columns="grade").to_dict("list") == {
        k: v for k, v in text.items() if k != "grade"
    }
    assert source_text.numbers(read["grade"])[:2].tolist() == [0.5, 2]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be with mark", "utf-32"]
)
def test_byte_order_marks_are_read_and_belong_to_no_name(tmp_path, encoding):
    text = 'film,name\n1,Köln\n2,"a,b"\n'
    content = (
        b"\xfe\xff" + text.encode("utf-16-be") if "mark" in encoding else text.encode(encoding)
    )
    for name, stored in (("t.csv", content), ("t.csv.gz", gzip.compress(content, mtime=0))):
        assert read_table.read(written(tmp_path, stored, name)).to_dict("list") == {
            "film": ["1", "2"],
            "name": ["Köln", "a,b"],
        }


def test_cells_keep_what_they_are_but_for_blanks_around_them(tmp_path):
    table = read_table.read(
        written(tmp_path, " id , site,\n NA ,1.0, \nMu\u0308ller,,\nMüller,2.0,\n007,1.0,\n"),
        missing=["NA"],
    )
    assert table.to_dict("list") == {
        "id": ["", "Müller", "Müller", "007"],
        "site": ["1", "", "2", "1"],  # codes, whether or not one is missing
    }
    quoted = read_table.read(written(tmp_path, 'patient\n"=""001"""\n="002"\n'))
    assert quoted["patient"].tolist() == ["001", "002"]
    mixed = read_table.read(written(tmp_path, "version\n1.0\n1.5\n"))
    assert mixed["version"].tolist() == ["1", "1.5"]


def test_a_cell_is_spelt_the_same_whatever_is_in_other_rows(tmp_path):
    cells = {"1.0": "1", "-0.0": "0", "007.0": "007", "1.00": "1.00", "v1.0": "v1.0", "2": "2"}
    for others in ("", "X7\n", "NA\n\n", "3.5\n"):
        path = written(tmp_path, "patient\n" + "\n".join(cells) + "\n" + others)
        assert read_table.read(path)["patient"].tolist()[: len(cells)] == list(cells.values())
    marked = read_table.read(written(tmp_path, "patient,x\n\u200b12\u200b,1\n\u200e12,\n"))
    assert marked["patient"].tolist() == ["12", "12"]
    days = pd.Series([datetime.datetime(2020, 6, 14), None, datetime.datetime(2020, 6, 14, 10, 30)])
    assert source_text.as_text(days).tolist() == ["2020-06-14", "", "2020-06-14 10:30:00"]


@pytest.mark.parametrize("missing", ["-999", "-999.0", "-999.00"])
def test_a_missing_number_counts_with_and_without_its_point(tmp_path, missing):
    path = written(tmp_path, "site,id\n-999.0,1\n-999,2\n-999.00,3\n-0999,4\n-999.5,5\n")
    assert read_table.read(path, missing=[missing])["site"].tolist() == [
        *("", "", ""),
        *("-0999", "-999.5"),
    ]


def test_parquet_keeps_every_digit_and_shows_what_floats_lost(tmp_path):
    patient = 123456789012345678
    columns = {
        "exact": pa.array([patient, None]),
        "unsigned": pa.array([2**64 - 1, 1], pa.uint64()),
        "decimal": pa.array([Decimal("12345678901234567890"), None], pa.decimal128(20)),
        "float": pa.array([float(patient), None]),
        "in_floats": pa.array([1234567890123456.0, None]),
        "short": pa.array([0.1, 3], pa.float32()),
        "category": pa.array(["a", None]).dictionary_encode(),
        "list": pa.array([["effusion", "mass"], None]),
        "two": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
        "moment": pa.array([datetime.datetime(2024, 1, 31, 5), None]),
        "image": pa.array([b"\xff\xd8", None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    read = read_table.read(tmp_path / "t.parquet")
    assert read.iloc[0].to_dict() == {
        "exact": str(patient),
        "unsigned": str(2**64 - 1),
        "decimal": "12345678901234567890",
        "float": "1.234567890123457e+17",
        "in_floats": "1234567890123456",
        "short": "0.1",
        "category": "a",
        "list": "['effusion', 'mass']",
        "two": "[1, 2]",
        "moment": "2024-01-31 05:00:00",
    }
    assert read.iloc[1].replace("", None).dropna().to_dict() == {"unsigned": "1", "short": "3"}


@pytest.mark.parametrize(
    "number_format, shown",
    [
        ('"P"0000', "P0007"),
        ("\\P0000", "P0007"),
        ("000-0000", "000-0007"),
        ('0000"x"', "0007x"),
        ('"P"0', "P7"),
        ('"MRN-"00;"-"0', "MRN-07"),
        ('0" years"', "7"),
        ("#,##0", "7"),
        ("0.00", "7"),
        ('"€"0', "7"),
        ("0_ ", "7"),
    ],
)
def test_numbers_of_excel_are_identifiers_where_their_format_spells_one(number_format, shown):
    assert read_excel.cell_text(7, number_format) == shown
    if number_format == "000-0000":
        assert read_excel.cell_text(123456789.0, number_format) == "12345-6789"


def test_long_integers_of_excel_show_that_digits_are_lost(tmp_path):
    path = excel(tmp_path, [["id"], [1676800000000012], [123456789012345]])
    read = read_table.read(path)["id"]
    assert read.tolist() == ["1.67680000000001e+15", "123456789012345"]
    with pytest.raises(errors.InputError, match="identifiers as text"):
        damaged_identifiers.refuse(read, "t")


def test_an_error_cell_counts_only_in_a_column_that_is_read(tmp_path):
    path = excel(tmp_path, [["film", "score", None], ["a", "#DIV/0!", "#REF!"]])
    assert read_table.read(path, wanted=["film"])["film"].tolist() == ["a"]
    for wanted in (["score"], None):
        with pytest.raises(errors.InputError, match="no error cells .* got 'B2 #DIV/0!'. "):
            read_table.read(path, wanted=wanted)


def test_a_table_in_two_sheets_and_a_chart_sheet_are_refused(tmp_path):
    book = openpyxl.Workbook()
    for sheet in (book.active, book.create_sheet("More")):
        sheet.append(["film", "label"])
        sheet.append(["a", 1])
    book.save(tmp_path / "films.xlsx")
    with pytest.raises(errors.InputError, match="one table in .*'Sheet' also in 'More'"):
        read_table.read(tmp_path / "films.xlsx")
    book["More"].sheet_state = "hidden"
    book.save(tmp_path / "films.xlsx")
    assert len(read_table.read(tmp_path / "films.xlsx")) == 1
    book.create_chartsheet("Chart", 0)
    book.save(tmp_path / "films.xlsx")
    with pytest.raises(errors.InputError, match="tables only in .*a chart sheet"):
        read_table.read(tmp_path / "films.xlsx")


def test_excel_shows_what_its_user_sees(tmp_path):
    def as_five_digits(sheet):
        sheet["A2"].number_format = "00000"

    path = excel(
        tmp_path,
        [["id", "n", None], [7, 3.0, None], [None, None, None], ["x", 2.5, None]],
        as_five_digits,
    )
    assert read_excel.cell_text(1.6768e15) == "1.6768e+15"  # Excel keeps 15 digits
    assert read_table.read(path).to_dict("list") == {
        "id": ["00007", "x"],
        "n": ["3", "2.5"],
    }


@pytest.mark.parametrize(
    "rows, change, words",
    [
        ([["p", "q"], [1, 2], [None, 3]], lambda s: s.merge_cells("A2:A3"), "merged cells 'A2:A3'"),
        (
            [["p", "q"], [1, "=2+3"]],
            None,
            "stored values in .*films.xlsx; got none in 'B2'",
        ),
        ([["p", "q"], [1, "#N/A"], [1, "#REF!"]], None, "'B2 #N/A', 'B3 #REF!'"),
        ([["p", "p "], [1, 2]], None, "'p' more than once"),
        ([], None, "names of columns in the first row"),
    ],
)
def test_excel_without_a_value_of_its_own_is_refused_by_cell(tmp_path, rows, change, words):
    with pytest.raises(errors.InputError, match=words):
        read_table.read(excel(tmp_path, rows, change))


def test_the_sheet_that_holds_the_table_is_named(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "Read me"
    book.create_sheet("Films").append(["film"])
    book.save(tmp_path / "films.xlsx")
    with pytest.raises(errors.InputError, match="0 rows in 'Read me'; the sheets are .*'Films'"):
        read_table.read(tmp_path / "films.xlsx")
    book["Read me"].sheet_state = "hidden"  # its user sees Films first
    book["Films"].append([1])
    book.active = 1
    book.save(tmp_path / "films.xlsx")
    assert read_table.read(tmp_path / "films.xlsx")["film"].tolist() == ["1"]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("t.csv", "a;b\n1;2,5\n", r"separated by ','; got 'a;b' as its first line.*separator: ';'"),
        ("t.txt", "a\tb\n1\t2\n", r"separator: '\\t'"),
        ("t.csv", "sep=;\na;b\n", "'sep=;' as its first line. Remove that line, .*: ';'"),
        ("t.csv", "sep=,\na,b\n", "'sep=,' as its first line. Remove that line\\.$"),
        ("t.csv", "a,b\n1,2,3\n", "2 cells in every row .*; got 3 in line 2"),
        ("t.csv", "# export\na,b\n1,2\n", "'# export'; got 2 in line 2, .*remove titles"),
        ("t.csv", 'a,b\n1,"x\ny"\n12', "2 cells in every row .*; got 1 in line 4, '12'. .*cut"),
        ("t.csv", 'a,b\n1,"left\n2,"5 cm"\n3,x\n', "quotes around whole cells .* in line 3"),
        ("t.csv", 'a,b\n1,"left\n2,x\n', "quotes around whole cells .*end of data"),
        (
            "t.csv",
            'a,b\n1.png,"left\n2.png,5 cm"\n',
            "from line 2 on, with the row '2.png', '5 cm'",
        ),
        ("t.csv.bz2", bz2.compress(b"a,b\n1,2\n"), "compressed by bzip2 by its content. Unpack"),
        ("t.csv", "a,b,a\n1,2,3\n", "each column name once.*'a' more than once"),
        ("t.csv", "a,b\nKöln,1\n".encode("cp1252"), "to be a table in utf-8"),
        ("t.csv", "a,b\n1,1\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("t.csv", b"PK\x03\x04", "a zip or Excel file by its content"),
        ("t.csv", "", "No columns"),
        ("t.csv", "a,b\n", "at least one row below the names of columns in .*t.csv"),
        ("t.csv.gz", gzip.compress(bytes(9999), mtime=0)[:20], "t.csv.gz to be a table"),
        ("t.xls", "", "CSV, .xlsx or Parquet"),
        ("t.xlsx", "a,b", "t.xlsx to be a table of Excel"),
        ("t.parquet", "a,b", "a whole Parquet file"),
    ],
)
def test_what_is_no_such_table_is_refused_by_name(tmp_path, name, content, words):
    with pytest.raises(errors.InputError, match=words):
        read_table.read(written(tmp_path, content, name))
    with pytest.raises(errors.InputError, match="a file at .*absent.csv"):
        read_table.read(tmp_path / "absent.csv")


def test_rows_of_a_csv_file_are_counted_by_their_named_cells(tmp_path):
    content = 'a,b,\n1,"x\ny"\n\n  \n2,"5"" tube",\n3,,\n'
    assert read_table.read(written(tmp_path, content)).to_dict("list") == {
        "a": ["1", "2", "3"],
        "b": ["x\ny", '5" tube', ""],
    }
    report = written(tmp_path, 'a,b\n1.png,"Heart normal\nNo mass, no rib"\n')
    assert read_table.read(report)["b"].tolist() == ["Heart normal\nNo mass, no rib"]
    written(tmp_path, 'b,a\n"Heart normal\nNo mass, no rib",1\n')
    assert read_table.read(report)["a"].tolist() == ["1"]
    packed = written(tmp_path, gzip.compress(b"1\n"), "train.txt")
    with pytest.raises(errors.InputError, match="train.txt to be a text file.*gzip. Unpack it"):
        read_table.read_lines(packed, "train.txt")


def rounded(digits: int) -> list[str]:
    numbers = np.random.default_rng(0).integers(10 ** (digits - 1), 10**digits, 40)
    return [str(int(float(number))) for number in numbers]


@pytest.mark.parametrize(
    "values",
    [
        ["1.6768E+15", "p2"],
        ["1,6768E+15"],
        ["1.6768e+15", ""],
        ["1.6768E+15.png"],
        ["1676800000000000.0"],
        ["1.676800E15"],
        ["1,670e15"],
        ["1234567890123450", "1234567890123460"],  # 15 digits and a zero: Excel
        ["123456789012345000"],
        rounded(18),
        rounded(17),
        [str(int(float(9007199254740993 + 3 * k))) for k in range(20)],  # to even ones
        ["#N/A", "a"],
    ],
    ids=str,
)
def test_identifiers_that_were_numbers_are_refused(values):
    with pytest.raises(errors.InputError, match="identifiers as text in column 'patient' of t.csv"):
        damaged_identifiers.refuse(pd.Series(values, name="patient"), "t.csv")


@pytest.mark.parametrize("other", ["'00012", "\uff10\uff10012"])
def test_two_spellings_of_one_identifier_are_refused(other):
    column = pd.Series(["00012", "7", other, "Müller"], name="patient")
    with pytest.raises(errors.InputError, match="one spelling of .*got '00012', .*00*12'|012"):
        damaged_identifiers.refuse(column, "t.csv")
    damaged_identifiers.refuse(column[1:], "t.csv")  # one of them alone is an identifier


def test_identifiers_that_only_look_like_numbers_are_accepted():
    numbers = np.random.default_rng(0).integers(10**17, 10**18, 40)
    for values in (
        ["12e45", "1e5", "1E5"],  # hexadecimal
        ["1.2.840.113619.2.55", "100"],
        ["1234567890123450", "1234567890123451"],
        list(map(str, numbers)),
        [],
    ):
        damaged_identifiers.refuse(pd.Series(values, name="patient", dtype=str), "t.csv")


@pytest.mark.parametrize(
    "value, other, cause",
    [
        ("5", "005", "leading zeros"),
        ("case_7", "case_007", "leading zeros"),
        ("a.png", "A.PNG", "letter case"),
        ("a", "a.nii.gz", "the file ending"),
        ("images/a.png", "a.png", "folders in front"),
        ("a b", "ab", "blanks"),
        ("a_b", "a-b", "hyphens"),
        ("patient00012", "12", "letters and zeros"),
        ("a", "b", ""),
    ],
)
def test_likely_cause_names_what_would_make_identifiers_equal(value, other, cause):
    for pair in ((value, other), (other, value)):
        said = source_text.likely_cause(*(pd.Series([text]) for text in pair))
        assert said.startswith(f" 1 would match but for {cause}") if cause else said == ""
