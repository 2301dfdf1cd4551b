"""What notebook 04 says in tables and sentences, computed from reductions of `fairness`.

In: summarised tables. Out: tables in a reader's order, sentences. Refuses: runs of another cohort or of other data.
"""

import pandas as pd

from helpers import checks, fairness, groups, runs, synthetic
from helpers.replicates import ALL, REST


def records_of(cohort: str, names: list[str], data_hash: str) -> list[dict]:
    """Return the records of a cohort's runs: zero-shot, baselines, private runs by budget.

    Args:
        cohort: name of the cohort.
        names: runs wanted; [] for all finished ones.
        data_hash: of the cohort as it is now.

    Raises:
        InputError: no run, a run that is not there, or one that was made with other data.
    """
    records = [runs.read_record(name) for name in names or runs.runs_of(cohort)]
    if not records:
        checks.refuse(f"at least one finished run of {cohort}", "none", "Run notebook 02 or 03 first.")
    for record in records:
        if record["cohort"] != cohort or record["data_hash"] != data_hash:
            checks.refuse(f"runs made with {cohort} as it is now", f"{record['run']}, made with other data",
                          "Run it again, or name the wanted ones in RUNS.")
    return records


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of groups sorted for reading, with a `label` that names attribute and group.

    Attributes and runs stay in the order in which they come; bands go from low to high, "unknown" comes last.
    """
    attributes = list(dict.fromkeys(table["attribute"]))
    keys = sorted(set(zip(table["attribute"], table["group"])), key=lambda k: (attributes.index(k[0]), groups.place(k[1])))
    ranks = {key: rank for rank, key in enumerate(keys)}
    rank = [ranks[key] for key in zip(table["attribute"], table["group"])]
    plain = table["attribute"].isin(["sex", ALL])
    label = table["group"].where(plain, table["attribute"] + " " + table["group"])
    return table.assign(label=label, rank=rank).sort_values("rank", kind="stable", ignore_index=True).drop(columns="rank")


def shown(table: pd.DataFrame, form: str = "{:.3f}", missing: str = "not estimable") -> pd.DataFrame:
    """Return a table for reading: floats in one form, missing ones said in words, the first column as row names."""
    text = table.copy()
    for column in table.select_dtypes("float").columns:
        text[column] = [missing if pd.isna(value) else form.format(value) for value in table[column]]
    text = text.astype(object).where(text.notna(), missing)
    return text if text.index.name else text.set_index(text.columns[0])


def wide(table: pd.DataFrame, columns: str | list[str], rows: str = "label") -> pd.DataFrame:
    """Return the estimates with groups (or findings) as rows and runs as columns, both in the order they come."""
    keys = [rows, *([columns] if isinstance(columns, str) else columns)]
    return table.set_index(keys)["estimate"].unstack(keys[1:], sort=False)


def by_group(estimates: pd.DataFrame, sizes: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the mean over findings of one metric in each group and run, with the group's size in its label.

    Args:
        estimates: from `fairness.summarise` of macro values, with arm_label.
        sizes: from `replicates.group_sizes`.
        metric: name of the metric.
    """
    rows = estimates[(estimates["metric"] == metric) & (estimates["finding"] == "macro")]
    rows = in_order(rows[~rows["group"].str.startswith(REST)].merge(sizes, on=["attribute", "group"]))
    return rows.assign(label=rows["label"] + " (" + rows["n_patients"].map("{:,}".format) + " patients)")


def conclusions(summary: pd.DataFrame, changes: pd.DataFrame, metric_table: pd.DataFrame, baseline: str | None) -> list[str]:
    """Return one sentence on the price of privacy, and one on its spread over groups, for every private run.

    Args:
        summary: from `fairness.summary`.
        changes: summarised `fairness.gap_changes` of AUROC.
        metric_table: from `replicates.replicate`.
        baseline: the run without privacy, or None.
    """
    private = summary[summary["arm"] == "dp"]
    public = next(iter(summary.loc[summary["arm"] == "zero_shot", "run"]), None)
    if baseline is None or private.empty:
        return [f"{row.arm_label}: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}]. "
                "The price of privacy needs a baseline run and a private run." for row in summary.itertuples()]
    mean = fairness.macro(metric_table).xs(("auroc", "macro", ALL, ALL), level=["metric", "finding", "attribute", "group"])
    said = []
    for row in private.itertuples():
        price = fairness.interval(mean.loc[row.run] - mean.loc[baseline])
        own = changes[(changes["run"] == row.run)].dropna(subset="estimate")
        moved = own[(own["low"] > 0) | (own["high"] < 0)]
        name = row.arm_label if "per image" in row.arm_label else f"{row.arm_label} per {row.unit}"
        said.append(f"{name}: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}]; "
                    + fairness.in_words(*price, "the price of privacy" if row.recipe == "default" else
                                        "the difference to the run without privacy, which has another recipe") + ".")
        if public:
            gain = fairness.interval(mean.loc[row.run] - mean.loc[public])
            said.append("   " + fairness.in_words(*gain, "What private patients added to the public model") + ".")
        named = "; ".join(f"{change.label} {change.estimate:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
                          for change in moved.itertuples())
        said.append(f"   Of {len(own)} estimable contrasts between groups, privacy moves {len(moved)} by more than the "
                    f"choice of test patients explains (about {0.05 * len(own):.1f} expected by chance)" + (f": {named}." if named else "."))
    return said


def planted_beside_found(cohort_record: dict, contrasts: pd.DataFrame) -> pd.DataFrame:
    """Return what the generator planted beside the contrasts found; empty for a cohort that it did not draw.

    Args:
        cohort_record: of the cohort.
        contrasts: summarised AUROC contrasts, mean over findings.
    """
    if cohort_record["access"] != "embedded":
        return pd.DataFrame(columns=["attribute", "group", "effect", "range", "arm_label", "found", "low", "high"])
    parts = []
    for effect in synthetic.planted_truth().itertuples():
        is_age = effect.attribute == "age_years"
        attribute = "age" if is_age else effect.attribute
        group = ">= 80 - rest" if is_age else f"{effect.group} - {effect.comparison}"
        rows = contrasts[(contrasts["attribute"] == attribute) & (contrasts["group"] == group) & (contrasts["recipe"] == "default")]
        expected = {"baseline": f"{effect.contrast_low:+.2f} to {effect.contrast_high:+.2f}",
                    "dp": f"{effect.private_contrast_low:+.2f} to {effect.private_contrast_high:+.2f}"}
        parts.append(rows[["attribute", "group", "arm_label", "low", "high"]].assign(
            effect=effect.effect.replace("_", " "), found=rows["estimate"], range=rows["arm"].map(expected).fillna("")))
    return pd.concat(parts)[["attribute", "group", "effect", "range", "arm_label", "found", "low", "high"]]
