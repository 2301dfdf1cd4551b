"""How old a patient is at the study, by a manifest's `age`: as recorded, or from dates.

In: the rule and its source columns as text. Out: years, NaN where unknown; notes. Raises
`InputError` for cells that no rule reads; the message names the rule that would. Ages that are
impossible become unknown, and are counted.
"""

import re

import numpy as np
import pandas as pd

from helpers.core import errors
from helpers.data.rule_schema import Age
from helpers.data.tables import source_text

_PER_YEAR = {"years": 1, "months": 12, "weeks": 365.25 / 7, "days": 365.25}
_DICOM = {"y": "years", "m": "months", "w": "weeks", "d": "days"}
_NUMBER = r"([+-]?\d+(?:\.\d*)?)"
_MIDNIGHT = r"[ T]00:00(:00(\.0+)?)?$"


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
    notes = []
    if is_impossible.any():
        notes.append(
            f"{int(is_impossible.sum())} rows with an impossible age (below 0 or above"
            f" {rule.max_years:g} years) count as age unknown; column {source.name!r} has there"
            f" {source_text.commonest(source[is_impossible], 3)}."
        )
    return years.mask(is_impossible), notes


def _recorded(rule: Age, text: pd.Series, where: str) -> pd.Series:
    """Return ages of a column of numbers, with or without a unit."""
    cells = text.unique()
    years = {cell: _years_of_cell(rule, cell) for cell in cells}
    odd = [cell for cell in cells if cell and years[cell] is None]
    if odd:
        errors.refuse(
            f"column {text.name!r} of {where} to hold ages in {rule.unit} (numbers), or 042Y, 018M",
            f"{errors.examples(odd)} in {int(text.isin(odd).sum())} rows",
            f"{_rules_for(odd)}, or correct the table.",
        )
    return text.map({cell: np.nan if age is None else age for cell, age in years.items()})


def _years_of_cell(rule: Age, cell: str) -> float | None:
    """Return the age that a cell says, NaN where it means unknown, None where no rule reads it."""
    if not cell or cell in rule.missing:
        return np.nan
    if cell in rule.at_least:
        return rule.at_least[cell]
    if form := re.fullmatch(_NUMBER + r"\s*(.*)", cell):
        number, suffix = form.groups()
        unit = rule.unit if not suffix else rule.unit_suffixes.get(suffix)
        unit = unit or _DICOM.get(suffix.lower())
        return float(number) / _PER_YEAR[unit] if unit else None
    return None


def _rules_for(odd: list[str]) -> str:
    """Return which rule of `age` would read each kind of cell."""
    bounds = [cell for cell in odd if re.search(r"^\s*[<>≥≤]|\+\s*$", cell)]
    with_unit = re.compile(_NUMBER + r"\s*([^\W\d_][^\d]*)")
    units = [cell for cell in odd if cell not in bounds and with_unit.fullmatch(cell)]
    others = [cell for cell in odd if cell not in bounds and cell not in units]
    ways = []
    if bounds:
        pairs = [f'"{cell}": {_nearest_age(cell)}' for cell in bounds[:3]]
        ways.append(f"`age.at_least: {{{', '.join(pairs)}}}`")
    if units:
        suffixes = dict.fromkeys(with_unit.fullmatch(cell)[2] for cell in units)
        pairs = [f'"{suffix}": months' for suffix in list(suffixes)[:3]]
        ways.append(f"`age.unit_suffixes: {{{', '.join(pairs)}}}` (or years, weeks, days)")
    if others:
        ways.append(f"`age.missing: {others[:3]}` if that means unknown")
    return "Add to the manifest " + " and ".join(ways)


def _nearest_age(cell: str) -> str:
    """Return the whole age nearest to a bound: 90 for ">89", 89 for "89+", 0 for "<1"."""
    number = re.search(r"\d+", cell)
    if not number:
        return "..."
    beyond = {">": 1, "<": -1}.get(cell[0], 0) if "=" not in cell else 0
    return str(int(number[0]) + beyond)


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
    known = text.mask(text.isin(rule.missing), "").replace(rule.at_least)
    numbers = source_text.numbers(known.astype(str))
    is_odd = numbers.isna() & (known != "")
    source_text.refuse_values(text, is_odd, where, "numbers", "age.missing")
    return numbers


def _dates(rule: Age, text: pd.Series, where: str) -> tuple[pd.Series, pd.Series]:
    """Return a column's dates by the first form that fits, and where only a year is known."""
    cells = pd.Series(text.unique(), dtype=object)
    plain = cells.mask(cells.isin(rule.missing), "").astype(str)
    plain = plain.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    plain = plain.str.replace(_MIDNIGHT, "", regex=True)
    dates = pd.Series(pd.NaT, index=cells.index, dtype="datetime64[s]")
    is_year_only = pd.Series(False, index=cells.index)
    for form in rule.date_formats:
        read = pd.to_datetime(plain, format=form, errors="coerce").astype("datetime64[s]")
        if re.fullmatch(r"(%[A-Za-z])+", form):  # 195011 is not 1 January 1950
            read = read.where(read.dt.strftime(form) == plain)
        read = read.where(dates.isna())
        if not re.search(r"%[dj]", form):  # the middle of what the form says
            has_month = re.search(r"%[mbB]", form)
            read += pd.Timedelta(days=14) if has_month else pd.DateOffset(months=6)
        if not re.search(r"%[dmbBj]", form):
            is_year_only |= read.notna()
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
