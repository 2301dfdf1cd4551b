"""What the columns of a table probably mean, from their names and values.

In: a table with every cell as text, "" where blank. Out: guesses: a field of a manifest, its value,
why. Only names of columns and the few values of categories occur in them, no identifier. Raises
nothing.
"""

import re
import unicodedata
from typing import NamedTuple

import pandas as pd

from helpers.data.manifest_schema import COHORT_COLUMNS, RESERVED_COLUMNS

IMAGE_SUFFIX = r"\.(?:png|jpe?g|jp2|tiff?|bmp|gif|dcm|dicom|nii|nii\.gz)$"
MOST_ENTRIES = 40  # different findings that cells list
_MISSING = {"na", "n/a", "nan", "null", "none", "-", "?"}
_NAMES = {
    "file": "file filename filepath path image imageid imageindex imagefile imagename imagepath"
    " dicomid imagefilename img uid id",
    "patient": "patientid patient subjectid subject patid patientnumber personid pseudonym"
    " patientpseudonym mrn pid patientennummer patientennr patientnr patnr participantid",
    "sex": "sex gender patientsex patientgender patientsexdicom sexatbirth geschlecht",
    "age": "age patientage ageyears ageatstudy ageatexam ageindays alter ageinyears agemonths"
    " ageinmonths agemonth agemo ageweeks ageinweeks agedays patientagemonths patientagedays"
    " ageatstudymonths ageatstudydays ageatstudyyears alterjahre alterinjahren altermonate"
    " alterinmonaten altertage alterintagen",
    "birth": "patientbirth birthdate patientbirthdate dateofbirth dob birthyear geburtsdatum",
    "study": "studydate studydatedicom examdate acquisitiondate scandate date untersuchungsdatum"
    " studiendatum aufnahmedatum datum",
    "split": "split subset set partition dataset",
}
_SEX = {
    "female": "f female w weiblich frau woman",
    "male": "m male maennlich männlich mann man",
    "unknown": "o other u unk unknown d divers x",
}
_SPLIT = {
    "train": "train training trn",
    "valid": "valid validation val dev validate",
    "test": "test testing tst",
}


_DATES = {
    r"\d{4}-\d\d?-\d\d?": "%Y-%m-%d",
    r"\d{8}": "%Y%m%d",
    r"\d{4}/\d\d?/\d\d?": "%Y/%m/%d",
    r"\d\d?\.\d\d?\.\d{4}": "%d.%m.%Y",
    r"\d\d?-\d\d?-\d{4}": "%d-%m-%Y",
    r"\d{4}": "%Y",
}


class Guess(NamedTuple):
    """A field of a manifest: its value, why, and the column it is about."""

    field: str
    value: object
    why: str
    column: str = ""


def plain(name: str) -> str:
    """Return a column's name in small letters and digits only."""
    return re.sub(r"[\W_]", "", name.casefold())


def slug(name: str, taken: list[str]) -> str:
    """Return a name as a manifest wants it, other than those taken."""
    plain_letters = (
        unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
    )
    text = re.sub(r"[^a-z0-9]+", "_", plain_letters).strip("_") or "data"
    if text in (*COHORT_COLUMNS, *RESERVED_COLUMNS, *taken) or text[0].isdigit():
        text = f"source_{text}"
    number = 2
    while text in taken:
        text, number = f"{re.sub(r'_[0-9]+$', '', text)}_{number}", number + 1
    return text


def named(table: pd.DataFrame, kind: str) -> str | None:
    """Return the column whose name says that it is of a kind, the usual name first."""
    columns = {plain(column): column for column in reversed(table.columns)}
    names = _NAMES[kind].split()
    exact = [columns[name] for name in names if name in columns]
    ending = [  # OUR_patient_id
        column
        for name in names
        for text, column in columns.items()
        if len(name) > 8 and text.endswith(name)
    ]
    return next(iter([*exact, *ending]), None)


def file_column(table: pd.DataFrame) -> str | None:
    """Return the column that names the image of each row."""
    filled = table.loc[:, (table != "").any()]
    with_suffix = [
        column
        for column in filled
        if filled.loc[filled[column] != "", column].str.contains(IMAGE_SUFFIX, case=False).mean()
        > 0.9
    ]
    return max(with_suffix, key=lambda column: table[column].nunique(), default=None) or named(
        table, "file"
    )


def patient(table: pd.DataFrame, file: str | None) -> list[Guess]:
    """Guess the patient: a column, or a part of the path."""
    if column := named(table, "patient"):
        why = "by its name"
        if len(table) > 1 and table[column].nunique() == len(table):
            why += "; it differs on every row: does it name patients, not images?"
        return [Guess("patient_id", column, why, column)]
    if file:
        for pattern in (r"(patient[-_]?\d+)", r"((?:sub|subject|pat)[-_]?\d+)"):
            if all(re.search(pattern, cell) for cell in table[file]):
                rule = {"patient": {"column": file, "pattern": pattern}}
                why = f"a part of {file} that looks like a patient"
                return [Guess("extract", rule, why), Guess("patient_id", "patient", "see extract")]
    return []


def sex(table: pd.DataFrame) -> list[Guess]:
    """Guess the sex as recorded; codes such as 0 and 1 say nothing by themselves."""
    column = named(table, "sex")
    if not column:
        return []
    means = meanings(table[column], _SEX)
    if means is None:
        return []
    return [Guess("sex", {"column": column, "values": means}, "by name and values", column)]


def sex_to_answer(cells: pd.Series) -> dict[str, str]:
    """Return the few values of a column of sex, each with a meaning that is to be corrected."""
    values = sorted(cells[cells != ""].unique())
    kinds = ["male", "female"]  # 1 and 2 of ISO 5218, 0 and 1 mostly
    if len(values) > 10:
        return {}
    return {value: (kinds[k] if k < 2 else "unknown") for k, value in enumerate(values)}


def split(table: pd.DataFrame) -> list[Guess]:
    """Guess the given split."""
    column = named(table, "split")
    means = meanings(table[column], _SPLIT) if column else None
    if not means or "train" not in means.values():
        return []
    return [Guess("split", {"column": column, "values": means}, "by name and values", column)]


def age(table: pd.DataFrame) -> list[Guess]:
    """Guess the age: a number, one with a unit, ">89"; or two dates."""
    if column := named(table, "age"):
        cells = table.loc[table[column] != "", column]
        rule = {"column": column}
        plain_cells = cells.str.replace(r"^(\d+)[YyMmWwDd]$", r"\1", regex=True)
        numbers = pd.to_numeric(plain_cells.str.replace(",", "."), "coerce")
        others = cells[numbers.isna()].unique()[:MOST_ENTRIES]
        why = "by its name"
        units = {r"mo(nth|nat)?(s|e|en)?$": "months", r"week": "weeks", r"day|^alter.*tage": "days"}
        named_unit = [unit for form, unit in units.items() if re.search(form, plain(column))]
        if named_unit:
            rule["unit"], why = named_unit[0], "unit and column by its name"
        elif numbers.median() > 150:
            rule["unit"], why = "days", f"by its name; median {numbers.median():g}: days?"
        limits = {
            cell: int(re.sub(r"\D", "", cell)) + bool(re.match(r">\s*\d", cell))
            for cell in others
            if re.fullmatch(r">=?\s*\d+|\d+\s*\+", cell)
        }
        if limits:
            rule["at_least"] = limits
        words = [cell for cell in others if cell.casefold() in _MISSING | {"unknown"}]
        codes = [code for code in ("999", "-1", "-999") if (cells == code).any()]
        if words or codes:
            rule["missing"] = [*words, *codes]
        return [Guess("age", rule, why, column)]
    birth, study = named(table, "birth"), named(table, "study")
    if not (birth and study):
        return []
    rule = {"birth_date": birth, "study_date": study}
    forms = date_forms(pd.concat([table[birth], table[study]]))
    if set(forms) - {"%Y-%m-%d", "%Y%m%d"}:
        rule["date_formats"] = forms
    return [Guess("age", rule, "from two dates; `date_formats` must fit", study)]


def date_forms(cells: pd.Series) -> list[str]:
    """Return the forms of dates that occur; 03/04/1950 alone counts as 3 April."""
    dates = pd.Series(cells[cells != ""].unique(), dtype=str).str.extract(r"^([^ T]*)")[0]
    forms = [form for regex, form in _DATES.items() if dates.str.fullmatch(regex).any()]
    slashed = dates.str.extract(r"^(\d\d?)/(\d\d?)/\d{4}$").dropna().astype(int)
    if len(slashed):
        is_month_first = slashed[1].max() > 12 >= slashed[0].max()
        forms.append("%m/%d/%Y" if is_month_first else "%d/%m/%Y")
    return forms


def keep(table: pd.DataFrame) -> list[Guess]:
    """Guess that lateral films stay out, where a column tells them apart."""
    return [
        Guess(column, ["Frontal"], "lateral films are another task", column)
        for column in table
        if {"Frontal", "Lateral"} <= set(table[column].unique()[:5])
    ]


def further(table: pd.DataFrame) -> list[Guess]:
    """Guess which columns that no other rule reads can make groups: two to ten different texts."""
    return [
        Guess(column, column, "", column)
        for column in table
        for cells in [table.loc[table[column] != "", column]]
        if 2 <= cells.nunique() <= 10
        and cells.nunique() < len(cells) / 2
        and pd.to_numeric(cells, "coerce").isna().all()
        and not cells.str.match(r"\d{4}-\d\d-\d\d|\d\d?[./]\d\d?[./]\d+").any()
    ]


def missing_words(table: pd.DataFrame, columns: list[str]) -> list[str]:
    """Return the cells such as "NA" that stand for blank in columns of numbers or categories."""
    cells = pd.concat([table[column] for column in columns]) if columns else pd.Series(dtype=str)
    return sorted(cell for cell in cells.unique() if cell.casefold() in _MISSING)


def meanings(cells: pd.Series, words: dict[str, str]) -> dict[str, str] | None:
    """Return what each different cell means, None where one is not known; blank is left out."""
    means = {word: meaning for meaning, text in words.items() for word in text.split()}
    distinct = [cell for cell in cells.unique() if cell and cell.casefold() not in _MISSING]
    if not distinct or len(distinct) > 10:
        return None
    keys = {cell: re.sub(r"^(-?\d+)\.0+$", r"\1", cell.casefold()) for cell in distinct}
    if not all(key in means for key in keys.values()):
        return None
    values = {keys[cell] if keys[cell].lstrip("-").isdigit() else cell for cell in distinct}
    return {value: means[value.casefold()] for value in sorted(values)}
