"""What of a patient, or of the machine, stands in files that are meant to be read by others.

In: a results folder. Out: findings in words, without what was found. `run_all.py` does not finish a
study with one.

Looked at are pages, notebooks, tables, the numbers of figures, model cards, run records and the
crate; not the cohort, the predictions and `audit/`, which have a row a patient and stay where the
data are. Of data that are not open: identifiers of patients and images, columns of them, pictures
that are photographs rather than drawings. Of all: the home folder, folders of the data, warnings
and errors of cells.
"""

import base64
import functools
import io
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from helpers.core import files

OPEN = ("embedded", "open")  # access of data whose single patients and images may be shown
_TEXTS = (
    "index.html",
    "ro-crate-metadata.json",
    "notebooks/[0-9]*.html",
    "notebooks/[0-9]*.ipynb",
    "tables/*.csv",
    "figures/*.csv",
    "runs/*/model_card.md",
    "runs/*/record.json",
)
_WORDS = re.compile(r"[A-Za-z0-9_.\-]{6,}")
_COLUMNS = re.compile(r"(?m)(^|[,\">\s])(patient_id|image_id)(?=[,\"<\s]|$)")
# share of a picture's pixels that are grey, in more than a few shades: of drawings of this package
# at most 0.05, of films 0.5 and more
MOST_GREY = 0.15


def restricted(out: Path) -> list[str]:
    """Return the names of the cohorts in a results folder whose data are not open."""
    records = {
        path.parent.name: files.readable_json(path) for path in out.glob("cohort/*/record.json")
    }
    return sorted(
        name for name, record in records.items() if record.get("access", "private") not in OPEN
    )


def findings(out: Path, folders: Collection[str] = ()) -> list[str]:
    """Return what a results folder would disclose, a sentence each; none of them quotes it.

    Args:
        out: the folder.
        folders: of the data's files, which no page should name.
    """
    cohorts = restricted(out)
    ids = functools.reduce(set.union, (_identifiers(out, name) for name in cohorts), set())
    found = []
    for path in sorted({path for pattern in _TEXTS for path in out.glob(pattern)}):
        if path.name.endswith(".failed.ipynb") or not path.is_file():
            continue
        name, text = path.relative_to(out).as_posix(), path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            found += [f"{name}: {what}" for what in _of_cells(json.loads(text), bool(cohorts))]
        words = _without_pictures(text)
        found += [f"{name}: {what}" for what in _of_text(words, path, folders)]
        if cohorts and not ids.isdisjoint(_WORDS.findall(words)):
            found.append(f"{name}: an identifier of a patient or an image")
        if cohorts and path.suffix == ".csv" and _COLUMNS.search(words.split("\n", 1)[0]):
            found.append(f"{name}: a column of patients or images")
    for path in sorted(out.glob("figures/*.png")) if cohorts else []:
        if is_photograph(path.read_bytes()):
            found.append(f"{path.relative_to(out).as_posix()}: a picture of a patient")
    return found


def _identifiers(out: Path, cohort: str) -> set[str]:
    """Return the identifiers that no text holds by chance: of six characters or more with a digit,
    of digits alone eight.

    Shorter ones are found by their columns only.
    """
    path = out / "cohort" / cohort / "table.parquet"
    table = files.read_parquet(path, "Run notebook 01 again.")
    values = {
        str(value) for column in ("patient_id", "image_id") for value in table[column].unique()
    }
    return {
        part
        for value in values
        for part in {value, Path(value).name, Path(value).stem}
        if re.search(r"\d", part) and len(part) >= (8 if part.isdigit() else 6)
    }


def _of_cells(notebook: dict, is_restricted: bool) -> Iterator[str]:
    """Yield what the outputs of a notebook's cells hold: warnings, errors, photographs."""
    for number, cell in enumerate(notebook["cells"], 1):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" or output["output_type"] == "error":
                yield f"a warning or an error in cell {number}"
            picture = "".join(output.get("data", {}).get("image/png", ""))
            if is_restricted and picture and is_photograph(base64.b64decode(picture)):
                yield f"a picture of a patient in cell {number}"


def _of_text(text: str, path: Path, folders: Collection[str]) -> Iterator[str]:
    """Yield whether a text names a folder of this machine; a run's record may name the weights that
    it started from.
    """
    if path.name == "record.json":
        return
    home = str(Path.home())
    if len(home) > 1 and re.search(re.escape(home) + r"(?![\w.-])", text):
        yield "the home folder"
    if any(len(folder) > 1 and folder in text for folder in folders):
        yield "the folder of the data"


def _without_pictures(text: str) -> str:
    """Return a text without the pictures in it, whose letters mean nothing."""
    return re.sub(r"(base64,|\"image/png\": \")[A-Za-z0-9+/=\\n]+", r"\1", text)


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
