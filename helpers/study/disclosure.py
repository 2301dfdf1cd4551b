"""What of a patient, or of the machine, stands in files that are meant to be read by others.

In: a results folder. Out: findings in words, without what was found. `run_all.py` does not finish a
study with one.

Looked at are pages, notebooks, tables, figures, model cards, run records and the crate; not the
cohort, the predictions and `audit/`, which have a row a patient and stay where the data are. Of
data that are not open: identifiers of patients and images, also in columns of their own, pictures
that are photographs rather than drawings, and numbers of few patients (in columns of such names).
Of all data: the home folder and the data's folders, but where a parameter names a file in them.
"""

import base64
import html
import io
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.core import files, small_counts
from helpers.study import notebook_files

_TEXTS = (
    "index.html",
    "ro-crate-metadata.json",
    "notebooks/[0-9]*.html",
    "notebooks/[0-9]*.ipynb",
    "tables/*.csv",
    "figures/*.svg",
    "runs/*/model_card.md",
    "runs/*/record.json",
)
_COLUMNS = ("patient_id", "image_id")
_OF_PATIENTS = ("n_patients", "patients", "sex_unknown", "age_unknown")
_HEADER = re.compile(r"<th[^>]*>\s*(patient_id|image_id)\s*</th>")
_CELL = re.compile(r"<td[^>]*>\s*([^<]*?)\s*</td>")
# share of a picture's pixels that are grey, in more than a few shades: of drawings of this package
# at most 0.05, of films 0.5 and more
MOST_GREY = 0.15


def restricted(out: Path) -> list[str]:
    """Return the names of the cohorts in a results folder whose data are not open."""
    records = {
        path.parent.name: files.readable_json(path) for path in out.glob("cohort/*/record.json")
    }
    return sorted(
        name for name, record in records.items() if not small_counts.is_open(record.get("access"))
    )


def findings(out: Path, folders: Collection[str] = ()) -> list[str]:
    """Return what a results folder would disclose, a sentence each; none of them quotes it.

    Args:
        out: the folder.
        folders: of the data's files, which no page should name.
    """
    cohorts = restricted(out)
    known = {path.parent.name for path in out.glob("cohort/*/table.parquet")}
    of_open = set().union(*(_identifiers(out, name) for name in known - set(cohorts)))
    ids = set().union(*(_identifiers(out, name) for name in cohorts)) - of_open
    # notebooks show films of the private cohort alone
    is_shown = not (main := {path.name for path in out.glob("runs/*-network")}) or any(
        f"{name}-network" in main for name in cohorts
    )
    has_pictures = bool(cohorts) and is_shown
    found, places = [], _places(folders)
    for path in sorted({path for pattern in _TEXTS for path in out.glob(pattern)}):
        if path.name.endswith(".failed.ipynb") or not path.is_file():
            continue
        name, text = path.relative_to(out).as_posix(), path.read_text(encoding="utf-8")
        pictures = _pictures(text)
        if has_pictures and any(map(is_photograph, pictures)):
            found.append(f"{name}: a picture of a patient")
        text, allowed = _readable(path, text)
        if path.name != "record.json":  # which may name the weights that a run started from
            for place, pattern in places.items():
                if re.search(pattern, _without(text, allowed)):
                    found.append(f"{name}: {place}")
        if ids and _names_one(text, ids):
            found.append(f"{name}: an identifier of a patient or an image")
        elif ids and not ids.isdisjoint(_in_columns(path, text)):
            found.append(f"{name}: a column of patients or images")
        if cohorts and path.suffix == ".csv" and _counts_few(text):
            found.append(f"{name}: a count of fewer than {small_counts.FEWEST} patients")
    for path in sorted(out.glob("figures/*.png")) if has_pictures else []:
        if is_photograph(path.read_bytes()):
            found.append(f"{path.relative_to(out).as_posix()}: a picture of a patient")
    return found


def _places(folders: Collection[str]) -> dict[str, str]:
    """Return patterns of the folders that no page should name."""
    homes = {str(Path.home()), str(Path.home().resolve())} - {"/"}
    places = {"the home folder": homes, "the folder of the data": set(folders)}
    return {
        name: "|".join(map(folder_pattern, sorted(of_place, key=len, reverse=True)))
        for name, of_place in places.items()
        if of_place
    }


def folder_pattern(folder: str) -> str:
    """Return a pattern that finds a folder in a text, as it is or with escapes for letters beyond
    ASCII, and no other folder whose name begins or ends alike.

    Args:
        folder: its path.
    """
    escaped = folder.encode("unicode_escape").decode()
    forms = "|".join(re.escape(form) for form in dict.fromkeys((folder, escaped)))
    return rf"(?<![\w.])(?:{forms})(?![\w.-])"


# ---- identifiers


def _identifiers(out: Path, cohort: str) -> set[str]:
    """Return the identifiers of a cohort's patients and images, and the names in their paths."""
    table = files.read_parquet(out / "cohort" / cohort / "table.parquet", "Run notebook 01 again.")
    values = {str(value) for column in _COLUMNS for value in table[column].unique()}
    parts = {part for value in values for part in (*Path(value).parts, Path(value).stem)}
    return values | {part for part in parts if _is_telling(part)}


def _is_telling(identifier: str) -> bool:
    """Return whether no text holds an identifier by chance: it has a digit and six letters or
    digits, or eight of digits alone.
    """
    letters = "".join(re.findall(r"[^\W_]", identifier))
    has_digit = any(letter.isdigit() for letter in letters)
    return has_digit and len(letters) >= (8 if letters.isdigit() else 6)


def _names_one(text: str, ids: Collection[str]) -> bool:
    """Return whether a text has a telling identifier in it, whatever stands around it."""
    by_first: dict[str, set[tuple[str, ...]]] = {}
    for words in {tuple(_words(identifier)) for identifier in ids if _is_telling(identifier)}:
        by_first.setdefault(words[0], set()).add(words)
    words_of_text = _words(text)
    return any(
        tuple(words_of_text[place : place + len(words)]) == words
        for place, word in enumerate(words_of_text)
        for words in by_first.get(word, ())
    )


def _words(text: str) -> list[str]:
    """Return the runs of letters and digits of a text."""
    return re.findall(r"[^\W_]+", text)


def _in_columns(path: Path, text: str) -> set[str]:
    """Return the values of columns named patient_id or image_id: of a table of CSV, or all cells of
    a page's or notebook's text where a table has such a column.
    """
    if path.suffix == ".csv":
        table = pd.read_csv(io.StringIO(text), dtype=str, on_bad_lines="skip")
        values = [table[column].dropna() for column in _COLUMNS if column in table]
        return set().union(*values)
    return set(_CELL.findall(text)) if _HEADER.search(text) else set()


def _counts_few(text: str) -> bool:
    """Return whether a table of CSV has a small number in a column of patients."""
    table = pd.read_csv(io.StringIO(text), on_bad_lines="skip")
    columns = table.columns.intersection(_OF_PATIENTS)
    numbers = table[columns].apply(pd.to_numeric, errors="coerce")
    return bool(((numbers > 0) & (numbers < small_counts.FEWEST)).any(axis=None))


# ---- texts and pictures


def _readable(path: Path, text: str) -> tuple[str, list[str]]:
    """Return a file's text as a reader sees it, without pictures, and the values of parameters,
    which a user chose to name.
    """
    allowed = []
    notebook = path.with_suffix(".ipynb")
    if path.parent.name == "notebooks" and notebook.is_file():
        values = notebook_files.injected_parameters(notebook).values()
        allowed = [value for value in values if isinstance(value, str) and "/" in value]
    if path.suffix in (".ipynb", ".json"):
        text = "\n".join(_strings(json.loads(text)))
    text = re.sub(r"[A-Za-z0-9+/=\n]{400,}", "", text)  # pictures, whose letters mean nothing
    return html.unescape(text) if path.suffix in (".html", ".svg") else text, allowed


def _strings(content: object) -> Iterator[str]:
    """Yield all strings of JSON, keys included; the lines of a cell as one."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _strings(value)
    elif isinstance(content, list):
        if content and all(isinstance(line, str) for line in content):
            yield "".join(line if line.endswith("\n") else line + "\n" for line in content)
        else:
            for value in content:
                yield from _strings(value)


def _without(text: str, allowed: list[str]) -> str:
    """Return a text without what may be named."""
    for value in allowed:
        for form in (value, value.encode("unicode_escape").decode()):
            text = text.replace(form, "")
    return text


def _pictures(text: str) -> Iterator[bytes]:
    """Yield the PNG pictures in a notebook, a page or a drawing."""
    for found in re.finditer(r"iVBORw0KGgo[A-Za-z0-9+/=\n\\]+", text):
        yield base64.b64decode(re.sub(r"\\n|\s|\\", "", found.group()) + "==")


def is_photograph(content: bytes) -> bool:
    """Return whether a picture shows a film or a slice: much of it grey in many shades.

    Args:
        content: of a PNG file.
    """
    from PIL import Image  # here: a study is planned without a decoder

    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    level = pixels[..., 1]
    is_grey = (np.ptp(pixels, axis=-1) < 16) & (level > 16) & (level < 235)
    shades = np.sort(np.bincount(level[is_grey] // 2, minlength=128))[::-1]
    return bool(shades[6:].sum() > MOST_GREY * level.size)  # drawings have few greys of much area
