"""Does the analysis find what was planted, and only that? Trained models among many fresh test cohorts of the generator.

In: the results folder of a study on the embedded cohort (`make demo`). Truth: each model's AUROC contrasts on 100,000 fresh
images. Then 200 fresh cohorts of 900 patients, the same models. Out: `results/planted_truth.json`, a row a contrast and model:
truth and its own standard error, smallest visible contrast, how often it was found (the 95 % interval leaves 0 out), how often
the interval covers the truth; the same for the gap_change of each private model. Exit code 1 where a visible one is found in less than 80 %, one planted as 0 called in more than 5 % + 2 errors, or the truth covered, on average, in less than 95 % - 2 errors.

    python benchmarks/planted_truth.py --results results
"""

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core

import numpy as np
import pandas as pd
import torch

from helpers import fairness, files, manifests, models, networks, replicates, runs, scoring, synthetic, verdicts

TRUTH_SEED, COHORTS_SEED = 101, 102  # of the generator; 0 is the study's
N_TRUTH_IMAGES, N_COHORTS, BLOCKS_A_COHORT, N_BOOTSTRAP = 100_000, 200, 9, 500
CONTRASTS = {"sex": "female - male", "age": ">= 80 - rest", "scanner": "B - A", "admission": "weekend - weekday"}
NULL = "admission"  # planted without effect
COHORT = "synthetic_cxr_private"


def draw(seed: int, first_block: int, n_blocks: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Return images and table of some fresh blocks of test patients, with labels of 1 or 0."""
    blocks = [synthetic.draw_block("private", "test", first_block + k, seed) for k in range(n_blocks)]
    table = pd.concat([table for _, table in blocks], ignore_index=True).assign(split="test")
    labels = (table[list(synthetic.FINDINGS)] >= 1).astype(float)
    return np.concatenate([images for images, _ in blocks]), table.assign(**labels)


def predict(seed: int, first_block: int, n_blocks: int, results: str) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return the table of fresh patients and the predictions of every model of the study."""
    os.environ["RESULTS_DIR"] = results
    torch.set_num_threads(1)
    images, table = draw(seed, first_block, n_blocks)
    found, meanings = {}, {finding: rule.meaning for finding, rule in manifests.read(COHORT).findings.items()}
    for run in arms_of(results)["run"]:
        known = runs.read_record(run)["parameters"]
        weights, names = models.load_weights(runs.run_dir(run) / "weights.safetensors")
        model = networks.resnet9(len(names), known["channels"], known["width"], 0, known["head"])
        model.load_state_dict(weights)
        scores = scoring.predict(model, images, np.arange(len(images)), known["channels"])
        places = {finding: models.alike(canonical, names)[0] for finding, canonical in meanings.items()}
        found[run] = pd.concat([table[["image_id", "patient_id", "split"]].assign(finding=finding, label=table[finding], score=scores[:, place].astype(float))
                                for finding, place in places.items()], ignore_index=True)
    return table, found


def arms_of(results: str) -> pd.DataFrame:
    """Return the arms of the study, default recipe, first seed."""
    os.environ["RESULTS_DIR"] = results
    table = fairness.pooled_arms(fairness.arm_table([runs.read_record(run) for run in runs.runs_of(COHORT)]))
    return table[table["recipe"] == "default"]


def contrasts(table: pd.DataFrame, predictions: dict[str, pd.DataFrame], n_bootstrap: int, seed: int = 0) -> pd.DataFrame:
    """Return replicates of `CONTRASTS`, and of their change against the baseline, index (run, attribute)."""
    found = fairness.macro(fairness.contrasts(replicates.replicate(
        predictions, table, list(CONTRASTS), n_bootstrap=n_bootstrap, names=("auroc",), seed=seed)))
    names = found.index.to_frame(index=False)
    keep = (names["group"] == names["attribute"].map(CONTRASTS)).to_numpy()
    found = found[keep].droplevel(["metric", "finding", "group"])
    baseline = next(run for run in predictions if "-baseline-" in run)
    private = found[found.index.get_level_values("run").str.contains("-dp-")]
    changes = private - found.xs(baseline, level="run").reindex(private.index.get_level_values("attribute")).to_numpy()
    return pd.concat([found, changes.rename(index=lambda name: f"gap_change by {name}", level="attribute")])


def one_cohort(number: int, results: str) -> pd.DataFrame:
    """Return interval and smallest visible contrast of every contrast in one fresh cohort."""
    values = contrasts(*predict(COHORTS_SEED, number * BLOCKS_A_COHORT, BLOCKS_A_COHORT, results), N_BOOTSTRAP, number)
    return fairness.summarise(values).assign(smallest_visible=verdicts.smallest_visible(values.drop(columns=0).std(axis=1).to_numpy()))


def truth_parts() -> int:
    """Return how many times `BLOCKS_A_COHORT` blocks hold the images for the truth, some 3.4 of a patient."""
    return -(-N_TRUTH_IMAGES // (340 * BLOCKS_A_COHORT))


def truth_of(results: str, pool: ProcessPoolExecutor) -> pd.Series:
    """Return the contrasts on 100,000 fresh images, index (run, attribute)."""
    n = truth_parts()
    parts = list(pool.map(predict, [TRUTH_SEED] * n, [k * BLOCKS_A_COHORT for k in range(n)], [BLOCKS_A_COHORT] * n, [results] * n))
    table = pd.concat([table for table, _ in parts], ignore_index=True)
    predictions = {run: pd.concat([part[run] for _, part in parts], ignore_index=True) for run in parts[0][1]}
    return contrasts(table, predictions, n_bootstrap=1)[0]


def main() -> int:
    """Simulate, write, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=runs.repository_root() / "results", help="folder of the finished study")
    parser.add_argument("--cohorts", type=int, default=N_COHORTS)
    options = parser.parse_args()
    results, arms = str(options.results.resolve()), arms_of(str(options.results.resolve()))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        truth = truth_of(results, pool)
        found = pd.concat(pool.map(one_cohort, range(options.cohorts), [results] * options.cohorts), ignore_index=True)
    found["truth"] = [truth[key] for key in zip(found["run"], found["attribute"])]
    found["found"] = ((found["low"] > 0) | (found["high"] < 0)).astype(float)
    found["covers"] = ((found["low"] <= found["truth"]) & (found["truth"] <= found["high"])).astype(float)
    table = found.groupby(["run", "attribute"], sort=False)[["truth", "estimate", "smallest_visible", "found", "covers"]].mean().reset_index()
    n_truth_blocks = BLOCKS_A_COHORT * truth_parts()
    table["truth_error"] = table["smallest_visible"] / verdicts.smallest_visible(1.0) * np.sqrt(BLOCKS_A_COHORT / n_truth_blocks)
    table = table.merge(arms[["run", "arm_label"]], on="run")
    error = np.sqrt(0.05 * 0.95 / options.cohorts)
    is_null = table["attribute"].str.endswith(NULL)
    visible = (table["truth"].abs() > table["smallest_visible"]) & ~is_null
    goals = {"visible_ones_found": bool(visible.any() and (table.loc[visible, "found"] >= 0.8).all()), "n_visible": int(visible.sum()),
             "nulls_not_called": bool((table.loc[is_null, "found"] <= 0.05 + 2 * error).all()),
             "truth_covered": bool(table["covers"].mean() >= 0.95 - 2 * error), "mean_coverage": float(table["covers"].mean())}
    is_met = goals["visible_ones_found"] and goals["nulls_not_called"] and goals["truth_covered"]
    files.write_json(Path(__file__).parent / "results" / "planted_truth.json", {
        "n_cohorts": options.cohorts, "n_truth_images": N_TRUTH_IMAGES, "n_bootstrap": N_BOOTSTRAP, "goals": goals,
        "rows": table.to_dict("records"), "versions": runs.versions(), "commit": runs.commit()})
    print(table.drop(columns="run").round(3).to_string())
    print(goals)
    return int(not is_met)


if __name__ == "__main__":
    sys.exit(main())
