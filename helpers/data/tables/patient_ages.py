"""How old a patient is at the study, by a manifest's `age`: as recorded, or from dates.

In: the rule and its source columns as text. Out: years, NaN where unknown; notes. Raises
`InputError` for cells that no rule reads; the message names the rule that would. Ages that are
impossible become unknown, and are counted; where most are, the unit is wrong, and they are refused.
"""

import re

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.rule_schema import Age
from helpers.data.tables import age_advice, source_text

MIN_ROWS_TO_JUDGE = 20  # with fewer, most ages may be impossible by chance
_PER_YEAR = {"years": 1, "months": 12, "weeks": 365.25 / 7, "days": 365.25}
_DICOM = {"y": "years", "m": "months", "w": "weeks", "d": "days"}
_TIME = r"[ T]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s*[AaPp][Mm])?(Z|[+-]\d{2}:?\d{2})?$"


def ages(rule: Age, text: pd.DataFrame, where: str) -> tuple[pd.Series, list[str]]:
    """Return the age in years of each row, NaN where unknown, and notes.

    Args:
        rule: the manifest's `age`.
        text: its source columns.
        where: name of the table, for messages.

    Raises:
        InputError: a cell that no rule reads.
    """
    if rule.column:
        source, years = text[rule.column], _recorded(rule, text[rule.column], where)
    elif rule.birth_date:
        source, years = text[rule.birth_date], _since_birth(rule, text, where)
    else:
        source, years = text[rule.anchor_age], _since_anchor(rule, text, where)
    is_impossible = (years < 0) | (years > rule.max_years)
    _refuse_another_unit(rule, source, years, is_impossible, where)
    notes = []
    if is_impossible.any():
        notes.append(
            f"{int(is_impossible.sum())} rows with an impossible age (below 0 or above"
            f" {rule.max_years:g} years) count as age unknown; column {source.name!r} has there"
            f" {source_text.commonest(source[is_impossible], 3)}."
        )
    return years.mask(is_impossible), notes


def _refuse_another_unit(
    rule: Age, source: pd.Series, years: pd.Series, is_impossible: pd.Series, where: str
) -> None:
    """Accept ages unless all are impossible, or most rows and most different cells of many are."""
    known = years.notna()
    n_known, n_impossible = int(known.sum()), int(is_impossible.sum())
    is_most = (
        n_known >= MIN_ROWS_TO_JUDGE
        and n_impossible > n_known / 2
        and source[is_impossible].nunique() > source[known].nunique() / 2
    )
    if not n_impossible or n_impossible < n_known and not is_most:
        return
    median = years[is_impossible].median() * _PER_YEAR[rule.unit]
    units = [unit for unit, n in _PER_YEAR.items() if 0 <= median / n <= rule.max_years]
    errors.refuse(
        f"ages from 0 to {rule.max_years:g} years by column {source.name!r} of {where}",
        f"{n_impossible:,} impossible ones of {n_known:,}, e.g."
        f" {errors.examples(source[is_impossible].drop_duplicates().tolist())}",
        (
            f"Another unit? Set `age.unit: {' or '.join(units) or '...'}`; a code for unknown"
            " belongs in `age.missing`."
            if rule.column
            else "Are the columns of `age` the right ones, in the right order?"
        ),
    )


def _is_missing(rule: Age, cells: pd.Series) -> pd.Series:
    """Return which cells mean unknown; numbers are compared as numbers (99.0 and 099 are 99)."""
    codes = source_text.numbers(pd.Series(rule.missing, dtype=object)).dropna()
    return cells.isin(rule.missing) | source_text.numbers(cells).isin(codes)


def _recorded(rule: Age, text: pd.Series, where: str) -> pd.Series:
    """Return ages of a column of numbers, with or without a unit."""
    different = text.drop_duplicates()
    cells = different.tolist()
    missing = set(different[_is_missing(rule, different)])
    years = {
        cell: np.nan if not cell or cell in missing else _years_of_cell(rule, cell)
        for cell in cells
    }
    odd = [cell for cell in cells if cell and years[cell] is None]
    if odd:
        errors.refuse(
            f"column {text.name!r} of {where} to hold ages in {rule.unit} (numbers), or 042Y, 018M",
            f"{errors.examples(odd)} in {int(text.isin(odd).sum())} rows",
            f"{age_advice.rules_for(odd)}, or correct the table.",
        )
    return text.map({cell: np.nan if age is None else age for cell, age in years.items()})


def _years_of_cell(rule: Age, cell: str) -> float | None:
    """Return the age that a cell says, None where no rule reads it.

    A comma is a decimal one, but for three digits behind it where thousands are possible (days).
    """
    if cell in rule.at_least:
        return rule.at_least[cell]
    if form := re.fullmatch(age_advice.NUMBER + r"\s*(.*)", cell):
        number, suffix = form.groups()
        unit = rule.unit if not suffix else rule.unit_suffixes.get(suffix)
        unit = unit or _DICOM.get(suffix.lower())
        is_ambiguous = unit != "years" and re.search(r",\d{3}$", number)
        if unit and not is_ambiguous:
            return float(number.replace(",", ".")) / _PER_YEAR[unit]
    return None


def _since_birth(rule: Age, text: pd.DataFrame, where: str) -> pd.Series:
    """Return the time from birth to the study; a year of birth alone counts as its 1 July."""
    birth, is_year_only = _dates(rule, text[rule.birth_date], where)
    study, _ = _dates(rule, text[rule.study_date], where)
    is_before_birthday = (study.dt.month * 100 + study.dt.day) < (
        birth.dt.month * 100 + birth.dt.day
    )
    birthdays = study.dt.year - birth.dt.year - is_before_birthday
    years = birthdays + ((study - birth).dt.days / 365.25 - birthdays).clip(0, 0.999)
    is_same_year = is_year_only & (study.dt.year == birth.dt.year)
    return years.mask(is_same_year & (years < 0), 0.0)


def _since_anchor(rule: Age, text: pd.DataFrame, where: str) -> pd.Series:
    """Return the age in one year, moved to the year of the study (MIMIC-IV)."""
    study, _ = _dates(rule, text[rule.study_date], where)
    age, year = (
        _whole_numbers(rule, text[column], where) for column in (rule.anchor_age, rule.anchor_year)
    )
    return age + study.dt.year - year


def _whole_numbers(rule: Age, text: pd.Series, where: str) -> pd.Series:
    """Return a column of numbers, NaN where unknown."""
    known = text.mask(_is_missing(rule, text), "").replace(rule.at_least)
    numbers = source_text.numbers(known.astype(str))
    is_odd = numbers.isna() & (known != "")
    source_text.refuse_values(text, is_odd, where, "numbers", "age.missing")
    return numbers


def _dates(rule: Age, text: pd.Series, where: str) -> tuple[pd.Series, pd.Series]:
    """Return a column's dates by the first form that fits, and where only a year is known."""
    cells = pd.Series(text.unique(), dtype=object)
    plain = cells.mask(_is_missing(rule, cells), "").astype(str)
    plain = plain.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    dates = pd.Series(pd.NaT, index=cells.index, dtype="datetime64[s]")
    is_year_only = pd.Series(False, index=cells.index)
    for form in rule.date_formats:
        read = _read_dates(plain, form)
        _refuse_two_dates(cells, dates, read, rule, text.name, where)
        if not re.search(r"%[dmbBj]", form):
            is_year_only |= read.notna() & dates.isna()
        dates = dates.fillna(read)
    by_cell = dict(zip(cells, dates))
    values = text.map(by_cell).astype("datetime64[s]")
    source_text.refuse_values(
        text,
        values.isna() & text.map(dict(zip(cells, plain))).ne(""),
        where,
        f"dates as {' or '.join(rule.date_formats)}",
        "age.date_formats",
        "A cell that means unknown belongs in `age.missing`. ",
    )
    return values, text.map(dict(zip(cells, is_year_only)))


def _read_dates(plain: pd.Series, form: str) -> pd.Series:
    """Return cells as dates of one form, NaT where it does not fit; a time of day is left out."""
    if not re.search(r"%[HIMSpXcT]", form):
        plain = plain.str.replace(_TIME, "", regex=True)
    read = pd.to_datetime(plain, format=form, errors="coerce").astype("datetime64[s]")
    if re.fullmatch(r"(%[A-Za-z])+", form):  # 195011 is not 1 January 1950
        read = read.where(read.dt.strftime(form) == plain)
    if not re.search(r"%[dj]", form):  # the middle of what the form says
        has_month = re.search(r"%[mbB]", form)
        read += pd.Timedelta(days=14) if has_month else pd.DateOffset(months=6)
    return read


def _refuse_two_dates(
    cells: pd.Series, dates: pd.Series, read: pd.Series, rule: Age, column: str, where: str
) -> None:
    """Accept dates that no two of the forms read differently."""
    is_two = dates.notna() & read.notna() & (dates != read)
    if is_two.any():
        errors.refuse(
            f"one date a cell in column {column!r} of {where}",
            f"{errors.examples(cells[is_two].tolist())}, which"
            f" {' and '.join(rule.date_formats)} read as different dates",
            "Keep the one form of the column in `age.date_formats`; a column of both forms must be"
            " corrected at its source.",
        )
