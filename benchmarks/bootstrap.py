"""How long the bootstrap of patients takes on a large study, beside a loop over scikit-learn on the
same resamples.

In: sizes below. Out: `results/bootstrap.json`: seconds, peak memory, how seconds grow when each
size is halved, the largest difference to scikit-learn. Prints the ratio last; exit code 1 where it
is under 50, or the study takes over 120 s or 4 GB.

    python benchmarks/bootstrap.py
"""

import os
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from helpers.analysis import bootstrap, metric_table
from helpers.core import files, random_streams, run_records
from helpers.data import groups

SIZES = {"resamples": 1000, "findings": 8, "images": 40_000, "arms": 7}
# 2 + 5 + 4 groups, and everybody; their complements are computed, too
ATTRIBUTES = ["sex", "age", "age quartile"]
IMAGES_A_PATIENT, PREVALENCE = 4, 0.15
MOST_SECONDS, MOST_GB, LEAST_RATIO = 120, 4, 50
N_LOOPED = 3  # resamples of the loop over scikit-learn, for every group of one finding and arm


def study(sizes: dict[str, int], seed: int = 0) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Return table and predictions of a drawn study."""
    rng, n = np.random.default_rng(seed), sizes["images"]
    patients = np.arange(n) // IMAGES_A_PATIENT
    n_patients = patients[-1] + 1
    table = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "patient_id": [f"p{k}" for k in patients],
            "split": "test",
            "sex": rng.choice(["female", "male"], n_patients)[patients],
            "age_years": rng.uniform(18, 95, n_patients)[patients],
        }
    )
    labels = {
        f"finding {k}": (rng.random(n) < PREVALENCE).astype(float) for k in range(sizes["findings"])
    }
    return table, {
        f"arm {arm}": pd.concat(
            [
                table[["image_id", "patient_id", "split"]].assign(
                    finding=finding,
                    label=label,
                    score=1 / (1 + np.exp(-label - rng.normal(size=n))),
                )
                for finding, label in labels.items()
            ],
            ignore_index=True,
        )
        for arm in range(sizes["arms"])
    }


def seconds(sizes: dict[str, int]) -> float:
    """Return how long all replicates of a study take."""
    table, predictions = study(sizes)
    began = time.perf_counter()
    metric_table.replicate(
        predictions, table, ATTRIBUTES, n_bootstrap=sizes["resamples"], names=("auroc",)
    )
    return time.perf_counter() - began


def against_sklearn(sizes: dict[str, int]) -> tuple[float, float]:
    """Return seconds of a loop over scikit-learn for the whole study, from a part of it, and the
    largest difference to ours.
    """
    table, predictions = study(sizes | {"findings": 1, "arms": 1})
    ours = metric_table.replicate(
        predictions, table, ATTRIBUTES, n_bootstrap=N_LOOPED, names=("auroc",)
    )
    rows, grouped = predictions["arm 0"], groups.add_groups(table, ATTRIBUTES)
    draws = bootstrap.Draws.of(
        table["patient_id"].to_numpy(), N_LOOPED, random_streams.random_stream(0, "bootstrap")
    )
    weights = np.hstack(draws.counts).astype(float)[draws.patients]
    differences, spent = [], []
    for (*_, attribute, group), values in ours.iterrows():
        column = grouped.get(f"group_{attribute}", pd.Series("all", index=grouped.index))
        inside = (
            column != group.removeprefix(metric_table.REST)
            if group.startswith(metric_table.REST)
            else column == group
        ).to_numpy()
        label, score, weight = (
            rows["label"].to_numpy()[inside],
            rows["score"].to_numpy()[inside],
            weights[inside],
        )
        for resample in range(1 + N_LOOPED):
            began = time.perf_counter()
            auroc = roc_auc_score(label, score, sample_weight=weight[:, resample])
            spent.append(time.perf_counter() - began)
            differences.append(abs(auroc - values[resample]))
    return sum(spent) / (1 + N_LOOPED) * (1 + sizes["resamples"]) * sizes["findings"] * sizes[
        "arms"
    ], max(differences)


def main() -> int:
    """Measure, write, and say whether the goals are met."""
    took = statistics.median(seconds(SIZES) for _ in range(3))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    halved = {name: seconds(SIZES | {name: -(-size // 2)}) / took for name, size in SIZES.items()}
    of_sklearn, difference = against_sklearn(SIZES)
    files.write_json(
        Path(__file__).parent / "results" / "bootstrap.json",
        {
            "sizes": SIZES | {"groups": 12},
            "seconds": took,
            "peak_memory_gb": peak_gb,
            "seconds_of_sklearn": of_sklearn,
            "ratio": of_sklearn / took,
            "largest_difference": difference,
            "share_of_seconds_when_halved": halved,
            "hardware": run_records.hardware(),
            "versions": run_records.versions(),
        },
    )
    print(
        f"{took:.1f} s (median of 3), peak {peak_gb:.2f} GB; largest difference to scikit-learn"
        f" {difference:.1e}"
    )
    print(
        "share of the time when halved: "
        + ", ".join(f"{name} {share:.2f}" for name, share in halved.items())
    )
    print(f"ratio to a loop over scikit-learn: {of_sklearn / took:.0f}")
    return int(
        of_sklearn / took < LEAST_RATIO
        or took > MOST_SECONDS
        or peak_gb > MOST_GB
        or difference > 1e-12
    )


if __name__ == "__main__":
    sys.exit(main())
