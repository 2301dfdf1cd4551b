"""The ladder: what each way of training reaches at each budget, on the embedded cohort, with
several seeds.

In: arms, budgets and seeds, see `ladder_arms` and `ladder_plan`. Out: `results/ladder.json`, a row
a run, intervals over patients and seeds, and goals, from the bootstrap's replicates of each run in
`results/ladder_replicates.npz`. With `--tune`: equally many trials for each tuned arm and budget,
on another cohort of the generator, into `results/ladder_trials.json`; arms take the best of their
trials, ours the rule `recipe_rule.recipe_for`.

Test patients of the ladder are never seen in trials. Runs that the results hold already are not run
again. Rows of an earlier version, of another network, stay in the results under names that say so.
"""

import dataclasses
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core a run
os.environ.setdefault("TQDM_DISABLE", "1")

import ladder_goals
import ladder_plan
import numpy as np
import pandas as pd
import torch
from ladder_arms import DELTA, N_PATIENTS, NO_NOISE, STARTS, Settings
from ladder_levels import levels, replicates_of
from ladder_runs import collect, read_options

from helpers.analysis import metrics
from helpers.core import errors, fingerprints, paths, run_records
from helpers.data import build_cohort, cohorts
from helpers.privacy import promise
from helpers.training import (
    image_loss,
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

RESULTS = ladder_plan.RESULTS
PRIVATE, PUBLIC = "synthetic_cxr_private", "synthetic_cxr_public"
TUNING_SEED = 1  # of the generator, for the cohort on which arms are tuned
# of the network; the last two of public training
WIDTH, CHANNELS, BATCH_SIZE, LEARNING_RATE = 16, 1, 64, 2e-3


# ---- one run


def private_arm(
    settings: Settings, model: torch.nn.Module, data: training_set.TrainingSet
) -> private_step.PrivateArm:
    """Return the private steps of a run, with their noise calibrated."""
    clip_norm, batching, head = recipe_rule.batching_of(
        settings.recipe, len(data.units), data.most_images
    )
    weighting = ("none", None)
    if settings.pos_weight == "private":
        weighting = ("private labels", image_loss.pos_weight(data.labels))
    noise = 0.0 if settings.epsilon == NO_NOISE else None
    return private_step.PrivateArm(
        data,
        model,
        promise.PrivacyBudget(settings.epsilon, DELTA, clip_norm, noise_multiplier=noise),
        batching,
        channels=CHANNELS,
        mode="demo",
        seed=settings.seed,
        weighting=weighting,
        head=head,
    )


def train(settings: Settings, model: torch.nn.Module, private: cohorts.Cohort) -> dict:
    """Train a model; return what is to be kept of it.

    Returns:
        steps; train_seconds, of the steps (those of the head with their features); seconds, in all,
        with the training set and the calibration of noise; core_seconds, the processor's in all.
    """
    begun, of_core = time.monotonic(), time.process_time()
    data = training_set.TrainingSet.of(private, settings.unit)
    if settings.epsilon is None:
        arm = ordinary_step.BaselineArm(
            data, model, channels=CHANNELS, batch_size=settings.batch, seed=settings.seed
        )
    else:
        arm = private_arm(settings, model, data)
    session = training_session.Session(
        f"ladder-{fingerprints.fingerprint(dataclasses.asdict(settings))[:12]}",
        model,
        arm,
        epochs=settings.head_steps if settings.trained == "head" else settings.epochs,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        fingerprint=fingerprint(dataclasses.asdict(settings), private),
        schedule=settings.schedule,
        averaging=settings.averaging,
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    kept = {
        "steps": session.steps,
        "train_seconds": round(session.seconds, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "core_seconds": round(time.process_time() - of_core, 1),
    }
    session.checkpoint.unlink(missing_ok=True)
    return kept | (noise_of(arm) if settings.epsilon is not None else {})


def noise_of(arm: private_step.PrivateArm) -> dict:
    """Return what is kept of the noise of a run: that of the first part, and of the head after it;
    and the share of units that were clipped.
    """
    kept = {"noise_multiplier": arm.promise.noise_multiplier}
    if arm.promise.head:
        kept["head_noise_multiplier"] = arm.promise.head.noise_multiplier
    clipped = [step["clipped_fraction"] for step in arm.diagnostics]
    return kept | {"clipped_fraction": float(np.mean(clipped))}


def run(settings: Settings) -> tuple[dict, np.ndarray]:
    """Train and predict `test`.

    Return the row of the results, and (1 + replicates,) macro AUROCs, the estimate first.
    """
    torch.set_num_threads(1)
    private = cohorts.read(PRIVATE)
    weights, known = None, []
    if settings.start != "none":
        weights, known = weight_files.load_weights(start_path(settings.start))
    model, _ = starts.starting_model(
        private,
        weights,
        known,
        channels=CHANNELS,
        width=WIDTH,
        seed=settings.seed,
        head=settings.head,
        trained=recipe_rule.part_of(settings.recipe),
    )
    kept = {} if settings.arm.startswith("zero-shot") else train(settings, model, private)
    predictions = prediction.predictions_of(
        model, private, CHANNELS, ("test",), shifts=settings.shifts
    )
    by_finding = metrics.auroc_by_finding({"auroc": predictions}, split="test")
    aurocs = by_finding.set_index("finding")["auroc"]
    of_all = {
        "auroc": float(aurocs.mean()),
        "by_finding": aurocs.round(4).to_dict(),
        "by_scanner": by_scanner(predictions, private),
    }
    return dataclasses.asdict(settings) | kept | of_all, replicates_of(predictions)


def by_scanner(predictions: pd.DataFrame, private: cohorts.Cohort) -> dict[str, float]:
    """Return the mean AUROC over findings of the test images of each scanner."""
    scanner = private.table.set_index("image_id")["scanner"]
    parts = predictions.groupby(predictions["image_id"].map(scanner))
    return {
        name: round(
            float(metrics.auroc_by_finding({"auroc": part}, split="test")["auroc"].mean()), 4
        )
        for name, part in parts
    }


def fingerprint(settings: dict, cohort: cohorts.Cohort) -> str:
    """Return the hash of all that decides a model: settings, data, code."""
    return fingerprints.fingerprint(
        settings | {"data": cohort.record["data_hash"]}, pretraining.CODE
    )


def start_path(name: str) -> Path:
    """Return the file of a public model."""
    made_from = fingerprint(STARTS[name], cohorts.read(PUBLIC))
    return paths.results_dir() / f"start-{name}-{made_from[:12]}.safetensors"


def make_start(name: str) -> None:
    """Train a public model, if it is not there."""
    torch.set_num_threads(1)
    public, path = cohorts.read(PUBLIC), start_path(name)
    if path.exists():
        return
    session = pretraining.pretraining_session(
        path.stem,
        public,
        channels=CHANNELS,
        width=WIDTH,
        **STARTS[name],
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        fingerprint=fingerprint(STARTS[name], public),
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    starts.standardise(session.model, public, CHANNELS)
    known = [public.canonical[finding] for finding in public.findings]
    weight_files.save_weights(session.model, path, known)


# ---- all runs


def summary(by_arm: dict[tuple, np.ndarray], rows: list[dict]) -> dict:
    """Return levels and goals, see `ladder_levels` and `ladder_goals`."""
    of_arms = levels(by_arm)
    return {"levels": of_arms, "goals": ladder_goals.goals(of_arms, rows)}


def main() -> None:
    """Run what is missing in the results."""
    options = read_options(__doc__)
    os.environ["RESULTS_DIR"] = str(
        (options.scratch / ("tuning" if options.tune else "ladder")).resolve()
    )
    build_cohort.build(
        PRIVATE, n_patients=N_PATIENTS, generator_seed=TUNING_SEED if options.tune else 0
    )
    build_cohort.build(PUBLIC)
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()}
    collect(
        ladder_plan.trials() if options.tune else ladder_plan.ladder(),
        RESULTS / ("ladder_trials.json" if options.tune else "ladder.json"),
        options,
        about=about | ladder_plan.SAME,
        run=run,
        make_start=make_start,
        summarise=summary,
    )


if __name__ == "__main__":
    try:
        main()
    except errors.InputError as error:
        sys.exit(str(error))
