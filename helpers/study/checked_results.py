"""What a results folder claims in tables, notebooks and pages, looked at again.

In: the folder, and another into which notebooks 04 and 05 were executed again on the same cohort
and runs. Out: claims (`core.claims`). No claim quotes a notebook's text, which may name a patient.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from helpers.core import claims, errors, files, fingerprints
from helpers.study import model_card, report

_PASSING = re.compile(r"T_[0-9a-f]{3,}|0x[0-9a-f]{6,}")  # names that pandas and Python draw anew
REGISTER = "the privacy register"  # in sentences that need it


def of_steps(out: Path, shared: set[str] | None = None) -> Iterator[claims.Claim]:
    """Yield of each step whether its files are those it wrote, by the hashes beside them.

    Args:
        out: the folder.
        shared: names of the files that its crate lists: others may have been left out. None: it has
            no crate; then cohorts may.
    """
    states = sorted((out / ".state").glob("[0-9]*.json"))
    if not states:
        why = "no .state/ in the folder: run_all.py did not write it, or it was left out"
        yield claims.Claim("files of all steps", claims.UNCHECKED, why)
    for path in states:
        state = files.readable_json(path)
        written = state.get("outputs", {}) | state.get("pages", {})
        absent = [name for name in written if not (out / name).is_file()]
        left_out = [
            name
            for name in absent
            if (name.startswith("cohort/") if shared is None else name not in shared)
        ]
        differing = [f"{name} is not there" for name in absent if name not in left_out]
        differing += [
            f"{name} is not what was written"
            for name, value in written.items()
            if name not in absent and value != _hash(out / name)
        ]
        unchecked = "" if written else "the step did not end"
        unchecked += f"{len(left_out)} of its files are not there" if left_out else ""
        yield claims.of_parts(f"step {path.stem}: files", differing, unchecked)


def _hash(path: Path) -> str | None:
    """Return the hash of a file, None where there is none."""
    return fingerprints.file_hash(path) if path.is_file() else None


def of_tables(
    out: Path, again: Path, number: str, unchecked: dict[str, str] | None = None
) -> Iterator[claims.Claim]:
    """Yield of each table, and each figure's numbers, whether it follows from the predictions.

    Args:
        out: the folder looked at.
        again: the folder into which the notebook was executed again.
        number: of the notebook, "04" or "05".
        unchecked: {table: why} of those that may differ.
    """
    names = {
        path.relative_to(folder).as_posix()
        for folder in (out, again)
        for path in folder.glob(f"tables/{number}_*")
    }
    for name in sorted(names):
        yield from claims.guarded(name, _of_table, out / name, again / name, name, unchecked)


def _of_table(
    stored: Path, computed: Path, name: str, unchecked: dict[str, str] | None
) -> Iterator[claims.Claim]:
    """Yield whether a table is the one computed again."""
    if not (stored.is_file() and computed.is_file()):
        where = "stored, but not computed" if stored.is_file() else "computed, but not stored"
        yield claims.Claim(name, claims.DIFFERS, where)
        return
    differences = claims.differences_of_tables(_table(stored), _table(computed))
    if differences and name in (unchecked or {}):
        yield claims.Claim(name, claims.UNCHECKED, unchecked[name])
        return
    yield claims.of_parts(name, differences)


def _table(path: Path) -> pd.DataFrame:
    """Return a table of CSV or Parquet, index and all."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).reset_index()
    return pd.read_csv(path)


def of_text(stored: Path, executed: dict, without_register: bool = False) -> claims.Claim:
    """Return whether a stored notebook shows the sentences and tables of the same one executed
    again.

    Args:
        stored: path of the executed notebook.
        executed: the notebook as executed again.
        without_register: private runs are not in the folder's privacy register, so that cells which
            speak of it cannot be compared.
    """
    about = f"notebooks/{stored.name}: sentences and tables"
    shown, again = (
        [_said(cell) for cell in notebook["cells"]]
        for notebook in (files.readable_json(stored), executed)
    )
    if len(shown) != len(again):
        return claims.Claim(about, claims.DIFFERS, f"{len(shown)} cells, computed {len(again)}")
    differing = [k for k, pair in enumerate(zip(shown, again), 1) if pair[0] != pair[1]]
    of_register = [k for k in differing if without_register and REGISTER in shown[k - 1]]
    return claims.of_parts(
        about,
        [f"cell {k} shows something else" for k in differing if k not in of_register],
        f"cells {of_register} need the privacy register" if of_register else "",
    )


def _said(cell: dict) -> str:
    """Return source and outputs of a cell, pictures left out."""
    said = ["".join(cell["source"])]
    for output in cell.get("outputs", []):
        said.append("".join(output.get("text", [])))
        for kind, content in sorted(output.get("data", {}).items()):
            if not kind.startswith("image/"):
                said.append("".join(content) if isinstance(content, list) else str(content))
    return _PASSING.sub("", "\n".join(said))


def of_index(out: Path) -> Iterator[claims.Claim]:
    """Yield whether the study's page shows the tables and the figure beside it; its title is taken
    as it is.
    """
    about, path = "index.html: numbers and sentences", out / "index.html"
    if not path.is_file():
        yield claims.Claim(about, claims.UNCHECKED, "not there: the study is not whole")
        return
    stored = path.read_text(encoding="utf-8")
    title, steps = report.said_by(stored)
    summary = errors.file_exists(out / "tables/04_summary.csv", "The page is made of it.")
    name = report.cohort_of(report.records_of(out, pd.read_csv(summary, dtype=str)))
    if name and not (out / "cohort" / name / "record.json").is_file():
        yield claims.Claim(about, claims.UNCHECKED, "its cohort is not there")
        return
    executed = [path.stem for path in (out / "notebooks").glob("[0-9]*.html")]
    again = report.of_folder(out, title, steps)
    differences = _other_lines(stored, again)
    if sorted(steps) != sorted(executed):
        differences.append("its notebooks are not those in the folder")
    yield claims.of_parts(about, differences)


def of_page(notebook: Path, again: str) -> claims.Claim:
    """Return whether the page beside a notebook shows it.

    Args:
        notebook: executed.
        again: the page made of it anew.
    """
    about, path = (
        f"notebooks/{notebook.stem}.html shows its notebook",
        notebook.with_suffix(".html"),
    )
    if not path.is_file():
        return claims.Claim(about, claims.DIFFERS, "not there")
    is_same = path.read_text(encoding="utf-8") == again
    return claims.of_parts(about, [] if is_same else ["another text"])


def of_card(out: Path, run: str) -> Iterator[claims.Claim]:
    """Yield whether a model card says what record and tables say."""
    path, about = out / "runs" / run / "model_card.md", f"runs/{run}/model_card.md"
    record = files.read_json(path.with_name("record.json"), "Run the study again.")
    try:
        again = model_card.card(out, record)
    except errors.InputError:  # a table or the cohort was left out
        yield claims.Claim(about, claims.UNCHECKED, "the tables or the cohort are not there")
        return
    yield claims.of_parts(about, _other_lines(path.read_text(encoding="utf-8"), again))


def _other_lines(stored: str, again: str) -> list[str]:
    """Return in words which lines of a text differ."""
    pairs = itertools.zip_longest(stored.splitlines(), again.splitlines())
    return [f"line {k} is another" for k, (one, other) in enumerate(pairs, 1) if one != other]
