"""How long the statistics of notebook 04 take on a large study.

In: sizes below. Out: `results/fairness_seconds.json`: seconds of each part and of all, peak memory.
Exit code 1 where all takes more than 240 s or 2 GB.

    python benchmarks/fairness_seconds.py
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))

import numpy as np
import pandas as pd

from helpers.analysis import (
    equivalence,
    estimate_tables,
    group_contrasts,
    influence_table,
    label_noise,
    metric_table,
    planned_comparisons,
    strata,
    study_arms,
    study_summary,
    worst_groups,
)
from helpers.core import files, run_records

SIZES = {"resamples": 1000, "findings": 8, "images": 40_000, "arms": 7}  # of test
IMAGES_A_PATIENT, PREVALENCE, VALID = 4, 0.15, 0.25  # images of valid for one of test
# 2 + 5 + 4 groups, and everybody; their complements are computed, too
ATTRIBUTES, STRATUM = ["sex", "age", "age quartile"], "view"
MOST_SECONDS, MOST_GB = 240, 2


def study(
    sizes: dict[str, int],
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], pd.DataFrame, list[str]]:
    """Return table, predictions, arms and findings of a drawn study."""
    rng, n = np.random.default_rng(0), int(sizes["images"] * (1 + VALID))
    patients = np.arange(n) // IMAGES_A_PATIENT
    n_patients = patients[-1] + 1
    findings = [f"finding {k}" for k in range(sizes["findings"])]
    labels = {name: (rng.random(n) < PREVALENCE).astype(float) for name in findings}
    table = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "patient_id": [f"p{k}" for k in patients],
            "split": np.where(np.arange(n) < sizes["images"], "test", "valid"),
            "sex": rng.choice(["female", "male"], n_patients)[patients],
            "age_years": rng.uniform(18, 95, n_patients)[patients],
            "view": rng.choice(["AP", "PA"], n),
            **labels,
        }
    )
    images = table[["image_id", "patient_id", "split"]]
    predictions, records = {}, []
    for arm in range(sizes["arms"]):
        run = f"arm {arm}"
        predictions[run] = pd.concat(
            [
                images.assign(
                    finding=name,
                    label=label,
                    score=1 / (1 + np.exp(1.5 - label - rng.normal(size=n))),
                )
                for name, label in labels.items()
            ],
            ignore_index=True,
        )
        about = {"run": run, "arm": "dp" if arm else "baseline", "seed": 0, "seconds": 0.0}
        records.append(about | {"epsilon_target": float(arm) or None, "unit": "patient"})
    return table, predictions, study_arms.arm_table(records), findings


def main() -> int:
    """Measure, write, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    sizes = vars(parser.parse_args())
    table, predictions, runs, findings = study(sizes)
    arms, seconds, values = study_arms.pooled_arms(runs), {}, {}

    def timed(name: str, compute: object) -> None:
        began = time.perf_counter()
        values[name] = compute()
        seconds[name] = time.perf_counter() - began
        print(f"{name}: {seconds[name]:.1f} s", flush=True)

    def tables() -> tuple:
        of_means = group_contrasts.averaged(values["replicates"])
        both = (values["replicates"], values["influences"])
        resampled, closed_form = (group_contrasts.with_means(rows, of_means) for rows in both)
        estimate_tables.levels(resampled, closed_form, runs)
        estimate_tables.contrasts(resampled, closed_form, runs, of_means)
        study_summary.summary(runs, closed_form)
        group_contrasts.described_gaps(study_arms.pool(values["replicates"], runs))
        return of_means, closed_form

    def verdicts() -> None:
        changes = estimate_tables.gap_changes(values["tables"][1], runs, "arm 0")
        equivalence.of_changes(changes, 0.02, 6)
        planned = [["sex", "female - male", 1.0], ["age", ">= 80 - rest", 1.0]] * 3
        planned_comparisons.planned_table(changes, arms, planned, 0.02)
        estimate_tables.auroc_changes(values["tables"][1], runs, "arm 0")
        pooled = study_arms.pool(values["tables"][1], runs)
        worst_groups.worst(worst_groups.cells(pooled, arms))
        prevalence = metric_table.prevalences(table, findings, ATTRIBUTES)
        pooled = study_arms.pool(values["influences"], runs)
        label_noise.of_contrasts(pooled, values["tables"][0], prevalence)

    timed(
        "replicates",
        lambda: metric_table.replicate(
            predictions, table, ATTRIBUTES, n_bootstrap=sizes["resamples"]
        ),
    )
    timed("influences", lambda: influence_table.of_auroc(predictions, table, ATTRIBUTES))
    timed("tables", tables)
    timed("verdicts", verdicts)
    timed(
        "strata",
        lambda: strata.contrasts(
            predictions, table, values["influences"], STRATUM, runs, baseline="arm 0"
        ),
    )
    total, peak_gb = sum(seconds.values()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if sizes == SIZES:
        files.write_json(
            Path(__file__).parent / "results" / "fairness_seconds.json",
            {
                "sizes": sizes | {"groups": 12, "metrics": len(metric_table.METRICS)},
                "seconds": total,
                "seconds_of": seconds,
                "peak_memory_gb": peak_gb,
                "hardware": run_records.hardware(),
                "versions": run_records.versions(),
            },
        )
    print(f"{total:.0f} s, peak {peak_gb:.2f} GB")
    return int(total > MOST_SECONDS or peak_gb > MOST_GB)


if __name__ == "__main__":
    sys.exit(main())
