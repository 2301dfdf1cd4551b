"""A first manifest from a table: its columns guessed, each guess marked, what is open said.

In: the path of a table (CSV, Excel or Parquet). Out: a manifest's YAML file, with comments
"# guess: ..." and "# answer: ...". Raises `InputError` for a table that cannot be read or is empty,
and where the manifest is there already: none is ever overwritten.
"""

import itertools
import re
from pathlib import Path

import pandas as pd
import yaml

from helpers.core import errors, files
from helpers.data.first_look import column_guesses, image_search, label_guesses
from helpers.data.first_look.column_guesses import Guess
from helpers.data.first_look.image_search import Location
from helpers.data.tables import read_table

_ENCODINGS = ("utf-8", "cp1252")  # the second is what Windows writes in western Europe
_SEPARATORS = (",", ";", "\t", "|")


def write(table: Path, name: str | None, images: Path | None, folder: Path) -> str:
    """Write a first manifest, and return in words where it is and what to do next.

    Args:
        table: CSV, Excel or Parquet, one row an image.
        name: of the manifest; None for the table's.
        images: folder of the images; None to search beside the table.
        folder: of the manifest.

    Raises:
        InputError: see the module.
    """
    if errors.file_exists(table, "Correct the path of the table.").is_dir():
        errors.refuse(
            "a table with a row an image", f"the folder {table}", "For DICOM see docs/dicom.md."
        )
    if images:
        errors.file_exists(images, "Correct --images.")
    name = column_guesses.slug(name or table.name.split(".")[0], [])
    path = folder / f"{name}.yaml"
    if path.exists():
        errors.refuse(
            f"no file {path} yet", "one", "Choose another --name, or remove the file yourself."
        )
    cells, form = _read(table)
    where = image_search.locate(table.resolve(), images and images.resolve(), cells, form)
    files.write_text(path, text(name, table, cells, where))
    return (
        f"{path}: answer what is marked `answer`, look at what is marked `guess`, then\n"
        f"  .venv/bin/python -m helpers.data check {path} --data-root {where.root}"
    )


def _read(table: Path) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return a table as text, and what of its encoding and separator is not as usual.

    Raises:
        InputError: it is no table in any usual form; says what is wrong with the usual one.
    """
    is_text = not table.name.lower().endswith((".xlsx", ".xlsm", ".parquet"))
    forms = itertools.product(_ENCODINGS, _SEPARATORS) if is_text else [("utf-8", ",")]
    refusals = []
    for encoding, separator in forms:
        try:
            cells = read_table.read(table, encoding, separator)
        except errors.InputError as refusal:
            refusals.append(refusal)
            continue
        form = {} if encoding == "utf-8" else {"encoding": encoding}
        return cells, form | ({} if separator == "," else {"separator": separator})
    raise refusals[0]


def text(name: str, table: Path, cells: pd.DataFrame, where: Location) -> str:
    """Return the content of a first manifest."""
    people = [
        *column_guesses.patient(cells, where.column),
        *column_guesses.sex(cells),
        *column_guesses.age(cells),
    ]
    split, kept = column_guesses.split(cells), column_guesses.keep(cells)
    used = {where.column, *(guess.column for guess in [*people, *split, *kept])}
    used |= {column_guesses.named(cells, kind) for kind in ("sex", "birth", "study", "split")}
    rest = cells[[column for column in cells if column not in used]]
    rows, findings = label_guesses.rows(rest, cells[where.column] if where.column else None)
    labels = {guess.column for guess in findings} | set(
        rows.value.get("long", {}).values() if rows else []
    )
    further = column_guesses.further(rest.drop(columns=labels & set(rest)))
    if rows:  # what differs between the rows of an image is no column of the image
        further = [
            guess
            for guess in further
            if cells.groupby(where.column)[guess.column].nunique().max() == 1
        ]
    categories = {guess.column for guess in [*people, *findings] if "values" in guess.value}
    missing = column_guesses.missing_words(cells, sorted(categories & set(cells)))
    is_volume = bool(re.search(r"\.nii(\.gz)?$", where.template)) or bool(
        where.column and cells[where.column].str.contains(r"\.nii(?:\.gz)?$").mean() > 0.5
    )
    size = {"shape": [64, 128, 128], "spacing_mm": [4, 3, 3], "window_hu": [-150, 250]}
    return "\n".join(
        [
            f"# A first manifest from the columns of {table.name}. Look at every `guess`, settle"
            " every `answer`;",
            "# all fields: docs/own_data.md.",
            *_head(name, table, is_volume),
            *_layout(where),
            *(_line("missing", missing, "guess: cells that mean blank") if missing else []),
            *(_line("rows", rows.value, _why(rows)) if rows else []),
            *_people(people, cells),
            *_block("keep", kept, "", []),
            *_findings(findings, is_volume),
            *_block("further_columns", further, "guess: can make groups", findings),
            *_split(split),
            *(
                _line("volume", size, "guess: depth, height, width")
                if is_volume
                else _line("image", {"px": 224, "equalise": True}, "guess: height and width")
            ),
            "",
        ]
    )


def _head(name: str, table: Path, is_volume: bool) -> list[str]:
    """Return what no table says."""
    kind = "CT" if is_volume else "chest radiograph"
    return [
        *_line("name", name),
        *_line("title", f"Images of {table.name}", "answer: what data is this?"),
        *_line("modality", kind, "guess"),
        *_line("access", "private", "guess: open, registration, credentialed or private"),
        *_line("licence", "unknown", "answer: who may use it, for what?"),
        *_line("citation", "none", "answer: none, or the paper that describes it"),
        *_line("how_to_get", f"{table.name} and its images", "answer: whom does one ask for it?"),
        "",
    ]


def _layout(where: Location) -> list[str]:
    """Return the layout and the images' identifier."""
    if where.image_column:
        layout = {"kind": "parquet_images", "shards": [where.table]}
        layout["image_column"] = where.image_column
        seen = "guess: further shards by a pattern, train-*.parquet"
    else:
        layout = {"kind": "table_and_images", "table": where.table, "image_path": where.template}
        layout |= where.form | ({"anywhere": True} if where.anywhere else {})
        seen = f"{'guess: files' if where.found else 'answer: no files'} of the first rows found"
    comment = "guess" if where.column else "answer: no column names an image"
    return [
        *_line("layout", layout, seen),
        *_line("image_id", f"{{{where.column or 'file'}}}", comment),
    ]


def _people(people: list[Guess], cells: pd.DataFrame) -> list[str]:
    """Return patient, sex and age."""
    lines = [line for guess in people for line in _line(guess.field, guess.value, _why(guess))]
    fields = [guess.field for guess in people]
    if "sex" not in fields and (column := column_guesses.named(cells, "sex")):
        rule = {"column": column, "values": column_guesses.sex_to_answer(cells[column])}
        lines += ["# answer: which value means what?", f"# sex: {_flow(rule)}"]
    elif "sex" not in fields:
        lines.append("# answer: no column names the sex: unknown of all without `sex`")
    if "age" not in fields:
        dates = [kind for kind in ("birth", "study") if column_guesses.named(cells, kind)]
        there = f"only a date of {dates[0]}" if dates else "no column"
        lines.append(f"# answer: {there} names the age: unknown of all without `age`")
    if "patient_id" not in fields:
        comment = "answer: no column names a patient; without, privacy is promised to images only"
        others = cells.drop(columns=[guess.column for guess in people], errors="ignore")
        if candidates := _repeated(others):
            comment += f". Does {' or '.join(candidates)} name one?"
        return [*_line("patient_id", None, comment), *lines]
    return lines


def _repeated(cells: pd.DataFrame) -> list[str]:
    """Return at most three columns with many values of which many repeat, as patients do."""
    return [
        column
        for column in cells
        if len(cells) / 20 < cells[column].nunique() < 0.9 * len(cells)
        and cells[column].nunique() > 10
        and not cells[column].str.contains(r"\s|\.\d|\d/\d").any()  # texts, numbers, dates
    ][:3]


def _findings(findings: list[Guess], is_volume: bool) -> list[str]:
    """Return the findings, a line each; of films those by whose name they can be on one side."""
    if not findings:
        return ["findings: {}  # answer: no column looks like a finding: docs/own_data.md"]
    lines, names = ["findings:"], []
    for guess in findings:
        names.append(column_guesses.slug(guess.field, names))
        is_lateral = not is_volume and label_guesses.is_lateral(names[-1])
        sides = {"lateral": True} if is_lateral else {}
        rule = {"canonical": names[-1], **sides, **guess.value}
        lines += [f"  {line}" for line in _line(names[-1], rule, _why(guess))]
    return lines


def _block(field: str, guesses: list[Guess], comment: str, findings: list[Guess]) -> list[str]:
    """Return a field with a line for each guess; further columns get names of their own."""
    if not guesses:
        return []
    lines, names = [f"{field}:" + (f"  # {comment}" if comment else "")], []
    for guess in findings:
        names.append(column_guesses.slug(guess.field, names))
    for guess in guesses:
        if field == "further_columns":
            names.append(column_guesses.slug(guess.field, names))
        key = names[-1] if field == "further_columns" else guess.field
        lines += [f"  {line}" for line in _line(key, guess.value, _why(guess) if guess.why else "")]
    return lines


def _split(split: list[Guess]) -> list[str]:
    """Return the split, by a hash of the patient where none is given."""
    if split:
        return _line("split", split[0].value, _why(split[0]))
    return _line("split", {"valid_share": 0.2, "test_share": 0.2}, "guess: patients by a hash")


def _why(guess: Guess) -> str:
    """Return a guess's comment."""
    return f"guess: {guess.why}"


def _line(key: str, value: object, comment: str = "") -> list[str]:
    """Return a line of YAML with its comment."""
    return [f"{_flow(key)}: {_flow(value)}" + (f"  # {comment}" if comment else "")]


def _flow(value: object) -> str:
    """Return a value as YAML on one line."""
    dumped = yaml.safe_dump(
        value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return dumped.removesuffix("...\n").strip()
