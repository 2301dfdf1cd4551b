"""What to write in a manifest about cells of an age column that no rule reads.

In: the cells. Out: advice in words, to be pasted. Raises nothing.
"""

import re

from helpers.core import errors

NUMBER = r"([+-]?\d+(?:\.\d*|,\d+)?)"
_UNIT_WORDS = {  # how units are written, without points, in small letters
    "years": "y yr yrs year years yo yearold yearsold j jahr jahre jahren an ans anno anni",
    "months": "m mo mos mon mth mths mnth month months monat monate monaten mois mese mesi",
    "weeks": "w wk wks week weeks woche wochen semaine semaines",
    "days": "d day days t tag tage tagen jour jours giorni dia dias",
}
_ABOVE = r"older|over|above|more|plus|up|least|ab|über|älter"
_BELOW = r"younger|under|below|less|unter|jünger"
_BOUND = rf"^\s*[<>≥≤]|\+\s*$|\b({_ABOVE}|{_BELOW})\b"


def rules_for(odd: list[str]) -> str:
    """Return which rule of `age` would read each kind of cell."""
    bounds = [cell for cell in odd if re.search(_BOUND, cell, re.I) and re.search(r"\d", cell)]
    with_unit = re.compile(NUMBER + r"\s*([^\W\d_][^\d]*)")
    others = [cell for cell in odd if cell not in bounds]
    commas = [cell for cell in others if re.fullmatch(NUMBER + r"\s*[YyMmWwDd]?", cell)]
    units = [cell for cell in others if with_unit.fullmatch(cell) and cell not in commas]
    others = [cell for cell in others if cell not in units and cell not in commas]
    ways = []
    if bounds:
        pairs = [f'"{cell}": {_nearest_age(cell)}' for cell in bounds[:3]]
        ways.append(f"`age.at_least: {{{', '.join(pairs)}}}`")
    if units:
        suffixes = dict.fromkeys(with_unit.fullmatch(cell)[2].strip() for cell in units)
        pairs = [f'"{suffix}": {_unit_of(suffix)}' for suffix in list(suffixes)[:3]]
        ways.append(f"`age.unit_suffixes: {{{', '.join(pairs)}}}` (years, months, weeks or days)")
    if others:
        ways.append(f"`age.missing: {others[:3]}` if that means unknown")
    do = "Add to the manifest " + " and ".join(ways) if ways else ""
    if commas:
        do += f"{'; w' if do else 'W'}rite {errors.examples(commas)} without commas"
    return do


def _unit_of(suffix: str) -> str:
    """Return the unit that a word means, "..." where that is not known."""
    word = re.sub(r"[\W_]", "", suffix.casefold())
    return next((unit for unit, words in _UNIT_WORDS.items() if word in words.split()), "...")


def _nearest_age(cell: str) -> str:
    """Return the whole age nearest to a bound: 90 for ">89", 89 for "89+", 0 for "<1"."""
    before, number, _ = re.split(r"(\d+)", cell, maxsplit=1)
    is_equal = re.search(r"[=≥≤]|least|\bab\b", before, re.I)
    if is_equal or not before.strip():
        return number
    is_below = re.search(rf"<|\b({_BELOW})\b", before, re.I)
    is_above = re.search(rf">|\b({_ABOVE})\b", before, re.I)
    return str(int(number) + bool(is_above) - bool(is_below))
