"""A study's report, `index.html`: one page for a clinician and a reviewer.

In: a results folder: tables of notebooks 01 and 04, figures, records of runs and of the cohort; of
other people's predictions the tables and figures of notebook 04 alone. Out: HTML that needs no
network and no other file to be read, from the template beside this module. Raises `InputError`
where notebook 04 has not run, or its summary lacks a column.
"""

import base64
import html
import re
from collections.abc import Collection
from pathlib import Path

import jinja2
import pandas as pd

from helpers.analysis import price_parts, study_arms
from helpers.core import errors, files
from helpers.figures import house_style
from helpers.study import (
    checklist,
    report_answers,
    report_privacy,
    report_sections,
    report_who_pays,
    report_words,
    summary_table,
)

TABLES = ("metrics", "paired_differences", "worst_groups", "groups_at_once", "group_sizes")
TABLES += ("gap_changes", "planned", "spent", "price_parts", "findings_averaged", "elsewhere")
# file, what the picture shows
FIGURES = {
    "utility": (
        "04_privacy_utility",
        "Points with intervals: mean AUROC against epsilon, beside a line without privacy and a"
        " dashed line of the public model. The table of models has the same numbers.",
    ),
    "people": (
        "04_gap_changes_people",
        "Forest plot: the change by privacy of each contrast between groups of people, an interval"
        " a budget, with the equivalence margin as a grey band. The numbers are in"
        " 04_gap_changes.csv.",
    ),
    "further": (
        "04_gap_changes_further",
        "The same forest plot for further groups, such as scanners. 04_gap_changes.csv has the"
        " numbers.",
    ),
}
# folder, what is in it
FOLDERS = {
    "tables": "the numbers of this page, and more",
    "figures": "PNG and SVG; the table behind each is in tables/",
    "runs": "weights, predictions and record of each model",
    "cohort": "images, table of patients, what was left out and why",
}
# of numbers alone, or empty, these would be read as numbers
_TEXT = dict.fromkeys(("run", "arm_label", "unit", "attribute", "group", "verdict", "mode"), str)
_LINK = re.compile(r'<li><a href="notebooks/([^"]+)\.html">')


def of_folder(out: Path, title: str, steps: Collection[str]) -> str:
    """Return the page of a results folder.

    Args:
        out: the folder.
        title: of the study.
        steps: ids of its steps, in order; none of other people's predictions.

    Raises:
        InputError: notebook 04 has not run, or its summary lacks a column.
    """
    source = errors.file_exists(out / "tables/04_summary.csv", "Run notebook 04 first.")
    summary = pd.read_csv(source, dtype=_TEXT)
    errors.has_columns(summary, summary_table.SUMMARY_COLUMNS, "04_summary.csv")
    tables = {name: _table(out, f"04_{name}") for name in TABLES}
    records = records_of(out, summary)
    name = cohort_of(records)
    cohort = files.readable_json(out / "cohort" / name / "record.json") if name else {}
    first = _first_page(out, summary, tables, cohort)
    behind = _behind(out, summary, tables, records, cohort)
    return _template().render(
        title=title,
        pictures={name: _picture(out, *of) for name, of in FIGURES.items()},
        colors=_colors(summary),
        **first,
        **behind,
        **_links(out, steps),
    )


def cohort_of(records: dict[str, dict]) -> str:
    """Return the name of the cohort whose patients a page is about, "" of other people's models.

    Args:
        records: of the runs in its summary, in that order.
    """
    return next((record["cohort"] for record in records.values() if "cohort" in record), "")


def records_of(out: Path, summary: pd.DataFrame) -> dict[str, dict]:
    """Return the records of the runs in `04_summary.csv`, empty ones of those that have none."""
    return {run: files.readable_json(out / f"runs/{run}/record.json") for run in summary["run"]}


def said_by(page: str) -> tuple[str, list[str]]:
    """Return the title of a page of `of_folder`, and the steps it links to.

    Args:
        page: its HTML.
    """
    title = re.search(r"<title>(.*?)</title>", page, re.DOTALL)
    steps = [html.unescape(step) for step in _LINK.findall(page)]
    return html.unescape(title.group(1)) if title else "", steps


def _first_page(out: Path, summary: pd.DataFrame, tables: dict, cohort: dict) -> dict:
    """Return the values of the first page."""
    private = summary[summary["arm"] == "dp"]
    changes, sizes = tables["gap_changes"], tables["group_sizes"]
    banner = report_privacy.banner(cohort, private["mode"].dropna(), len(private) > 0)
    worst = report_answers.worst_groups(
        tables["worst_groups"], tables["groups_at_once"], sizes, changes, tables["metrics"]
    )
    pays = report_who_pays.who_pays(
        changes, tables["planned"], summary, sizes["n_patients"].iloc[0]
    )
    models = report_answers.models(summary, tables["metrics"], tables["paired_differences"])
    there = {path.stem for path in out.glob("tables/*.csv")}
    return {
        "banner": banner,
        "n_test": report_words.count(sizes["n_patients"].iloc[0]),
        "margin": f"{changes['margin'].iloc[0]:g}" if "margin" in changes and len(changes) else "",
        "operating_point": report_words.operating_point(
            next(iter(tables["paired_differences"].get("operating_point", ())), "")
        ),
        "models": models,
        "has_0": any(
            report_words.INCLUDES_0 in text
            for of in [*models, *(row for group in worst for row in group["rows"])]
            for text in of.values()
        ),
        "worst": worst,
        "worst_without_privacy": report_answers.worst_without_privacy(tables["worst_groups"]),
        "pays": pays,
        "to_check": report_answers.to_check(
            cohort.get("access") == "embedded", banner, worst, pays, summary, there
        ),
    }


def _behind(
    out: Path, summary: pd.DataFrame, tables: dict, records: dict[str, dict], cohort: dict
) -> dict:
    """Return the values of the sections behind the first page."""
    arms = study_arms.main_arms(summary)
    names = {row.run: report_words.arm_name(row) for row in arms.itertuples() if row.arm == "dp"}
    parts, elsewhere = tables["price_parts"], tables["elsewhere"]
    changes = tables["gap_changes"]
    return {
        "statements": report_privacy.statements(records, names),
        "spent": summary_table.spent_in(out),
        "budgets": report_privacy.budgets(tables["spent"], summary),
        "not_covered": report_privacy.not_covered(records),
        "parts": report_sections.parts(parts, summary),
        "parts_in_words": price_parts.in_words(parts),
        "planned": report_sections.planned_rows(tables["planned"], changes, summary),
        "cohort": report_sections.cohort_table(
            _table(out, "01_by_split"),
            _table(out, "01_prevalence_by_split"),
            cohort.get("cohort", ""),
        ),
        "sizes": report_sections.group_sizes(tables["group_sizes"]),
        "small_groups": report_sections.small_groups(cohort),
        "not_estimable": report_sections.not_estimable(changes),
        "averaged": report_sections.averaged(tables["findings_averaged"]),
        "seeds": list(dict.fromkeys(changes.get("seeds", pd.Series(dtype=str)).dropna())),
        "elsewhere": report_answers.levels(elsewhere),
    }


def _links(out: Path, steps: Collection[str]) -> dict:
    """Return what is linked to: pages, folders, model cards, the crate, and the checklist."""
    pages = {step: f"notebooks/{step}.html" for step in steps}
    pages |= {path.stem: path.name for path in sorted(out.glob("[0-9]*.html"))}
    folders = {f"{name}/": f"{name}/" for name in FOLDERS if (out / name).is_dir()}
    cards = {
        path.parent.name: path.relative_to(out).as_posix()
        for path in sorted(out.glob("runs/*/model_card.md"))
    }
    tables = [
        artefact
        for *_, artefact in checklist.CHECKLIST
        if artefact.startswith("tables/") and (out / artefact).is_file()
    ]
    crate = {"crate": "ro-crate-metadata.json"} if steps else {}  # written after this page
    return {
        "pages": pages,
        "folders": folders | crate,
        "folder_words": FOLDERS,
        "crate": crate,
        "cards": cards,
        "checklist": checklist.rows(pages | folders, tables),
    }


def _table(out: Path, name: str) -> pd.DataFrame:
    """Return a table of a results folder, without a row where it is not there."""
    path = out / "tables" / f"{name}.csv"
    return pd.read_csv(path, dtype=_TEXT) if path.is_file() else pd.DataFrame()


def _picture(out: Path, name: str, alt: str) -> dict | None:
    """Return a figure as the address of its own content, with its alt text; None without one."""
    kinds = {".svg": "image/svg+xml", ".png": "image/png"}
    for ending, kind in kinds.items():
        if (path := out / "figures" / f"{name}{ending}").is_file():
            content = base64.b64encode(path.read_bytes()).decode()
            return {"src": f"data:{kind};base64,{content}", "alt": alt}
    return None


def _colors(summary: pd.DataFrame) -> dict[str, str]:
    """Return the colour of each arm in all figures, as #rrggbb."""
    from matplotlib import colors  # here: a study is planned without drawing

    of_arms = house_style.arm_colors(list(study_arms.main_arms(summary)["arm_label"]))
    return {arm: colors.to_hex(color) for arm, color in of_arms.items()}


def _template() -> jinja2.Template:
    """Return the page's template; text is escaped, and what it names has to be there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["minus"] = with_minus
    return environment.get_template("report.html.j2")


def with_minus(text: str) -> str:
    """Return text with a minus before negative numbers, which is read aloud, in place of a
    hyphen.
    """
    return re.sub(r"(?<![\w.-])-(?=\.?\d)", "\N{MINUS SIGN}", text)
