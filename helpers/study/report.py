"""The study's report: a small table for the terminal, and a page that links to everything.

In: the tables of notebook 04, a figure, links. Out: text and HTML. Raises `InputError` for a
table without the columns of `SUMMARY_COLUMNS`.

`python -m helpers.study.report RESULTS NAME` keeps a results folder's summary and curve as
`expected/NAME.*`; of the demo it renews README's table too, so that no number there is typed.
"""

import base64
import html
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from helpers.analysis import price_parts, readable_tables
from helpers.core import errors, files, paths
from helpers.study import checklist

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
# tables of notebook 06 that are kept
AUDITED = ("attacks", "audited_epsilon", "beside_bounds", "exposed", "groups")
_STYLE = """
body {font: 16px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222}
table {border-collapse: collapse}
th, td {padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left}
img {max-width: 100%}"""


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return notebook 04's summary as it is shown: a row a run, each number with its 95 % CI.

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


def parts(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the price of privacy is made of as it is shown: a row a part, with its 95 % CI.

    Args:
        table: notebook 04's, from `price_parts.parts`; without a row where it is not known.

    Returns:
        No row of runs of another recipe.
    """
    return pd.DataFrame(
        [
            {
                "budget": f"{row.epsilon:g} per {row.unit}"
                + (f", {row.recipe}" if row.recipe != "default" else "")
                + (f", {row.of_seeds}" if row.of_seeds and isinstance(row.of_seeds, str) else ""),
                "part": row.part,
                "difference": row.difference,
                "mean AUROC lost": "not estimable"
                if pd.isna(row.estimate)
                else readable_tables.with_interval(row),
            }
            for row in price_parts.shown(table).itertuples()
        ]
    )


def spent_in(out: Path) -> str:
    """Return what the private runs of a results folder spent together, in words; "" if unknown."""
    path = out / "tables/04_spent_together.csv"
    return pd.read_csv(path)["what was spent"].iloc[0] if path.is_file() else ""


def of_folder(out: Path, title: str, steps: list[str]) -> str:
    """Return the page of a finished study, see `page`.

    Args:
        out: its results folder.
        title: of the study.
        steps: ids of its steps, in order.

    Raises:
        InputError: notebook 04's summary lacks a column.
    """
    parts = out / "tables/04_price_parts.csv"
    links = {step: f"notebooks/{step}.html" for step in steps}
    links |= {f"{folder}/": f"{folder}/" for folder in ("tables", "figures", "runs", "cohort")}
    links |= {
        f"model card of {path.parent.name}": path.relative_to(out).as_posix()
        for path in sorted(out.glob("runs/*/model_card.md"))
    }
    tables = {
        artefact
        for *_, artefact in checklist.CHECKLIST
        if artefact.startswith("tables/") and (out / artefact).is_file()
    }
    return page(
        title,
        summary(pd.read_csv(out / "tables/04_summary.csv")),
        out / "figures/04_privacy_utility.png",
        links,
        tables,
        spent_in(out),
        pd.read_csv(parts) if parts.is_file() else None,
    )


def page(
    title: str,
    table: pd.DataFrame,
    figure_png: Path,
    links: dict[str, str],
    tables: Collection[str] = (),
    spent: str = "",
    price: pd.DataFrame | None = None,
) -> str:
    """Return the study's page, which needs no network and no other file to be read.

    Args:
        title: of the study.
        table: from `summary`.
        figure_png: the privacy-utility curve.
        links: text -> relative address of the study's pages and folders.
        tables: relative addresses of further tables that are there.
        spent: what the private runs on these patients spent together, in words.
        price: what the price of privacy is made of, from `price_parts.parts`; None for not known.
    """
    price = pd.DataFrame(columns=price_parts.COLUMNS) if price is None else price
    made_of = parts(price).to_html(index=False, border=0) if len(parts(price)) else ""
    picture = base64.b64encode(figure_png.read_bytes()).decode()
    items = "\n".join(
        f'<li><a href="{html.escape(address)}">{html.escape(text)}</a></li>'
        for text, address in links.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<style>{_STYLE}</style></head><body>
<h1>{html.escape(title)}</h1>
<h2>Price of privacy, and how well groups are served</h2>
{table.to_html(index=False, border=0)}
<p>Mean AUROC over findings. By sex: AUROC of women minus men; by age: of the oldest band minus the
rest; 0 means that both are served equally well, and a contrast that was there without privacy is
no cost of it: for changes see notebook 04. In brackets, 95 % confidence intervals over patients.
"(demo)": the noise follows from a published seed, so that results repeat;
epsilon is then no guarantee.</p>
<p>{html.escape(spent)}</p>
<img src="data:image/png;base64,{picture}" alt="Mean AUROC against the privacy budget epsilon,
with 95 % confidence intervals; the numbers are those of the table above.">
<h2>What the price is made of</h2>
{made_of}
<p>{html.escape(price_parts.in_words(price))}</p>
<h2>Notebooks, tables and records</h2>
<ul>
{items}
</ul>
<h2>Checklist for a report</h2>
<p>Items of CLAIM (2020) and TRIPOD+AI (2024), and what in this folder answers them. The last row is
for the authors' own words.</p>
<table><tr><th>item</th><th>what</th><th>where</th></tr>
{checklist.rows(links, tables)}
</table>
</body></html>
"""


def markdown(table: pd.DataFrame) -> str:
    """Return a table from `summary` in Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).values.tolist()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def renew_readme(readme: str, table: pd.DataFrame) -> str:
    """Return README's text with the table between its two `demo table` marks renewed.

    Raises:
        InputError: a mark is absent.
    """
    begin, end = "<!-- demo table -->", "<!-- /demo table -->"
    if begin not in readme or end not in readme:
        errors.refuse(
            f"the marks {begin} and {end} in README.md",
            "one of them absent",
            "Put them around the table.",
        )
    before, rest = readme.split(begin, 1)
    return f"{before}{begin}\n{markdown(summary(table))}\n{end}{rest.split(end, 1)[1]}"


def keep_as_expected(results: Path, name: str) -> None:
    """Keep summary and curve of a results folder as `expected/<name>*`; of the demo also the figure
    of the gaps' changes, and README's table; of an audit its tables and figures.
    """
    folder, readme = paths.repository_root() / "expected", paths.repository_root() / "README.md"
    source = errors.file_exists(results / "tables" / "04_summary.csv", "Run the study first.")
    table = pd.read_csv(source).drop(columns="seconds").round(6)
    files.write_table(folder / f"{name}.csv", table)
    shutil.copyfile(results / "figures" / "04_privacy_utility.png", folder / f"{name}.png")
    for audited in sorted((results / "figures").glob("06_*.png")):
        shutil.copyfile(audited, folder / f"{name}_{audited.name}")
    for what in AUDITED:
        if (source := results / "tables" / f"06_{what}.csv").is_file():
            files.write_table(folder / f"{name}_{source.name}", pd.read_csv(source).round(4))
    if name == "demo":
        shutil.copyfile(results / "figures" / "04_gap_changes_people.png", folder / "demo_gaps.png")
        table = pd.read_csv(folder / "demo.csv")
        files.write_text(readme, renew_readme(readme.read_text(encoding="utf-8"), table))


if __name__ == "__main__":
    keep_as_expected(Path(sys.argv[1]), sys.argv[2])
