"""Pancreatic cancer on CT: what helps at small budgets, and what each budget reaches, on the
embedded cohort.

In: the trials and arms below. Out: `results/ct_ladder.json`, a row a run with three seeds, and
intervals over patients and seeds as in `ladder.py`. With `--tune`: trials on another cohort of the
generator, one seed, into `results/ct_trials.json`: which part of the network is trained, how many
views, how large the batch, how many epochs, from which start. Test patients of the ladder are never
seen in trials. Rows are kept by their settings: the same command goes on.
"""

import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core a run
os.environ.setdefault("TQDM_DISABLE", "1")

import ladder
import numpy as np
import torch

from helpers.analysis import metrics
from helpers.core import errors, fingerprints, paths, run_records
from helpers.data import build_cohort, cohorts
from helpers.data.synthetic import abdomen_cohort
from helpers.privacy import promise
from helpers.training import (
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

RESULTS = Path(__file__).resolve().parent / "results"
PRIVATE, PUBLIC, RADIOGRAPHS = "synthetic_ct_private", "synthetic_ct_public", "synthetic_cxr_public"
N_PATIENTS, DELTA, EPSILONS, SEEDS = 1000, 5e-5, (0.29, 1.06, 8.0), (0, 1, 2)
TUNING_SEED = 1  # of the generator
# of public training: as profiles/demo_ct.yaml, and as the radiograph study's public model
STARTS = {
    "public": dict(epochs=12, learning_rate=3e-3, batch_size=32, augmentation="shift"),
    "radiographs": dict(epochs=10, learning_rate=2e-3, batch_size=64, augmentation="strong"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one run is trained.

    Epsilon None: ordinary steps, or none where the arm is "zero-shot".
    """

    arm: str
    epsilon: float | None = None
    seed: int = 0
    start: str = "public"
    trained: str = "all"
    views: int = 1
    batch: int = 32
    epochs: int = 8
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    averaging: float = 0.99


def ours(epsilon: float) -> Settings:
    """Return our recipe by its rule."""
    rule = recipe_rule.recipe_for(epsilon, N_PATIENTS)
    return Settings(
        "ours, patient",
        epsilon,
        batch=rule["EXPECTED_BATCH_SIZE"],
        epochs=rule["EPOCHS"],
        learning_rate=rule["LEARNING_RATE"],
        averaging=0.97,
    )


def trials() -> list[Settings]:
    """Return the trials, those at 1.06 first: the rule, and the rule with smaller batches, with one
    thing changed at a time.

    Full batches have their own epochs and rate; an epsilon of 1,000 stands for steps without noise.
    """
    private_trials = []
    for epsilon in (1.06, 0.29, 8.0):
        rule = ours(epsilon)
        smaller, twice = dataclasses.replace(rule, batch=64), rule.learning_rate * 2
        private_trials += [
            rule,
            smaller,
            dataclasses.replace(rule, learning_rate=twice),
            dataclasses.replace(smaller, trained="norms_and_head"),
        ]
        if epsilon == 8.0:  # where noise is smallest: what holds it back?
            private_trials += [
                dataclasses.replace(rule, **change)
                for change in (
                    dict(epochs=16),
                    dict(epochs=32),
                    dict(clip_norm=4.0),
                    dict(learning_rate=rule.learning_rate / 3),
                    dict(epsilon=ladder.NO_NOISE),
                    dict(epsilon=ladder.NO_NOISE, clip_norm=1e6),
                )
            ]
        if epsilon != 1.06:
            continue
        private_trials += [
            dataclasses.replace(rule, **change)
            for change in (
                dict(trained="norms_and_head"),
                dict(views=2),
                dict(epochs=16),
                dict(batch=512),
                dict(batch=N_PATIENTS, epochs=20, learning_rate=twice),
            )
        ]
        private_trials += [
            dataclasses.replace(smaller, **change)
            for change in (
                dict(trained="last_block"),
                dict(trained="head"),
                dict(learning_rate=twice),
                dict(views=2),
                dict(start="radiographs"),
                dict(start="none"),
            )
        ]
    return [
        Settings("zero-shot"),
        Settings("ceiling"),
        Settings("ceiling", epochs=16),
        Settings("ceiling", start="none", epochs=16),
        Settings("ceiling", start="radiographs", epochs=16),
        *private_trials,
    ]


def arms_of_ladder() -> list[Settings]:
    """Return all runs of the ladder."""
    lines = [
        Settings("zero-shot"),
        Settings("ceiling", epochs=16),
        *(ours(epsilon) for epsilon in EPSILONS),
    ]
    return [
        dataclasses.replace(line, seed=seed)
        for seed in SEEDS
        for line in lines
        if not (seed and line.arm == "zero-shot")
    ]


def start_path(name: str) -> Path:
    """Return the file of a public model."""
    data = cohorts.read(PUBLIC if name == "public" else RADIOGRAPHS).record["data_hash"]
    fingerprint = fingerprints.fingerprint(STARTS[name] | {"data": data}, pretraining.CODE)
    return paths.results_dir() / f"start-{name}-{fingerprint[:12]}.safetensors"


def make_start(name: str) -> None:
    """Train a public model, if it is not there."""
    torch.set_num_threads(1)
    public, path = cohorts.read(PUBLIC if name == "public" else RADIOGRAPHS), start_path(name)
    if not path.exists():
        session = pretraining.pretraining_session(
            f"start-{name}",
            public,
            channels=1,
            width=16,
            fingerprint=path.stem,
            head="pooled",
            **STARTS[name],
        )
        for _ in loop.epochs_left(session):
            loop.train_one_epoch(session)
        weight_files.save_weights(
            session.model, path, [public.canonical[finding] for finding in public.findings]
        )


def run(settings: Settings) -> tuple[dict, np.ndarray]:
    """Train and predict `test`.

    Return the row of the results, and (1 + replicates,) AUROCs, the estimate first.
    """
    torch.set_num_threads(1)
    private = cohorts.read(PRIVATE)
    weights, known = (
        (None, [])
        if settings.start == "none"
        else weight_files.load_weights(start_path(settings.start))
    )
    model, _ = starts.starting_model(
        private,
        weights,
        known,
        channels=1,
        width=16,
        seed=settings.seed,
        head="pooled",
        trained=settings.trained,
    )
    kept = {} if settings.arm == "zero-shot" else train(settings, model, private)
    predictions = prediction.predictions_of(model, private, 1, ("test",))
    auroc = metrics.auroc_by_finding({"auroc": predictions}, split="test")["auroc"].mean()
    return dataclasses.asdict(settings) | kept | {"auroc": float(auroc)}, ladder.replicates_of(
        predictions
    )


def train(settings: Settings, model: torch.nn.Module, private: cohorts.Cohort) -> dict:
    """Train a model; return what is to be kept of it."""
    data = training_set.TrainingSet.of(private, "patient")
    if settings.epsilon is None:
        arm = ordinary_step.BaselineArm(
            data, model, channels=1, batch_size=settings.batch, seed=settings.seed
        )
    else:
        arm = private_step.PrivateArm(
            data,
            model,
            promise.PrivacyBudget(
                epsilon=settings.epsilon,
                delta=DELTA,
                clip_norm=settings.clip_norm,
                noise_multiplier=0.0 if settings.epsilon == ladder.NO_NOISE else None,
            ),
            promise.Batching(
                expected_batch_size=settings.batch,
                epochs=settings.epochs,
                max_images_per_patient=data.most_images,
                views_per_image=settings.views,
                physical_batch_size=32,
            ),
            mode="demo",
            seed=settings.seed,
        )
    name = fingerprints.fingerprint(dataclasses.asdict(settings))[:12]
    session = training_session.Session(
        f"ct-{name}",
        model,
        arm,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        averaging=settings.averaging,
        fingerprint=fingerprints.fingerprint(
            {"settings": name, "data": private.record["data_hash"]}, pretraining.CODE
        ),
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    session.checkpoint.unlink(missing_ok=True)
    kept = {"steps": session.steps, "train_seconds": round(session.seconds, 1)}
    return kept | (
        {"noise_multiplier": arm.promise.noise_multiplier} if settings.epsilon is not None else {}
    )


def main() -> None:
    """Run what is missing in the results."""
    options = ladder.read_options(__doc__)
    os.environ["RESULTS_DIR"] = str(
        (options.scratch / ("ct_tuning" if options.tune else "ct_ladder")).resolve()
    )
    for name, seed in (
        (PRIVATE, TUNING_SEED if options.tune else 0),
        (PUBLIC, 0),
        (RADIOGRAPHS, 0),
    ):
        build_cohort.build(name, generator_seed=seed)
    about = {
        "hardware": run_records.hardware(),
        "versions": run_records.versions(),
        "generator_version": abdomen_cohort.GENERATOR_VERSION,
        "n_patients": N_PATIENTS,
        "delta": DELTA,
    }
    ladder.collect(
        trials() if options.tune else arms_of_ladder(),
        RESULTS / ("ct_trials.json" if options.tune else "ct_ladder.json"),
        options,
        about=about,
        run=run,
        make_start=make_start,
    )


if __name__ == "__main__":
    try:
        main()
    except errors.InputError as error:
        sys.exit(str(error))
