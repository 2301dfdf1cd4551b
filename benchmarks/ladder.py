"""The ladder: what each way of training reaches at each budget, on the embedded cohort, in one run.

In: arms (`recipes.py`'s rule and the paper's recipe in several forms), budgets, seeds. Out: `results/ladder.json`, for
`draw.py`. With `--tune`: every tuned arm's trials, drawn at random and equally many, on another cohort of the generator;
`results/ladder_trials.json`, from which the arms take their settings.

Test patients are looked at once for each run. Restartable: what is in the results with the same settings is not run again.
"""

import argparse
import dataclasses
import datetime
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

RESULTS = Path(__file__).resolve().parent / "results"
EPSILONS = (0.29, 1.06, 7.89)
DELTA = 1e-5
SEEDS = (0, 1, 2)
PRIVATE, PUBLIC = "synthetic_cxr_private", "synthetic_cxr_public"
N_PATIENTS = 8800  # of training
TUNING_SEED = 1  # of the generator, for the cohort on which arms are tuned
WIDTH, CHANNELS = 16, 1
N_TRIALS = 30  # an arm and budget
MOST_IMAGES = 300_000  # that a trial may go through: what a CPU core does in about five minutes
STARTS = {"plain": dict(augmentation="shift", epochs=4), "strong": dict(augmentation="strong", epochs=10)}
PUBLIC_LEARNING_RATE, PUBLIC_BATCH_SIZE = 2e-3, 64


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one run is trained. epsilon None: without privacy; inf: private steps without noise."""

    arm: str
    epsilon: float | None
    seed: int
    start: str = "strong"
    head: str = "sided"
    trained: str = "all"
    unit: str = "patient"
    max_images: int = 2
    views: int = 1
    batch: int = 256
    epochs: int = 4
    learning_rate: float = 4e-3
    clip_norm: float = 1.0
    schedule: str = "cosine"
    averaging: float = 0.9
    pos_weight: str = "none"
    augmentation: str = "shift"


PAPER = dict(head="pooled", unit="image", max_images=8, batch=128, clip_norm=1.5, schedule="constant", averaging=0.0,
             pos_weight="private", learning_rate=5e-4, epochs=4)


# ---- trials

def trial(arm: str, epsilon: float | None, rng: np.random.Generator) -> Settings:
    """Return settings of an arm drawn at random, within its own freedom and the common limit of images."""
    while True:
        drawn = _draw(arm, rng)
        settings = Settings(arm, epsilon, 0, **drawn)
        per_unit = 1.0 if settings.unit == "image" or epsilon is None else min(settings.max_images, 3.4) * 0.34
        if settings.epochs * 30_000 * per_unit * settings.views <= MOST_IMAGES:
            return settings


def _draw(arm: str, rng: np.random.Generator) -> dict:
    rate = lambda low, high: float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.2g}")
    pick = lambda *values: values[rng.integers(len(values))]
    if arm.startswith("paper"):
        start = dict(start="strong", head="sided") if arm == "paper_our_start" else dict(start="plain")
        return PAPER | start | dict(learning_rate=rate(1e-4, 8e-3), epochs=pick(2, 3, 4, 6, 8, 10))
    if arm == "ceiling":
        return dict(unit="image", batch=pick(32, 64, 128), epochs=pick(3, 4, 6, 8, 10), learning_rate=rate(5e-4, 1e-2),
                    averaging=pick(0.0, 0.99), augmentation=pick("shift", "shift", "strong"))
    common = dict(epochs=pick(2, 3, 4, 6, 8, 12, 16, 24), learning_rate=rate(5e-4, 2e-2), views=pick(1, 1, 1, 2, 4),
                  clip_norm=pick(0.3, 1.0, 3.0), averaging=pick(0.0, 0.9, 0.97), trained=pick("all", "all", "norms_and_head", "head"))
    if arm == "ours_image":
        return common | dict(unit="image", max_images=8, batch=pick(256, 512, 1024, 2048, 4096))
    return common | dict(max_images=pick(1, 2, 4, 8), batch=pick(128, 256, 512, 1024, 2048))


def trials(n: int) -> list[Settings]:
    """Return all trials: `n` for each tuned arm and budget."""
    found = []
    for arm in ("paper_tuned", "paper_our_start", "ours_image", "ours_patient"):
        for epsilon in EPSILONS:
            rng = np.random.default_rng([int.from_bytes(arm.encode()[-6:]), round(1000 * epsilon)])
            found += [trial(arm, epsilon, rng) for _ in range(n)]
    rng = np.random.default_rng(7)
    return [trial("ceiling", None, rng) for _ in range(n)] + found


# ---- one run

def prepare(generator_seed: int, processes: int | None = None) -> None:
    """Draw the cohorts and train the public models, if they are not there."""
    from helpers import cohorts, models, runs, starts, training
    private = cohorts.build(PRIVATE, n_patients=N_PATIENTS, generator_seed=generator_seed, processes=processes)
    public = cohorts.build(PUBLIC, processes=processes)
    for name, start in STARTS.items():
        path = runs.results_dir() / f"start_{name}.safetensors"
        if path.exists():
            continue
        session = starts.pretraining_session(f"start_{name}", public, channels=CHANNELS, width=WIDTH, **start,
                                             learning_rate=PUBLIC_LEARNING_RATE, batch_size=PUBLIC_BATCH_SIZE, fingerprint="")
        for _ in training.epochs_left(session):
            training.train_one_epoch(session)
        models.save_weights(session.model, path, [public.canonical[finding] for finding in public.findings])


def run(settings: Settings, keep_predictions: bool) -> dict:
    """Train and predict `test`; return the row of the results."""
    import torch

    from helpers import arms, cohorts, metrics, models, runs, scoring, starts, training, training_sets
    began = time.monotonic()
    private = cohorts.read(PRIVATE)
    weights, known = models.load_weights(runs.results_dir() / f"start_{settings.start}.safetensors")
    model, _ = starts.starting_model(private, weights, known, channels=CHANNELS, width=WIDTH, seed=settings.seed,
                                     head=settings.head, trained=settings.trained)
    row = dataclasses.asdict(settings)
    if settings.arm.startswith("zero_shot"):
        pass
    else:
        is_image = settings.unit == "image"
        data = training_sets.TrainingSet.of(private, settings.unit, settings.max_images if is_image else None, settings.seed)
        if settings.epsilon is None:
            arm = arms.BaselineArm(data, model, channels=CHANNELS, batch_size=settings.batch, seed=settings.seed,
                                   augmentation=settings.augmentation)
        else:
            weighting = ("private labels", arms.pos_weight(data.labels).to(training.device())) \
                if settings.pos_weight == "private" else ("none", None)
            no_noise = {"noise_multiplier": 0.0} if settings.epsilon == np.inf else {}
            arm = arms.PrivateArm(data, model, channels=CHANNELS, epsilon=min(settings.epsilon, 1000.0), delta=DELTA,
                                  clip_norm=settings.clip_norm, epochs=settings.epochs, expected_batch_size=settings.batch,
                                  max_images_per_patient=settings.max_images, physical_batch_size=256 if training.device().type == "cpu" else 2048,
                                  mode="demo", seed=settings.seed, views_per_image=settings.views, weighting=weighting, **no_noise)
            row |= {"noise_multiplier": arm.promise["noise_multiplier"]}
        name = f"ladder-{os.getpid()}"
        (runs.run_dir(name) / "checkpoint.pt").unlink(missing_ok=True)
        session = training.Session(name, model, arm, epochs=settings.epochs, learning_rate=settings.learning_rate,
                                   fingerprint=json.dumps(row), schedule=settings.schedule, averaging=settings.averaging)
        for _ in training.epochs_left(session):
            training.train_one_epoch(session)
        row |= {"steps": session.steps, "train_seconds": round(session.seconds, 1)}
        if getattr(arm, "diagnostics", None):
            row["clipped_fraction"] = float(np.mean([d["clipped_fraction"] for d in arm.diagnostics]))
    rows = np.flatnonzero(private.table["split"] == "test")
    scores = scoring.predict(model, private.images, rows, CHANNELS)
    labels = private.table[private.findings].to_numpy(float)[rows]
    row |= {"auroc": metrics.macro_auroc(labels, scores), "by_finding": [round(metrics.auroc(labels[:, k], scores[:, k]), 4) for k in range(8)],
            "seconds": round(time.monotonic() - began, 1)}
    return row | ({"scores": scores} if keep_predictions else {})


def _begin_worker() -> None:
    sys.stderr = open(os.devnull, "w")  # progress bars
    import torch
    torch.set_num_threads(1)


def _run_many(wanted: list[Settings], jobs: int, until: float, keep_predictions: bool = False) -> Iterator[dict]:
    """Yield the rows of runs as they finish, in several processes, none begun after `until`."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        waiting, running = list(reversed(wanted)), set()
        while waiting or running:
            while waiting and len(running) < jobs and time.monotonic() < until:
                running.add(pool.submit(run, waiting.pop(), keep_predictions))
            if not running:
                return
            done = next(as_completed(running))
            running.discard(done)
            try:
                yield done.result()
            except Exception as error:  # noqa: one bad trial must not end the rest
                print("failed:", repr(error)[:300], flush=True)
