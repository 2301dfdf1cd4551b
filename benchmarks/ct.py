"""Pancreatic cancer on CT: what helps at small budgets, and what each budget reaches, on the
embedded cohort.

In: the trials and arms below. Out: `results/ct_ladder.json`, a row a run with three seeds, and
intervals over patients and seeds as in `ladder.py`. With `--tune`: trials on another cohort of the
generator, one seed, into `results/ct_trials.json`: which part of the network is trained, how many
views, how large the batch, how many epochs, from which start. Test patients of the ladder are never
seen in trials. Rows are kept by their settings: the same command goes on.

The arms read several levels of a volume, are trained by the rule and predicted over five shifts.
Those of version 0.3, whose head is pooled and whose weights are all trained, stand beside them, so
that nobody mistakes a better network for better privacy.
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
_PUBLIC = dict(epochs=12, learning_rate=3e-3, batch_size=32, augmentation="shift")
STARTS = {
    "levels": _PUBLIC | dict(head="levels"),
    "public": _PUBLIC | dict(head="pooled"),
    "radiographs": dict(
        epochs=10, learning_rate=2e-3, batch_size=64, augmentation="strong", head="pooled"
    ),
}
POOLED_RATES = {0.29: 2.1e-3, 1.06: 4e-3, 8.0: 6e-3}  # of version 0.3


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one run is trained.

    Epsilon None: ordinary steps, or none where the arm is "zero-shot". `head_steps`, `head_rate`,
    `head_clip` and `head_share` are of the head alone, on frozen features; 0 where it is not
    trained so. `shifts` are those of the prediction.
    """

    arm: str
    epsilon: float | None = None
    seed: int = 0
    start: str = "levels"
    trained: str = "all"
    views: int = 1
    batch: int = 32
    epochs: int = 8
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    averaging: float = 0.99
    head_steps: int = 0
    head_rate: float = 0.0
    head_clip: float = 0.0
    head_share: float = 0.0
    shifts: int = 5


def ours(epsilon: float, trained: str | None = None) -> Settings:
    """Return our recipe by its rule; `trained` in place of what the rule says."""
    rule, _ = recipe_rule.settle(epsilon, N_PATIENTS, "alike", TRAINED=trained)
    counts = dict(
        batch=rule.get("EXPECTED_BATCH_SIZE", N_PATIENTS),
        epochs=rule.get("EPOCHS", 0),
        learning_rate=rule.get("LEARNING_RATE", 0.0),
        head_steps=rule.get("HEAD_STEPS", 0),
        head_rate=rule.get("HEAD_LEARNING_RATE", 0.0),
        head_clip=rule.get("HEAD_CLIP_NORM", 0.0),
        head_share=rule.get("HEAD_SHARE", 0.0),
    )
    return Settings("ours, patient", epsilon, trained=rule["TRAINED"], averaging=0.97, **counts)


def pooled(arm: str, epsilon: float | None = None, **settings: object) -> Settings:
    """Return an arm of version 0.3: a pooled head, all weights, one prediction of a volume."""
    settings = dict(start="public", shifts=1) | settings
    if epsilon is not None:
        rate = POOLED_RATES[epsilon]
        settings = dict(batch=256, learning_rate=rate, averaging=0.97) | settings
    return Settings(f"{arm}, pooled head", epsilon, **settings)


def trials() -> list[Settings]:
    """Return the trials, those of the present arms first: the rule, with one thing changed at a
    time, and all weights in its place.
    """
    of_levels = [Settings("zero-shot"), Settings("ceiling", epochs=16)]
    for epsilon in (8.0, 1.06, 0.29):
        rule = ours(epsilon, "head")
        of_levels += [
            dataclasses.replace(rule, **change)
            for change in (
                {},
                dict(head_rate=rule.head_rate * 3),
                dict(head_rate=rule.head_rate / 3),
                dict(head_steps=2 * rule.head_steps),
                dict(head_clip=rule.head_clip * 3),
            )
        ]
    return [*of_levels, ours(8.0, "all_then_head"), *pooled_trials()]


def pooled_trials() -> list[Settings]:
    """Return the trials of version 0.3, those at 1.06 first: its rule, and its rule with smaller
    batches, with one thing changed at a time. That of the head alone is not among them: nothing
    trains it with images any more.

    Full batches have their own epochs and rate; an epsilon of 1,000 stands for steps without noise.
    """
    private_trials = []
    for epsilon in (1.06, 0.29, 8.0):
        rule = pooled("ours, patient", epsilon)
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
                dict(learning_rate=twice),
                dict(views=2),
                dict(start="radiographs"),
                dict(start="none"),
            )
        ]
    return [
        pooled("zero-shot"),
        pooled("ceiling"),
        pooled("ceiling", epochs=16),
        pooled("ceiling", start="none", epochs=16),
        pooled("ceiling", start="radiographs", epochs=16),
        *private_trials,
    ]


def arms_of_ladder() -> list[Settings]:
    """Return all runs of the ladder, those of version 0.3 last."""
    lines = [
        Settings("zero-shot"),
        Settings("ceiling", epochs=16),
        *(ours(epsilon) for epsilon in EPSILONS),
        dataclasses.replace(ours(EPSILONS[-1], "all_then_head"), arm="ours, all weights first"),
        pooled("zero-shot"),
        pooled("ceiling", epochs=16),
        *(pooled("ours, patient", epsilon) for epsilon in EPSILONS),
    ]
    return [
        dataclasses.replace(line, seed=seed)
        for seed in SEEDS
        for line in lines
        if not (seed and line.arm.startswith("zero-shot"))
    ]


def public_cohort(start: str) -> cohorts.Cohort:
    """Return the cohort on which a public model is trained."""
    return cohorts.read(RADIOGRAPHS if start == "radiographs" else PUBLIC)


def start_path(name: str) -> Path:
    """Return the file of a public model."""
    data = public_cohort(name).record["data_hash"]
    fingerprint = fingerprints.fingerprint(STARTS[name] | {"data": data}, pretraining.CODE)
    return paths.results_dir() / f"start-{name}-{fingerprint[:12]}.safetensors"


def make_start(name: str) -> None:
    """Train a public model, if it is not there."""
    torch.set_num_threads(1)
    public, path = public_cohort(name), start_path(name)
    if not path.exists():
        session = pretraining.pretraining_session(
            f"start-{name}", public, channels=1, width=16, fingerprint=path.stem, **STARTS[name]
        )
        for _ in loop.epochs_left(session):
            loop.train_one_epoch(session)
        starts.standardise(session.model, public, channels=1)
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
        head="levels" if settings.start == "levels" else "pooled",
        trained=recipe_rule.part_of({"TRAINED": settings.trained}),
    )
    kept = {} if settings.arm.startswith("zero-shot") else train(settings, model, private)
    predictions = prediction.predictions_of(model, private, 1, ("test",), shifts=settings.shifts)
    auroc = metrics.auroc_by_finding({"auroc": predictions}, split="test")["auroc"].mean()
    return dataclasses.asdict(settings) | kept | {"auroc": float(auroc)}, ladder.replicates_of(
        predictions
    )


def private_arm(
    settings: Settings, data: training_set.TrainingSet, model: torch.nn.Module
) -> private_step.PrivateArm:
    """Return the arm of a private run: of all weights, of the head alone, or of both."""
    is_head = settings.trained == "head"
    return private_step.PrivateArm(
        data,
        model,
        promise.PrivacyBudget(
            epsilon=settings.epsilon,
            delta=DELTA,
            clip_norm=settings.head_clip if is_head else settings.clip_norm,
            noise_multiplier=0.0 if settings.epsilon == ladder.NO_NOISE else None,
        ),
        promise.Batching(
            expected_batch_size=settings.batch,
            epochs=settings.head_steps if is_head else settings.epochs,
            max_images_per_patient=data.most_images,
            views_per_image=settings.views,
            physical_batch_size=32,
        ),
        mode="demo",
        seed=settings.seed,
        head=promise.HeadSteps(settings.head_steps, settings.head_clip, settings.head_share)
        if settings.trained == "all_then_head"
        else None,
    )


def train(settings: Settings, model: torch.nn.Module, private: cohorts.Cohort) -> dict:
    """Train a model; return what is to be kept of it."""
    data, epochs = training_set.TrainingSet.of(private, "patient"), settings.epochs
    if settings.epsilon is None:
        arm = ordinary_step.BaselineArm(
            data, model, channels=1, batch_size=settings.batch, seed=settings.seed
        )
    else:
        arm = private_arm(settings, data, model)
        epochs = settings.head_steps if settings.trained == "head" else epochs
    name = fingerprints.fingerprint(dataclasses.asdict(settings))[:12]
    session = training_session.Session(
        f"ct-{name}",
        model,
        arm,
        epochs=epochs,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_rate,
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
