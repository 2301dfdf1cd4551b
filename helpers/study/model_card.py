"""A model card for each private run: what the model is, for whom, how good in which group, what is
promised, what is not known.

In: a results folder with the tables of notebook 04. Out: `model_card.md` in the folder of each
private run, after Mitchell et al. (2019), "Model cards for model reporting". Groups whose
sizes are not shown there are left out.
"""

from pathlib import Path

import pandas as pd

from helpers.analysis import readable_tables
from helpers.core import errors, files, small_counts
from helpers.privacy import privacy_ledger, statement
from helpers.study import summary_table

_TRAINED = {"head": "its head alone", "all_then_head": "all weights, then the head,"}
_USE = (
    "To repeat and to question the study it is part of. Not a medical device: nobody may be"
    " diagnosed, treated or turned away by its scores. Before any use elsewhere it has to be"
    " tested on patients of that place, by group, with thresholds fitted there."
)


def write(out: Path) -> list[Path]:
    """Write the card of each private run in the tables of a finished study; return the files.

    Raises:
        InputError: notebook 04 has not run.
    """
    written = []
    for run in _table(out, "04_metrics")["run"].unique():
        folder = out / "runs" / run
        record = files.readable_json(folder / "record.json")  # none of predictions from elsewhere
        if record.get("ledger"):
            files.write_text(folder / "model_card.md", card(out, record))
            written.append(folder / "model_card.md")
    return written


def _network(parameters: dict) -> str:
    """Return a run's network in words."""
    if "width" in parameters:
        return f"ResNet9 of width {parameters['width']}"
    return f"{parameters['network']} of torchvision, without BatchNorm"


def card(out: Path, record: dict) -> str:
    """Return a run's card in Markdown.

    Args:
        out: the results folder.
        record: of a private run.

    Raises:
        InputError: a table of notebook 04 is not there, or lacks a column.
    """
    cohort = files.read_json(out / "cohort" / record["cohort"] / "record.json", "Run notebook 01.")
    entries, parameters = record["ledger"], record["parameters"]
    lines = [
        f"# Model card: {record['run']}",
        "",
        f"A classifier of {', '.join(cohort['findings'])}: {_network(parameters)},"
        f" {_TRAINED.get(parameters.get('TRAINED'), 'all weights')} trained"
        f" with differential privacy (recipe {record['recipe']},"
        f" seed {record['seed']}); start: {entries['start']}. Weights: `weights.safetensors`,"
        f" SHA-256 of their values {record.get('weights_hash', 'not recorded')}.",
        "",
        "## Intended use",
        "",
        _USE,
        "",
        "## Privacy",
        "",
        statement.privacy_statement(entries),
        "",
        f"- guarantee: {entries['guarantee']}",
        f"- per {entries['unit']}: epsilon {_spent(entries)} at delta"
        f" {entries['delta']:g} (PLD, an upper bound), {entries['n_units']:,} units",
        *(f"- {name}: {words}" for name, words in entries["not_covered"].items()),
        "",
        "## Patients",
        "",
        f"{cohort['title']}. {cohort['n_images']:,} images of {cohort['n_patients']:,} patients;"
        f" {small_counts.left_out(cohort)}. Test patients by group:",
        "",
        _shown(
            _sizes(out)[["attribute", "label", "n_patients", "n_images"]].set_axis(
                ["attribute", "group", "patients", "images"], axis=1
            )
        ),
        "",
        "## Performance on test patients",
        "",
        "AUROC with 95 % confidence intervals over patients.",
        "",
        _shown(_performance(out, record["run"])),
        "",
        "## Does privacy cost some groups more?",
        "",
        "Change of each AUROC contrast against training without privacy, mean over findings."
        " Verdicts are against notebook 04's margin and not adjusted for their number.",
        "",
        _shown(_changes(out, record["run"])),
        "",
        "## Limits",
        "",
        "Groups and findings that are not in the tables could not be estimated, or have few"
        " patients. Intervals are over patients, and over training again only where there are"
        " several seeds. What other hospitals, scanners and years would show is not known from"
        " these numbers.",
        "",
    ]
    return "\n".join(lines)


def _table(out: Path, name: str) -> pd.DataFrame:
    """Return a table of notebook 04."""
    path = errors.file_exists(out / "tables" / f"{name}.csv", "Run the study to its end first.")
    return pd.read_csv(path)


def _sizes(out: Path) -> pd.DataFrame:
    """Return the groups whose sizes are shown."""
    sizes = _table(out, "04_group_sizes")
    counts = {"n_patients": int, "n_images": int}
    return sizes[sizes["n_patients"].notna()].astype(counts)


def _performance(out: Path, run: str) -> pd.DataFrame:
    """Return AUROC of each finding, and mean AUROC of each group that is shown."""
    rows = _table(out, "04_metrics")
    of_run = rows[(rows["run"] == run) & (rows["metric"] == "auroc") & rows["estimate"].notna()]
    everybody = of_run["attribute"] == "all"
    shown = _sizes(out)[["attribute", "group", "label"]]
    groups = of_run[~everybody & (of_run["finding"] == "macro")]
    shown = pd.concat(
        [
            of_run[everybody].assign(
                label=of_run["finding"].replace("macro", "mean over findings")
            ),
            shown.merge(groups, on=["attribute", "group"]),
        ]
    )
    aurocs = [readable_tables.with_interval(row, ".3f") for row in shown.itertuples()]
    return pd.DataFrame({"of": shown["label"], "AUROC": aurocs})


def _changes(out: Path, run: str) -> pd.DataFrame:
    """Return the change of each contrast by privacy, with its verdict, but of attributes of which a
    group is left out.
    """
    rows, sizes = _table(out, "04_gap_changes"), _table(out, "04_group_sizes")
    hidden = set(sizes.loc[sizes["n_patients"].isna(), "attribute"])
    rows = rows[(rows["run"] == run) & rows["estimate"].notna() & ~rows["attribute"].isin(hidden)]
    return pd.DataFrame(
        {
            "contrast": rows["label"],
            "change": [readable_tables.with_interval(row) for row in rows.itertuples()],
            "verdict": rows["verdict"],
        }
    )


def _spent(entries: dict) -> str:
    """Return what a ledger quotes as spent."""
    return privacy_ledger.number_in_words(entries["epsilon_spent"]["PLD"])


def _shown(table: pd.DataFrame) -> str:
    """Return a table in Markdown; a sentence where it has no row."""
    return summary_table.markdown(table) if len(table) else "None could be estimated, or shown."
