"""Does the analysis find what was planted, and only that? Trained models among many fresh test
cohorts of the generator.

In: the results folder of a study on an embedded cohort (`make demo`; `make demo-ct` with `--ct`).
Truth: each model's AUROC contrasts on 100,000 fresh images (10,000 volumes), by finding; scanner B,
which is rare, on as many cohorts of its own. Then 200 fresh cohorts of 900 patients (30 of 325),
the same models; each cohort's contrast is held against the truth of the findings that it averages.
Out: `results/planted_truth.json` (`ct_planted_truth.json`), a row a contrast and model: truth and
its own standard error, in how many cohorts it is estimable, and among those the smallest visible
contrast, how often it was found (the 95 % interval leaves 0 out), how often the interval covers the
truth; the same for the gap_change of each private model. Exit code 1 where a visible one is found
in less than 80 % - 2 errors (nothing may be visible), one planted as 0 is called in more than 5 % +
2 errors, or a row covers the truth in less than 93 % - 2 errors of the cohorts.

    python benchmarks/planted_truth.py --results results
    python benchmarks/planted_truth.py --results results_ct --ct
"""

import argparse
import dataclasses
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core

import numpy as np
import pandas as pd
import torch

from helpers.analysis import (
    auroc_intervals,
    confidence_intervals,
    equivalence,
    estimate_tables,
    group_contrasts,
    influence_table,
    study_arms,
)
from helpers.core import files, paths, run_records
from helpers.data import manifests
from helpers.data.images import decode_volume
from helpers.data.synthetic import generators
from helpers.training import (
    network_settings,
    networks,
    prediction,
    start_weights,
    weight_files,
)

TRUTH_SEED, COHORTS_SEED, RARE_SEED = 101, 102, 103  # of the generator; 0 is the study's
CONTRASTS = {
    "sex": "female - male",
    "age": ">= 80 - rest",
    "scanner": "B - A",
    "admission": "weekend - weekday",
}
NULL = "admission"  # planted without effect
RARE = "scanner"  # whose second group is drawn on its own for the truth
LEAST, FEWEST_ROWS = 0.93, 20  # coverage; cohorts for a row to be judged


@dataclasses.dataclass(frozen=True)
class Study:
    """Which models are tried, and among how many fresh patients.

    truth_parts: how many times `blocks` are drawn for the truth. blocks: of the generator, to a
    cohort. rare_parts: of cohorts of scanner B alone.
    """

    cohort: str
    truth_parts: int
    n_cohorts: int
    blocks: int
    results: str
    rare_parts: int


RADIOGRAPHS = Study("synthetic_cxr_private", 33, 200, 9, "planted_truth.json", 6)
VOLUMES = Study("synthetic_ct_private", 31, 30, 13, "ct_planted_truth.json", 0)


def draw(study: Study, seed: int, number: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Return images and table of a fresh cohort of test patients, with labels of 1 or 0."""
    manifest = manifests.read(study.cohort)
    generator = generators.generator_of(manifest)
    size = (
        {name: getattr(manifest.volume, name) for name in ("shape", "spacing_mm")}
        if manifest.volume
        else {}
    )
    if seed == RARE_SEED:
        size |= {"scanner_b_share": 1.0}
    blocks = [
        generator.draw_block(manifest.layout.site, "test", number * study.blocks + k, seed, **size)
        for k in range(study.blocks)
    ]
    table = pd.concat([table for _, table in blocks], ignore_index=True).assign(split="test")
    labels = (table[list(generator.FINDINGS)] >= 1).astype(float)
    images = np.concatenate([images for images, _ in blocks])
    return (
        decode_volume.window(images, manifest.volume.window_hu) if manifest.volume else images
    ), table.assign(**labels)


def predict(
    study: Study, seed: int, number: int, results: str
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the table of a fresh cohort and the predictions of every model of the study."""
    os.environ["RESULTS_DIR"] = results
    torch.set_num_threads(1)
    images, table = draw(study, seed, number)
    settings, predictions = network_settings.read(study.cohort), {}
    rules = manifests.read(study.cohort).findings
    meanings = {finding: rule.meaning for finding, rule in rules.items()}
    for run in arms_of(study, results)["run"]:
        weights, names = weight_files.load_weights(paths.run_dir(run) / "weights.safetensors")
        model = networks.resnet9(
            names, settings.channels, settings.width, 0, settings.head, images.ndim - 1
        )
        model.load_state_dict(weights)
        # one view in place of five: five times as many cohorts, of models that rank alike
        scores = prediction.predict(model, images, np.arange(len(images)), settings.channels)
        columns = {
            finding: start_weights.alike(canonical, names)[0]
            for finding, canonical in meanings.items()
        }
        predictions[run] = pd.concat(
            [
                table[["image_id", "patient_id", "split"]].assign(
                    finding=finding, label=table[finding], score=scores[:, column].astype(float)
                )
                for finding, column in columns.items()
            ],
            ignore_index=True,
        )
    return table, predictions


def arms_of(study: Study, results: str) -> pd.DataFrame:
    """Return the arms of the study, default recipe, first seed."""
    os.environ["RESULTS_DIR"] = results
    table = study_arms.pooled_arms(
        study_arms.arm_table(
            [run_records.read_record(run) for run in run_records.runs_of(study.cohort)]
        )
    )
    return study_arms.main_arms(table[table["recipe"] == "default"])


def influences_of(table: pd.DataFrame, predictions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return influences on AUROC by the groups of `CONTRASTS`."""
    return influence_table.of_auroc(predictions, table, list(CONTRASTS))


def is_shown(rows: pd.DataFrame) -> pd.Series:
    """Return which rows are of `CONTRASTS`."""
    return rows["group"] == rows["attribute"].map(CONTRASTS)


def baseline_of(runs: object) -> str:
    """Return the run without privacy."""
    return next(run for run in runs if "-baseline-" in run)


def one_cohort(study: Study, number: int, results: str) -> pd.DataFrame:
    """Return interval and smallest visible contrast of every contrast in one fresh cohort, and of
    every gap_change.
    """
    table, predictions = predict(study, COHORTS_SEED, number, results)
    influences = influences_of(table, predictions)
    of_means, arms = group_contrasts.averaged(influences), arms_of(study, results)
    influences = group_contrasts.with_means(influences, of_means)
    contrasts = estimate_tables.auroc_contrasts(influences, arms).assign(what="contrast")
    contrasted = study_arms.pool(
        group_contrasts.contrasts(group_contrasts.only_means(influences)), arms
    )
    changed = estimate_tables.gap_changes(influences, arms, baseline_of(predictions))
    changed = changed[changed.index.get_level_values("run").str.contains("-dp-")]
    changes = confidence_intervals.of_changes(changed).assign(what="gap_change")
    for rows, values in ((contrasts, contrasted), (changes, changed)):
        rows["smallest_visible"] = equivalence.minimum_detectable_change(
            confidence_intervals.spread(values)
        )
    rows = pd.concat([contrasts, changes], ignore_index=True)
    return group_contrasts.with_findings(rows[is_shown(rows)], of_means)


def truth_of(study: Study, results: str, pool: ProcessPoolExecutor) -> pd.DataFrame:
    """Return influences of the contrasts of each finding on many fresh images."""
    n, rare = study.truth_parts, study.rare_parts
    seeds = [TRUTH_SEED] * n + [RARE_SEED] * rare
    numbers = [*range(n), *range(rare)]
    parts = list(pool.map(predict, [study] * (n + rare), seeds, numbers, [results] * (n + rare)))
    for number, (table, predictions) in enumerate(parts[n:]):
        for frame in (table, *predictions.values()):  # other patients than those of the first seed
            for column in ("image_id", "patient_id"):
                frame[column] = f"rare {number} " + frame[column].astype(str)
    tables = {}
    for name, used in (("all", parts[:n]), (RARE, parts)):
        table = pd.concat([table for table, _ in used], ignore_index=True)
        predictions = {
            run: pd.concat([part[run] for _, part in used], ignore_index=True) for run in used[0][1]
        }
        tables[name] = group_contrasts.contrasts(influences_of(table, predictions))
    is_rare = [part.index.get_level_values("attribute") == RARE for part in tables.values()]
    truth = pd.concat([tables["all"][~is_rare[0]], tables[RARE][is_rare[1]]])
    # the two have other numbers of patients
    return truth.where(truth.notna() | truth[[0]].isna().to_numpy(), 0.0)


def with_truth(rows: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return rows of cohorts with the truth of the findings that each averages, and its own
    standard error.

    Args:
        rows: from `one_cohort`.
        truth: from `truth_of`.
    """
    influence = truth.drop(columns=list(auroc_intervals.ABOUT))
    places = {
        (run, attribute, group, finding): place
        for place, (run, _, finding, attribute, group) in enumerate(influence.index)
    }
    values, baseline, known = influence.to_numpy(float), baseline_of(truth.index.unique("run")), {}

    def mean(run: str, row: tuple) -> np.ndarray:
        keys = [(run, row.attribute, row.group, name) for name in row.findings.split(", ")]
        return values[[places[key] for key in keys]].mean(axis=0)

    def of(row: tuple) -> tuple[float, float]:
        key = (row.run, row.what, row.attribute, row.findings)
        if key not in known:
            value = mean(row.run, row)
            if row.what == "gap_change":
                value = value - mean(baseline, row)
            known[key] = value[0], float(auroc_intervals.standard_error(value[1:]))
        return known[key]

    pairs = [of(row) if row.findings else (np.nan, np.nan) for row in rows.itertuples()]
    return rows.assign(truth=[pair[0] for pair in pairs], truth_error=[pair[1] for pair in pairs])


def main() -> int:
    """Simulate, write, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        default=paths.repository_root() / "results",
        help="folder of the finished study",
    )
    parser.add_argument("--ct", action="store_true", help="the study of CT volumes")
    parser.add_argument("--cohorts", type=int, default=None)
    options = parser.parse_args()
    study, results = VOLUMES if options.ct else RADIOGRAPHS, str(options.results.resolve())
    n_cohorts, arms = options.cohorts or study.n_cohorts, arms_of(study, results)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        truth = truth_of(study, results, pool)
        intervals = pd.concat(
            pool.map(one_cohort, [study] * n_cohorts, range(n_cohorts), [results] * n_cohorts),
            ignore_index=True,
        )
    intervals = with_truth(intervals, truth)
    is_estimable = intervals["estimate"].notna()
    intervals["found"] = (
        ((intervals["low"] > 0) | (intervals["high"] < 0)).astype(float).where(is_estimable)
    )
    intervals["covers"] = (
        ((intervals["low"] <= intervals["truth"]) & (intervals["truth"] <= intervals["high"]))
        .astype(float)
        .where(is_estimable)
    )
    is_change = intervals["what"] == "gap_change"
    intervals["attribute"] = intervals["attribute"].mask(
        is_change, "gap_change by " + intervals["attribute"]
    )
    of_rows = intervals.groupby(["run", "attribute"], sort=False)
    columns = [
        "truth",
        "truth_error",
        "estimate",
        "smallest_visible",
        "n_findings",
        "found",
        "covers",
    ]
    table = of_rows[columns].mean().assign(n_estimable=of_rows["estimate"].count()).reset_index()
    table = table.merge(arms[["run", "arm_label"]], on="run")
    error, error_of_power = (
        np.sqrt(share * (1 - share) / table["n_estimable"]) for share in (0.05, 0.8)
    )
    is_null = table["attribute"].str.endswith(NULL)
    visible = (table["truth"].abs() > table["smallest_visible"]) & ~is_null
    is_found = (
        bool((table["found"] >= 0.8 - 2 * error_of_power)[visible].all()) if visible.any() else None
    )
    errors = np.sqrt(LEAST * (1 - LEAST) / table["n_estimable"])
    judged = table["n_estimable"] >= FEWEST_ROWS
    goals = {
        "every_row_covers": bool((table["covers"] >= LEAST - 2 * errors)[judged].all()),
        "least_coverage": float(table.loc[judged, "covers"].min()),
        "visible_ones_found": is_found,
        "n_visible": int(visible.sum()),
        "nulls_not_called": bool(((table["found"] <= 0.05 + 2 * error) | ~is_null).all()),
        "mean_coverage": float(table["covers"].mean()),
    }
    is_met = (
        goals["visible_ones_found"] is not False
        and goals["nulls_not_called"]
        and goals["every_row_covers"]
    )
    files.write_json(
        Path(__file__).parent / "results" / study.results,
        {
            "n_cohorts": n_cohorts,
            "n_truth_parts": [study.truth_parts, study.rare_parts],
            "goals": goals,
            "rows": table.to_dict("records"),
            "versions": run_records.versions(),
            "commit": run_records.commit(),
        },
    )
    print(table.drop(columns="run").round(3).to_string())
    print(goals)
    return int(not is_met)


if __name__ == "__main__":
    sys.exit(main())
