"""The study in a small table: for the terminal, README and `expected/`.

In: the summary of notebook 04. Out: text, Markdown, files. Raises `InputError` for a table without
the columns of `SUMMARY_COLUMNS`.

`python -m helpers.study.summary_table RESULTS NAME` keeps a results folder's summary and curve as
`expected/NAME.*`, and how long its steps took on this machine; of the demo it renews README's table
too, so that no number there is typed.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

from helpers.analysis import readable_tables
from helpers.core import errors, files, paths, run_records

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


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return notebook 04's summary as it is shown: a row a run, each number with its 95 % CI.

    Args:
        table: with `SUMMARY_COLUMNS`; contrasts are AUROC of a group minus AUROC of the rest.

    Raises:
        InputError: a column is absent.
    """
    errors.has_columns(table, SUMMARY_COLUMNS, "04_summary.csv")

    def with_interval(row: pd.Series, value: str, low: str, high: str, form: str) -> str:
        named = row[[value, low, high]].set_axis(["estimate", "low", "high"])
        return readable_tables.estimable(named, form)

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


def spent_in(out: Path) -> str:
    """Return what the private runs of a results folder spent together, in words; "" if unknown."""
    path = out / "tables/04_spent_together.csv"
    return pd.read_csv(path)["what was spent"].iloc[0] if path.is_file() else ""


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
    """Keep summary, curve and seconds of a results folder as `expected/<name>*`; of the demo also
    the figure of the gaps' changes, and README's table; of an audit its tables and figures.
    """
    folder, readme = paths.repository_root() / "expected", paths.repository_root() / "README.md"
    source = errors.file_exists(results / "tables" / "04_summary.csv", "Run the study first.")
    table = pd.read_csv(source).drop(columns="seconds").round(6)
    files.write_table(folder / f"{name}.csv", table)
    shutil.copyfile(results / "figures" / "04_privacy_utility.png", folder / f"{name}.png")
    keep_seconds(results, name)
    for audited in sorted((results / "figures").glob("06_*.png")):
        shutil.copyfile(audited, folder / f"{name}_{audited.name}")
    for what in AUDITED:
        if (source := results / "tables" / f"06_{what}.csv").is_file():
            files.write_table(folder / f"{name}_{source.name}", pd.read_csv(source).round(4))
    if name == "demo":
        shutil.copyfile(results / "figures" / "04_gap_changes_people.png", folder / "demo_gaps.png")
        table = pd.read_csv(folder / "demo.csv")
        files.write_text(readme, renew_readme(readme.read_text(encoding="utf-8"), table))


def seconds_path(name: str) -> Path:
    """Return where the seconds of a profile's steps are kept."""
    return paths.repository_root() / "expected" / f"{name}_seconds.json"


def keep_seconds(results: Path, name: str) -> None:
    """Keep how long each finished step of a results folder took on this machine, beside a
    fingerprint of its parameters.
    """
    states = {path.stem: files.readable_json(path) for path in results.glob(".state/*.json")}
    steps = {
        step: {"seconds": round(state["seconds"], 1), "parameters": state["parameters"]}
        for step, state in sorted(states.items())
        if "parameters" in state
    }
    files.write_json(seconds_path(name), {"hardware": run_records.hardware(), "steps": steps})


if __name__ == "__main__":
    keep_as_expected(Path(sys.argv[1]), sys.argv[2])
