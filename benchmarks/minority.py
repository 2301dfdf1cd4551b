"""How does the price of privacy for a group depend on its size? The planted minority, scanner B, at
1/2, 1/4, 1/8 of patients.

In: the results folder of a study on the embedded cohort, for its public model. For each share: a
drawn cohort of 2,900 patients, a baseline and private runs by the rule from that model; tested on
patients of whom half are on scanner B. Out: `results/minority.json` and `minority.png`: gap_change
(B - A) with its interval over test patients, from one training run each, and what clipping does to
the gradients of both groups at the start.

    python benchmarks/minority.py --results results
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core
os.environ.setdefault("TQDM_DISABLE", "1")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from helpers.analysis import (
    confidence_intervals,
    estimate_tables,
    group_contrasts,
    influence_table,
    study_arms,
)
from helpers.core import files, fingerprints, paths, run_records
from helpers.data import cohorts, manifests
from helpers.data.synthetic import chest_cohort
from helpers.figures import house_style
from helpers.privacy import promise
from helpers.training import (
    group_gradients,
    loop,
    ordinary_step,
    prediction,
    pretraining,
    private_step,
    recipe_rule,
    starts,
    training_session,
    training_set,
    weight_files,
)

SHARES, EPSILONS, DELTA = (1 / 2, 1 / 4, 1 / 8), (1.06, 7.89), 1e-5
PATIENTS = {"train": 2900, "test": 900}
SEED = 7  # of the generator and of training


def cohort_of(share: float) -> cohorts.Cohort:
    """Return a drawn cohort in which that share of patients is on scanner B."""
    parts = []
    for split, n_patients in PATIENTS.items():
        for block in range(n_patients // chest_cohort.BLOCK_PATIENTS):
            images, table = chest_cohort.draw_block(
                "private", split, block, SEED, scanner_b_share=share if split == "train" else 1 / 2
            )
            parts.append((images, table.assign(split=split)))
    table = pd.concat([table for _, table in parts], ignore_index=True)
    findings = list(chest_cohort.FINDINGS)
    canonical = {
        name: rule.meaning
        for name, rule in manifests.read("synthetic_cxr_private").findings.items()
    }
    return cohorts.Cohort(
        name=f"share-{share:g}",
        images=np.concatenate([images for images, _ in parts]),
        table=table.assign(**(table[findings] >= 1).astype(float)),
        findings=findings,
        canonical=canonical,
        record={"data_hash": f"share {share:g}", "access": "embedded"},
    )


def run(
    share: float, epsilon: float | None, results: str, scratch: str
) -> tuple[pd.DataFrame, list[dict]]:
    """Train at one share and budget (None.

    No privacy); return test predictions, and gradients by group at the start.
    """
    torch.set_num_threads(1)
    os.environ["RESULTS_DIR"] = results
    zero_shot = run_records.run_name("synthetic_cxr_private", "zero_shot")
    known, cohort = run_records.read_record(zero_shot)["parameters"], cohort_of(share)
    network = {name: known[name] for name in ("channels", "width", "head")}
    weights, names = weight_files.load_weights(paths.run_dir(zero_shot) / "weights.safetensors")
    # nothing of an earlier run is gone on with
    os.environ["RESULTS_DIR"] = tempfile.mkdtemp(dir=scratch)
    model, _ = starts.starting_model(cohort, weights, names, **network, seed=SEED)
    gradients = []
    if epsilon is None:
        arm = ordinary_step.BaselineArm(
            training_set.TrainingSet.of(cohort, "image"),
            model,
            channels=network["channels"],
            batch_size=64,
            seed=SEED,
        )
        recipe, averaging = {"EPOCHS": 4, "LEARNING_RATE": 2e-3}, 0.99  # notebook 02's
    else:
        data = training_set.TrainingSet.of(cohort, "patient")
        recipe, averaging = recipe_rule.recipe_for(epsilon, len(data.units)), 0.97
        arm = private_step.PrivateArm(
            data,
            model,
            promise.PrivacyBudget(epsilon=epsilon, delta=DELTA, clip_norm=1.0),
            promise.Batching(
                expected_batch_size=recipe["EXPECTED_BATCH_SIZE"],
                epochs=recipe["EPOCHS"],
                max_images_per_patient=8,
                physical_batch_size=256,
            ),
            channels=network["channels"],
            mode="demo",
            seed=SEED,
        )
        group_of = group_gradients.groups_of_units(data, cohort.table, "scanner")
        gradients = group_gradients.by_group(arm, group_of, 0)
    session = training_session.Session(
        f"{cohort.name}-{epsilon}",
        model,
        arm,
        epochs=recipe["EPOCHS"],
        learning_rate=recipe["LEARNING_RATE"],
        fingerprint=fingerprints.fingerprint(
            {"share": share, "epsilon": epsilon, **recipe}, pretraining.CODE
        ),
        averaging=averaging,
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    return prediction.predictions_of(model, cohort, network["channels"], ("test",)), [
        row | {"share": share, "epsilon": epsilon} for row in gradients
    ]


def gap_changes(share: float, predictions: dict[str, pd.DataFrame]) -> list[dict]:
    """Return contrast and gap_change of every arm at one share."""
    influences = group_contrasts.with_means(
        influence_table.of_auroc(predictions, cohort_of(share).table, ["scanner"])
    )
    runs_table = study_arms.arm_table(
        [
            {
                "run": name,
                "arm": "baseline" if name == "none" else "dp",
                "seed": SEED,
                "seconds": 0.0,
                "unit": "patient",
                "epsilon_target": None if name == "none" else float(name),
            }
            for name in predictions
        ]
    )
    columns = ["run", "estimate", "low", "high"]
    levels = estimate_tables.auroc_contrasts(influences, runs_table)[columns]
    levels = levels.assign(what="contrast")
    changed = confidence_intervals.of_changes(
        estimate_tables.gap_changes(influences, runs_table, "none")
    )[columns].assign(what="gap_change")
    return pd.concat([levels, changed]).assign(share=share).to_dict("records")


def plot(table: pd.DataFrame) -> plt.Axes:
    """Draw gap_change against the share of the minority, a line a budget."""
    ax = plt.figure(figsize=(5.5, 3.4)).add_subplot()
    for number, (run_name, rows) in enumerate(
        table[table["what"] == "gap_change"].groupby("run", sort=False)
    ):
        ax.errorbar(
            rows["share"] * 1.03 ** (2 * number - 1),
            rows["estimate"],
            yerr=[rows["estimate"] - rows["low"], rows["high"] - rows["estimate"]],
            fmt="os"[number] + "-",
            capsize=3,
            label=f"epsilon {run_name}",
        )
    ax.axhline(0, color="0.6", linestyle="--", zorder=0)
    ax.set(
        xscale="log",
        xlabel="share of training patients on scanner B (log scale)",
        ylabel="change of B - A by privacy (AUROC)\n(95 %, patients; one training run)",
    )
    ax.set_xticks(SHARES, [f"1/{1 / share:g}" for share in SHARES])
    ax.minorticks_off()
    ax.legend(fontsize=9)
    return ax


def main() -> None:
    """Train, analyse, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        default=paths.repository_root() / "results",
        help="folder of the finished study",
    )
    results = str(parser.parse_args().results.resolve())
    keys = [(share, epsilon) for share in SHARES for epsilon in (None, *EPSILONS)]
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        tempfile.TemporaryDirectory() as scratch,
    ):
        run_outcomes = dict(
            zip(keys, pool.map(run, *zip(*[(*key, results, scratch) for key in keys])))
        )
    rows = [
        row
        for share in SHARES
        for row in gap_changes(
            share,
            {
                "none" if epsilon is None else f"{epsilon:g}": run_outcomes[share, epsilon][0]
                for epsilon in (None, *EPSILONS)
            },
        )
    ]
    gradients = [row for _, of_run in run_outcomes.values() for row in of_run]
    out = Path(__file__).parent / "results"
    files.write_json(
        out / "minority.json",
        {
            "rows": rows,
            "gradients_at_the_start": gradients,
            "patients": PATIENTS,
            "hardware": run_records.hardware(),
            "versions": run_records.versions(),
            "commit": run_records.commit(),
        },
    )
    with plt.style.context(house_style.STYLE):
        plot(pd.DataFrame(rows)).figure.savefig(out / "minority.png", dpi=150, bbox_inches="tight")
    print(pd.DataFrame(rows).round(3).to_string())


if __name__ == "__main__":
    plt.switch_backend("Agg")
    sys.exit(main())
