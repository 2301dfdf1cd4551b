"""The study's answer: a small table for the terminal, and a page that links to everything.

In: the summary table of notebook 04, a figure, links. Out: text and HTML. Refuses: a table without
the columns of `SUMMARY_COLUMNS`.

`python -m helpers.report RESULTS NAME` keeps a results folder's summary and curve as
`expected/NAME.*`, and renews the table in README of a study shown there, so that no number there is
typed.
"""

import base64
import html
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from helpers.core import errors, files, paths

SUMMARY_COLUMNS = [
    "run",
    "arm",
    "epsilon",
    "unit",
    "recipe",
    "mode",
    "macro_auroc",
    "low",
    "high",
    "sex_contrast",
    "sex_low",
    "sex_high",
    "age_contrast",
    "age_low",
    "age_high",
]
SHOWN_IN_README = ("demo", "demo_ct")
# Which artefact answers which item of CLAIM (Mongan, Moy and Kahn 2020) and TRIPOD+AI (Collins et
# al. 2024); {01} to {04}: pages.
CHECKLIST = [
    ("CLAIM 7, TRIPOD+AI 5", "Sources of data, licence", "{01}"),
    ("CLAIM 8 and 33, TRIPOD+AI 6 and 20", "Who is in, who was left out and why", "{01}"),
    ("CLAIM 9, TRIPOD+AI 7", "Preparation of images", "{01}"),
    ("CLAIM 13, TRIPOD+AI 11", "Missing labels, ages and sexes", "{01}"),
    ("CLAIM 14, TRIPOD+AI 8", "Definition of the findings", "{01}"),
    ("CLAIM 20 and 21, TRIPOD+AI 16", "Partitions, disjoint by patient", "{01}"),
    ("CLAIM 34, TRIPOD+AI 20", "Patients by partition, age and sex", "{01}"),
    (
        "CLAIM 22, 24 and 25, TRIPOD+AI 12 and 22",
        "Network, start, training, all parameters",
        "runs/",
    ),
    (
        "CLAIM 26",
        (
            "Which model is kept: that of the last step of a fixed schedule, its weights a running"
            " mean"
        ),
        "{02}",
    ),
    (
        "beyond both",
        "What privacy is promised, to whom, what was spent, what is not covered",
        "{03}",
    ),
    (
        "beyond both",
        "What all private runs on these patients spent together",
        "tables/04_spent.csv",
    ),
    ("CLAIM 28, TRIPOD+AI 12", "Measures of performance, thresholds from valid", "{04}"),
    (
        "CLAIM 29 and 36, TRIPOD+AI 23",
        "Performance with intervals over patients, in key subgroups",
        "tables/04_metrics.csv",
    ),
    (
        "CLAIM 19, TRIPOD+AI 10",
        "What the size of the test set could have shown",
        "tables/04_planned.csv",
    ),
    (
        "TRIPOD+AI 14",
        "Fairness: contrasts, their change by privacy, verdicts",
        "tables/04_gap_changes.csv",
    ),
    (
        "CLAIM 30",
        "Sensitivity analyses: one image a patient, closed-form errors",
        "tables/05_one_image_each.csv",
    ),
    ("CLAIM 32, TRIPOD+AI 12", "External validation, where EVALUATE_ON names a data set", "{04}"),
    (
        "CLAIM 37",
        "Where models fail: price by finding and group",
        "tables/04_price_by_finding_and_group.csv",
    ),
    ("CLAIM 23, TRIPOD+AI 18", "Software, versions, commit, hardware of every run", "runs/"),
    (
        "CLAIM 3, 12, 38, 40 to 42, TRIPOD+AI 3, 17 to 19, 26",
        "Clinical role, ethics, de-identification, registration, protocol, funding, limitations",
        "",
    ),
]
_STYLE = """body {font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222}
table {border-collapse: collapse} th, td {padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left}
img {max-width: 100%}"""


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return notebook 04's summary as it is shown: a row a run, each number with its 95 % interval.

    Args:
        table: with `SUMMARY_COLUMNS`; contrasts are AUROC of a group minus AUROC of the rest.

    Raises:
        InputError: a column is absent.
    """
    errors.has_columns(table, SUMMARY_COLUMNS, "04_summary.csv")

    def with_interval(row: pd.Series, value: str, low: str, high: str, form: str) -> str:
        if pd.isna(row[value]):
            return "not estimable"
        if pd.isna(row[low]):
            return f"{row[value]:{form}}"
        return f"{row[value]:{form}} [{row[low]:{form}}, {row[high]:{form}}]"

    return pd.DataFrame(
        [
            {
                "arm": row["arm"] + (f", {row['recipe']}" if row["recipe"] != "default" else ""),
                "epsilon": (
                    ""
                    if pd.isna(row["epsilon"])
                    else f"{row['epsilon']:g} per {row['unit']}"
                    + (f" ({row['mode']})" if row["mode"] in ("demo", "no guarantee") else "")
                ),
                "mean AUROC": with_interval(row, "macro_auroc", "low", "high", ".3f"),
                "by sex": with_interval(row, "sex_contrast", "sex_low", "sex_high", "+.3f"),
                "by age": with_interval(row, "age_contrast", "age_low", "age_high", "+.3f"),
            }
            for _, row in table.iterrows()
        ]
    )


def page(
    title: str,
    table: pd.DataFrame,
    figure_png: Path,
    links: dict[str, str],
    tables: Collection[str] = (),
    spent: str = "",
) -> str:
    """Return the study's page, which needs no network and no other file to be read.

    Args:
        title: of the study.
        table: from `summary`.
        figure_png: the privacy-utility curve.
        links: text -> relative address of the study's pages and folders.
        tables: relative addresses of further tables that are there.
        spent: what the private runs on these patients spent together, in words.
    """
    picture = base64.b64encode(figure_png.read_bytes()).decode()
    items = "\n".join(
        f'<li><a href="{html.escape(address)}">{html.escape(text)}</a></li>'
        for text, address in links.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<h2>What privacy costs, and who pays</h2>
{table.to_html(index=False, border=0)}
<p>Mean AUROC over findings. By sex: AUROC of women minus men; by age: of the oldest band minus the
rest; 0 means that both are served equally well. In brackets, 95 % intervals from a bootstrap of patients.
"(demo)": the noise follows from a published seed, so that results repeat; epsilon is then no guarantee.</p>
<p>{html.escape(spent)}</p>
<img src="data:image/png;base64,{picture}" alt="Mean AUROC against the privacy budget epsilon, with 95 % intervals;
the numbers are those of the table above.">
<h2>Notebooks, tables and records</h2>
<ul>
{items}
</ul>
<h2>Checklist for a report</h2>
<p>Items of CLAIM (2020) and TRIPOD+AI (2024), and what in this folder answers them. The last row is for the authors' own words.</p>
<table><tr><th>item</th><th>what</th><th>where</th></tr>
{checklist(links, tables)}
</table>
</body></html>
"""


def checklist(links: dict[str, str], tables: Collection[str] = ()) -> str:
    """Return the rows of `CHECKLIST` as HTML; an artefact that this study does not have is said to
    be absent.

    Args:
        links, tables: as in `page`.
    """
    there = {*links.values(), *tables}
    pages = {
        number: next(
            (address for text, address in links.items() if text.startswith(f"{number}_")), ""
        )
        for number in ("01", "02", "03", "04")
    }
    rows = []
    for item, what, place in CHECKLIST:
        address = pages[place.strip("{}")] if place.startswith("{") else place
        where = (
            "in the paper"
            if not place
            else (
                f'<a href="{html.escape(address)}">{html.escape(address)}</a>'
                if address in there
                else "not in this study"
            )
        )
        rows.append(f"<tr><td>{item}</td><td>{html.escape(what)}</td><td>{where}</td></tr>")
    return "\n".join(rows)


def markdown(table: pd.DataFrame) -> str:
    """Return a table from `summary` in Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def renew_readme(readme: str, table: pd.DataFrame, name: str = "demo") -> str:
    """Return README's text with the table between its two `<name> table` marks renewed.

    Raises:
        InputError: a mark is absent.
    """
    begin, end = f"<!-- {name} table -->", f"<!-- /{name} table -->"
    if begin not in readme or end not in readme:
        errors.refuse(
            f"the marks {begin} and {end} in README.md",
            "one of them absent",
            "Put them around the table.",
        )
    before, rest = readme.split(begin, 1)
    return f"{before}{begin}\n{markdown(summary(table))}\n{end}{rest.split(end, 1)[1]}"


def keep_as_expected(results: Path, name: str) -> None:
    """Keep summary and curve of a results folder (of the demo also the gaps) as `expected/<name>*`.

    Renew README's table of it.
    """
    folder = paths.repository_root() / "expected"
    source = errors.file_exists(results / "tables" / "04_summary.csv", "Run the study first.")
    files.write_table(folder / f"{name}.csv", pd.read_csv(source).drop(columns="seconds").round(6))
    shutil.copyfile(results / "figures" / "04_privacy_utility.png", folder / f"{name}.png")
    if name == "demo":
        shutil.copyfile(results / "figures" / "04_gap_changes_people.png", folder / "demo_gaps.png")
    if name in SHOWN_IN_README:
        readme = paths.repository_root() / "README.md"
        files.write_text(
            readme,
            renew_readme(
                readme.read_text(encoding="utf-8"), pd.read_csv(folder / f"{name}.csv"), name
            ),
        )


if __name__ == "__main__":
    keep_as_expected(Path(sys.argv[1]), sys.argv[2])
