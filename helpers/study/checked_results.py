"""What a results folder claims in tables, notebooks and pages, looked at again.

In: the folder, and another into which notebooks 04 and 05 were executed again on the same cohort
and runs. Out: `claims.Claim`s. What cannot be looked at says why.
"""

import ast
import html
import itertools
import json
import re
from pathlib import Path

import pandas as pd

from helpers.core import claims, errors, files, fingerprints, paths
from helpers.study import model_card, report

_PASSING = re.compile(r"T_[0-9a-f]{3,}|0x[0-9a-f]{6,}")  # names that pandas and Python draw anew


def of_steps(out: Path) -> list[claims.Claim]:
    """Return of each step whether its files are those it wrote, by the hashes beside them."""
    states = sorted((out / ".state").glob("[0-9]*.json"))
    if not states:
        why = "no .state/ beside it: the study was not run by run_all.py"
        return [claims.Claim("files of all steps", claims.UNCHECKED, why)]
    made = []
    for path in states:
        state = files.readable_json(path)
        written = state.get("outputs", {}) | state.get("pages", {})
        changed = [
            f"{name} is not what was written"
            for name, value in written.items()
            if value and value != _hash(out / name)
        ]
        unchecked = "" if written else "the step did not end"
        made.append(claims.of_parts(f"step {path.stem}: files", changed, unchecked))
    return made


def _hash(path: Path) -> str | None:
    """Return the hash of a file, None where there is none."""
    return fingerprints.file_hash(path) if path.is_file() else None


def parameters_of(notebook: Path) -> dict:
    """Return the parameters with which a stored notebook was executed.

    Raises:
        InputError: it is not there, not a notebook, or holds something other than literals there.
    """
    content = files.read_json(notebook, "Run the study with run_all.py first.")
    try:
        for cell in content["cells"]:
            if "injected-parameters" in cell["metadata"].get("tags", []):
                lines = ast.parse("".join(cell["source"])).body
                return {line.targets[0].id: ast.literal_eval(line.value) for line in lines}
    except (KeyError, TypeError, ValueError, SyntaxError, AttributeError) as error:
        errors.refuse(f"a notebook with its parameters in {notebook}", error, "Run the step again.")
    return {}


def of_tables(out: Path, again: Path, number: str) -> list[claims.Claim]:
    """Return of each table, and each figure's numbers, whether it follows from the predictions.

    Args:
        out: the folder looked at.
        again: the folder into which the notebook was executed again.
        number: of the notebook, "04" or "05".
    """
    made, pattern = [], [f"tables/{number}_*", f"figures/{number}_*.csv"]
    names = {
        path.relative_to(folder).as_posix()
        for folder in (out, again)
        for one in pattern
        for path in folder.glob(one)
    }
    for name in sorted(names):
        stored, computed = out / name, again / name
        if not (stored.is_file() and computed.is_file()):
            where = "stored, but not computed" if stored.is_file() else "computed, but not stored"
            made.append(claims.Claim(name, claims.DIFFERS, where))
            continue
        try:
            tables = [_table(path) for path in (stored, computed)]
        except (ValueError, OSError) as error:
            made.append(claims.Claim(name, claims.DIFFERS, f"not a table ({error})"))
            continue
        made.append(claims.of_parts(name, claims.differences_of_tables(*tables)))
    return made


def _table(path: Path) -> pd.DataFrame:
    """Return a table of CSV or Parquet, index and all."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path).reset_index()
    return pd.read_csv(path, keep_default_na=True)


def of_text(stored: Path, executed: dict) -> claims.Claim:
    """Return whether a stored notebook shows the sentences and tables of the same one executed
    again.

    Args:
        stored: path of the executed notebook.
        executed: the notebook as executed again.
    """
    about, content = f"notebooks/{stored.name}: sentences and tables", files.readable_json(stored)
    shown = [_said(cell) for cell in content.get("cells", []) if not _is_injected(cell)]
    again = [_said(cell) for cell in executed["cells"] if not _is_injected(cell)]
    if len(shown) != len(again):
        return claims.Claim(about, claims.DIFFERS, f"{len(shown)} cells, computed {len(again)}")
    found = []
    for number, (one, other) in enumerate(zip(shown, again), 1):
        if one != other:
            lines = zip(one.splitlines() + [""], other.splitlines() + [""])
            first = next(((a, b) for a, b in lines if a != b), ("", "more"))
            found.append(f"cell {number} says {first[0].strip()!r}, computed {first[1].strip()!r}")
    return claims.of_parts(about, found)


def _is_injected(cell: dict) -> bool:
    """Return whether papermill put a cell in."""
    return "injected-parameters" in cell["metadata"].get("tags", [])


def _said(cell: dict) -> str:
    """Return source and text of a cell's outputs, pictures left out."""
    said = ["".join(cell["source"])]
    for output in cell.get("outputs", []):
        said.append("".join(output.get("text", [])))
        data = output.get("data", {})
        said += ["".join(data.get(kind, [])) for kind in ("text/html", "text/plain")]
    return _PASSING.sub("", "\n".join(said))


def of_index(out: Path) -> claims.Claim:
    """Return whether the study's page shows the tables and the figure beside it."""
    about, path = "index.html: numbers and sentences", out / "index.html"
    if not path.is_file():
        return claims.Claim(about, claims.UNCHECKED, "not there: the study is not whole")
    stored = path.read_text(encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", stored, re.DOTALL)
    steps = re.findall(r'<li><a href="notebooks/([^"]+)\.html">', stored)
    try:
        again = report.of_folder(
            out, html.unescape(title.group(1)) if title else "", list(map(html.unescape, steps))
        )
    except (errors.InputError, OSError, ValueError, KeyError) as error:
        return claims.Claim(about, claims.DIFFERS, str(error))
    return claims.of_parts(about, _other_lines(stored, again))


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


def of_cards(out: Path) -> list[claims.Claim]:
    """Return of each model card whether it says what record and tables say."""
    made = []
    for path in sorted(out.glob("runs/*/model_card.md")):
        about = f"runs/{path.parent.name}/model_card.md"
        try:
            record = files.read_json(path.with_name("record.json"), "Run the study again.")
            again = model_card.card(out, record)
        except (errors.InputError, OSError, ValueError, KeyError, TypeError) as error:
            made.append(claims.Claim(about, claims.UNCHECKED, str(error)))
            continue
        made.append(claims.of_parts(about, _other_lines(path.read_text(encoding="utf-8"), again)))
    return made


def _other_lines(stored: str, again: str) -> list[str]:
    """Return in words the lines of a text that differ."""
    pairs = itertools.zip_longest(stored.splitlines(), again.splitlines(), fillvalue="")
    return [f"line {k} is {a.strip()[:60]!r}" for k, (a, b) in enumerate(pairs, 1) if a != b]


def of_readme() -> claims.Claim:
    """Return whether README's table is that of `expected/demo.csv`."""
    root = paths.repository_root()
    readme = (root / "README.md").read_text(encoding="utf-8")
    again = report.renew_readme(readme, pd.read_csv(root / "expected" / "demo.csv"))
    return claims.of_parts("README's table", [] if readme == again else ["not expected/demo.csv"])


def as_json(made: list[claims.Claim]) -> str:
    """Return claims as JSON, for a program that reads them."""
    return json.dumps([vars(claim) for claim in made], indent=1)
