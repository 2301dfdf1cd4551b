"""What notebook 04 says in tables and sentences, computed from reductions of `fairness`.

In: summarised tables. Out: tables in a reader's order, sentences. Refuses: runs of another cohort or of other data.
"""

import numpy as np
import pandas as pd

from helpers import checks, cohorts, fairness, groups, manifests, metrics, outside, published, replicates, runs
from helpers import verdicts
from helpers.replicates import ALL, REST


def opened(cohort: str, names: list[str], predictions: list[dict],
           table_path: str) -> tuple[pd.DataFrame, dict, list[dict], dict[str, pd.DataFrame]]:
    """Return table of images, cohort's record, records of runs and their predictions: of a study, or of other models.

    Args:
        cohort, names: of a study's runs, see `records_of`.
        predictions, table_path: of other models, see `outside.study`; used where there are any.

    Raises:
        InputError: see there.
    """
    if predictions:
        table, records, found = outside.study(predictions, table_path)
        findings = list(dict.fromkeys(finding for rows in found.values() for finding in rows["finding"]))
        labels = pd.concat(found.values()).drop_duplicates(["image_id", "finding"]).pivot(index="image_id", columns="finding", values="label")
        return table.drop(columns=findings, errors="ignore").join(labels, on="image_id"), {"access": "outside", "findings": findings}, records, found
    cohort = manifests.name_of(cohort)
    table, record = cohorts.read_table(cohort)
    records = records_of(cohort, names, record["data_hash"])
    return table, record, records, {each["run"]: runs.read_predictions(each["run"]) for each in records}


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


def elsewhere(cohort: str, records: list[dict], *, n_bootstrap: int, min_patients: int, age_edges: list[float], seed: int) -> pd.DataFrame:
    """Return `fairness.summary` of the same models among the patients of another cohort.

    Args:
        cohort: where the models were tried, see `scoring.try_elsewhere`.
        records: of the models' runs.
        n_bootstrap, min_patients, age_edges, seed: see `replicates.replicate`.

    Raises:
        InputError: a model was not tried there, or on other data.
    """
    name = manifests.name_of(cohort)
    table, record = cohorts.read_table(name)
    there = records_of(name, [runs.elsewhere_name(each["run"], name) for each in records], record["data_hash"])
    predictions = {each["run"]: runs.read_predictions(each["run"]) for each in there}
    found = replicates.replicate(predictions, table, ["sex", "age"], n_bootstrap=n_bootstrap, min_patients=min_patients, seed=seed,
                                 age_edges=age_edges, names=("auroc",))
    return fairness.summary(fairness.arm_table(there), found)


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
    return text if any(text.index.names) else text.set_index(text.columns[0])


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
    return rows.assign(label=with_sizes(rows))


def with_sizes(rows: pd.DataFrame) -> pd.Series:
    """Return labels of groups with their numbers of patients and of positive labels."""
    return (rows["label"] + " (" + rows["n_patients"].map("{:,}".format) + " patients, " + rows["n_positive"].map("{:,}".format)
            + " positive)")


def conclusions(summary: pd.DataFrame, prices: pd.DataFrame, gains: pd.DataFrame, planned: pd.DataFrame,
                changes: pd.DataFrame) -> list[str]:
    """Return the study's answer in sentences: is anything predicted, what does privacy cost, do groups pay unequally.

    Args:
        summary: from `fairness.summary`.
        prices: summarised differences of mean AUROC to the run without privacy (`fairness.changes`); empty without one.
        gains: the same to the public model; empty without one.
        planned: from `verdicts.planned_table`.
        changes: from `verdicts.of_changes`, with label; all contrasts of AUROC of private arms.
    """
    said = []
    for row in summary[summary["macro_auroc"].isna() | ~summary["low"].map(verdicts.predicts)].itertuples():
        said.append(f"{row.arm_label}: mean AUROC is not estimable." if pd.isna(row.low) else
                    f"{row.arm_label}: no finding is predicted: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}] "
                    f"{'lies below' if row.high < 0.5 else 'does not lie above'} 0.5. What follows about it means nothing.")
    if len(said) == len(summary):
        return said
    private = summary[summary["arm"] == "dp"]
    if prices.empty or private.empty:
        return said + [f"{row.arm_label}: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}]. "
                       "The price of privacy needs a baseline run and a private run." for row in summary.itertuples()]
    for row in private.itertuples():
        name = row.arm_label if "per image" in row.arm_label else f"{row.arm_label} per {row.unit}"
        price = "the price of privacy" if row.recipe == "default" else "the difference to the run without privacy, which has another recipe"
        said.append(f"{name}: mean AUROC {row.macro_auroc:.3f} [{row.low:.3f}, {row.high:.3f}]; "
                    + verdicts.in_words(*_interval(prices, row.run), price) + ".")
        if len(gains) and row.recipe == "default":  # another recipe may start from another head of the public model
            said.append("   " + verdicts.in_words(*_interval(gains, row.run), "What private patients added to the public model") + ".")
        own = changes[changes["run"] == row.run]
        counts = own["verdict"].value_counts()
        said.append(f"   Of {len(own)} contrasts between groups: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + ".")
    for row in planned.itertuples():
        if row.verdict not in ("budget not run", "no such contrast here", "not estimable"):
            said.append(f"Planned: {row.group} at {row.arm_label}: gap_change {row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}], "
                        f"p {row.p_holm:.3f} after Holm; {row.verdict} (a change of {row.smallest_visible:.3f} would have been seen).")
    return said


def _interval(table: pd.DataFrame, run: str) -> tuple[float, float, float]:
    """Return estimate, low and high of a run's row."""
    return tuple(table.set_index("run").loc[run, ["estimate", "low", "high"]])


def findings_per_image(table: pd.DataFrame, findings: list[str], age_edges: list[float] | None = None) -> pd.DataFrame:
    """Return the number of findings present per test image, mean and standard deviation, by age group and sex.

    What the paper calls co-morbidity. Unknown labels count as absent, as there.

    Args:
        table: the cohort's table.
        findings: its findings.
        age_edges: see `groups.add_groups`.
    """
    test = groups.add_groups(table[table["split"] == "test"], ["age", "sex"], age_edges)
    number = test[findings].sum(axis=1)
    cells = number.groupby([test["group_age"], test["group_sex"]]).agg(["mean", "std", "size"])
    spread = cells["std"].map(lambda value: "" if np.isnan(value) else f" +- {value:.2f}")  # one image has none
    text = (cells["mean"].map("{:.2f}".format) + spread + cells["size"].map(" (n={:.0f})".format)).unstack()
    return text.loc[sorted(text.index, key=groups.place)].fillna("").rename_axis("age").reset_index().rename_axis(columns=None)


def standard_errors(predictions: dict[str, pd.DataFrame], metric_table: pd.DataFrame) -> pd.DataFrame:
    """Return the standard error of each run's AUROC by finding twice: from the bootstrap, and in closed form (Obuchowski).

    Args:
        predictions: run -> its predictions.
        metric_table: from `replicates.replicate`.

    Returns:
        run, finding, bootstrap, closed_form, ratio of the first to the second.
    """
    rows = []
    for run, predicted in predictions.items():
        for finding, part in predicted[(predicted["split"] == "test") & predicted["label"].notna()].groupby("finding", sort=False):
            variance = metrics.clustered_auroc_variance(*(part[column].to_numpy() for column in ("label", "score", "patient_id")))
            draws = metric_table.loc[(run, "auroc", finding, ALL, ALL)].to_numpy(float)[1:]
            rows.append({"run": run, "finding": finding, "bootstrap": draws.std(ddof=1), "closed_form": variance**0.5})
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["bootstrap"] / table["closed_form"].where(table["closed_form"] > 0))


def beside_published(summary: pd.DataFrame, contrasts: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return this study's curve and contrasts beside published ones, for `group_figures.plot_published`.

    Args:
        summary: from `fairness.summary`; private arms of one recipe and unit are shown, see `fairness.one_way`.
        contrasts: summarised AUROC contrasts, mean over findings, with label, attribute, arm, epsilon, recipe.
        names: of published results, see `published.read`; only verified values.
    """
    theirs = pd.concat([published.read(name) for name in names])
    curves, others = published.relative(theirs), published.contrasts(theirs)
    others = others[others["group"].isin(["female - male", "oldest 25% - rest"])].rename(columns={"group": "label"})
    without = next(iter(summary.loc[summary["arm"] == "baseline", "macro_auroc"]), np.nan)
    own = fairness.one_way(summary)
    ours = pd.DataFrame({"study": "this study", "epsilon": own["epsilon"], "auroc": own["macro_auroc"],
                         "difference": own["macro_auroc"] - without, "chance_corrected_ratio": (own["macro_auroc"] - 0.5) / (without - 0.5)})
    mine = contrasts[contrasts["run"].isin(own["run"]) & contrasts["attribute"].isin(["sex", fairness.age_attribute(contrasts)])]
    last = fairness.oldest(mine.loc[mine["attribute"] != "sex", "group"])
    mine = mine[mine["group"].isin(["female - male", last])]
    mine = pd.DataFrame({"study": "this study", "epsilon": mine["epsilon"], "label": mine["label"], "contrast": mine["estimate"]})
    return (pd.concat([part for part in (curves, ours) if len(part)], ignore_index=True),
            pd.concat([part for part in (others, mine) if len(part)], ignore_index=True))


def planted_beside_found(cohort_record: dict, contrasts: pd.DataFrame) -> pd.DataFrame:
    """Return what the generator planted beside the contrasts found; empty for a cohort that it did not draw.

    Args:
        cohort_record: of the cohort.
        contrasts: summarised AUROC contrasts, mean over findings.
    """
    if not cohort_record.get("planted_truth"):
        return pd.DataFrame(columns=["attribute", "group", "effect", "range", "arm_label", "found", "low", "high"])
    parts = []
    for effect in pd.DataFrame(cohort_record["planted_truth"]).itertuples():
        is_age = effect.attribute == "age_years"
        attribute = "age" if is_age else effect.attribute
        group = ">= 80 - rest" if is_age else f"{effect.group} - {effect.comparison}"
        rows = contrasts[(contrasts["attribute"] == attribute) & (contrasts["group"] == group) & (contrasts["recipe"] == "default")]
        expected = {"no privacy": f"{effect.contrast_low:+.2f} to {effect.contrast_high:+.2f}"} | {
            label: f"{effect.private_contrast_low:+.2f} to {effect.private_contrast_high:+.2f}"
            for label in rows.loc[rows["epsilon"].between(0.5, 2) & (rows["unit"] == "patient"), "arm_label"]}
        parts.append(rows[["attribute", "group", "arm_label", "low", "high"]].assign(
            effect=effect.effect.replace("_", " "), found=rows["estimate"], range=rows["arm_label"].map(expected).fillna("")))
    return pd.concat(parts)[["attribute", "group", "effect", "range", "arm_label", "found", "low", "high"]]
