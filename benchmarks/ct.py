"""Pancreatic cancer on CT: what helps at small budgets, and what each budget reaches, on the
embedded cohort.

In: the trials and arms below. Out: `results/ct_ladder.json`, a row a run with three seeds, and
intervals over patients and seeds as in `ladder.py`. With `--tune`: trials on another cohort of the
generator, one seed, into `results/ct_trials.json`: what is trained, how fast, how long, clipped
where. Test patients of the ladder are never seen in trials. Rows are kept by their settings: the
same command goes on.

All arms read several levels of a volume and are predicted over five shifts. Rows of version 0.3,
whose head was pooled and whose weights were all trained, stay in the results under names that say
so.
"""

import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core a run
os.environ.setdefault("TQDM_DISABLE", "1")

import ladder_arms
import numpy as np
import torch
from ladder_levels import replicates_of
from ladder_runs import collect, read_options

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
PRIVATE, PUBLIC = "synthetic_ct_private", "synthetic_ct_public"
N_PATIENTS, DELTA, EPSILONS, SEEDS = 1000, 5e-5, (0.29, 1.06, 8.0), (0, 1, 2)
TUNING_SEED = 1  # of the generator
# by the trials, which begin with four passes: frozen features of another hospital hold too little,
# eight passes were the best, by little
TRAINED, EPOCHS, FIRST_EPOCHS = "all", 8, 4
OTHER_PARTS = {"head alone": "head", "all weights, then the head": "all_then_head"}
_PUBLIC = dict(learning_rate=3e-3, batch_size=32, augmentation="shift", head="levels")
STARTS = {  # public training; the shorter one as in profiles/demo_ct.yaml
    "48_passes": _PUBLIC | dict(epochs=48),
    "12_passes": _PUBLIC | dict(epochs=12),
}
START = "48_passes"


@dataclasses.dataclass(frozen=True)
class Settings(ladder_arms.Settings):
    """How one run is trained, see `ladder_arms.Settings`; the unit is the patient.

    Attributes:
        views: augmented, of each volume in one step.
    """

    start: str = START
    head: str = "levels"
    batch: int = 32
    epochs: int = 16
    learning_rate: float = 2e-3
    averaging: float = 0.99
    views: int = 1


def ours(arm: str, epsilon: float, **by_hand: object) -> Settings:
    """Return our recipe: what is trained, and for how many passes, by trials on the tuning cohort,
    all else by the rule.

    Args:
        arm, epsilon: see `Settings`.
        by_hand: settings by their names in `recipe_rule`.
    """
    by_hand = {"TRAINED": TRAINED} | by_hand
    if by_hand["TRAINED"] != "head":
        by_hand = {"EPOCHS": EPOCHS} | by_hand
    chosen, _ = recipe_rule.settle(epsilon, N_PATIENTS, "alike", **by_hand)
    return Settings(arm, epsilon, averaging=0.97, **ladder_arms.counted(chosen))


def trials() -> list[Settings]:
    """Return the trials, at the largest budget first: what a longer public training is worth; all
    weights by the rule, with one thing changed at a time; the head alone by the rule, with one
    thing changed; both.
    """
    shorter, first = "explored: 12 public passes", {"EPOCHS": FIRST_EPOCHS}
    made = [
        Settings("zero-shot"),
        ours("ours, patient", EPSILONS[-1], **first),
        Settings(f"zero-shot, {shorter}", start="12_passes"),
        dataclasses.replace(ours(shorter, EPSILONS[-1], **first), start="12_passes"),
        Settings("ceiling"),
        Settings("ceiling", epochs=8),
    ]
    for epsilon in EPSILONS[::-1]:
        rule = ours("ours, patient", epsilon, **first)
        head = ours("ours, patient", epsilon, TRAINED="head")
        slower = {"learning_rate": rule.learning_rate / 2}
        changes = ({}, {"epochs": EPOCHS}, slower, {"clip_norm": 4.0})
        made += [dataclasses.replace(rule, **change) for change in changes]
        rates = [head.head_learning_rate * times for times in (1, 3, 1 / 3)]
        made += [dataclasses.replace(head, head_learning_rate=rate) for rate in rates]
    both = ours("ours, patient", EPSILONS[-1], TRAINED="all_then_head", **first)
    made += [both, dataclasses.replace(both, head_share=0.3)]
    return list(dict.fromkeys(made))


def arms_of_ladder() -> list[Settings]:
    """Return all runs of the ladder, those that say most first; at the largest budget with other
    parts of the network trained, too.
    """
    lines = [
        Settings("zero-shot"),
        Settings("ceiling"),
        *(ours("ours, patient", epsilon) for epsilon in EPSILONS[::-1]),
        *(ours(arm, EPSILONS[-1], TRAINED=part) for arm, part in OTHER_PARTS.items()),
    ]
    return [
        dataclasses.replace(line, seed=seed)
        for seed in SEEDS
        for line in lines
        if not (seed and line.arm == "zero-shot")
    ]


def start_path(name: str) -> Path:
    """Return the file of a public model."""
    made_from = STARTS[name] | {"data": cohorts.read(PUBLIC).record["data_hash"]}
    fingerprint = fingerprints.fingerprint(made_from, pretraining.CODE)
    return paths.results_dir() / f"start-{name}-{fingerprint[:12]}.safetensors"


def make_start(name: str) -> None:
    """Train a public model, if it is not there."""
    torch.set_num_threads(1)
    public, path = cohorts.read(PUBLIC), start_path(name)
    if path.exists():
        return
    session = pretraining.pretraining_session(
        path.stem, public, channels=1, width=16, fingerprint=path.stem, **STARTS[name]
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    starts.standardise(session.model, public, channels=1)
    known = [public.canonical[finding] for finding in public.findings]
    weight_files.save_weights(session.model, path, known)


def run(settings: Settings) -> tuple[dict, np.ndarray]:
    """Train and predict `test`.

    Return the row of the results, and (1 + replicates,) AUROCs, the estimate first.
    """
    torch.set_num_threads(1)
    private = cohorts.read(PRIVATE)
    model, _ = starts.starting_model(
        private,
        *weight_files.load_weights(start_path(settings.start)),
        channels=1,
        width=16,
        seed=settings.seed,
        head=settings.head,
        trained=recipe_rule.part_of(settings.recipe),
    )
    kept = {} if settings.arm == "zero-shot" else train(settings, model, private)
    predictions = prediction.predictions_of(model, private, 1, ("test",), shifts=settings.shifts)
    auroc = metrics.auroc_by_finding({"auroc": predictions}, split="test")["auroc"].mean()
    return dataclasses.asdict(settings) | kept | {"auroc": float(auroc)}, replicates_of(predictions)


def private_arm(
    settings: Settings, model: torch.nn.Module, data: training_set.TrainingSet
) -> private_step.PrivateArm:
    """Return the private steps of a run: of the head alone, of all weights, or of both."""
    clip_norm, batching, head = recipe_rule.batching_of(
        settings.recipe, len(data.units), data.most_images, 32
    )
    return private_step.PrivateArm(
        data,
        model,
        promise.PrivacyBudget(settings.epsilon, DELTA, clip_norm),
        dataclasses.replace(batching, views_per_image=settings.views),
        mode="demo",
        seed=settings.seed,
        head=head,
    )


def train(settings: Settings, model: torch.nn.Module, private: cohorts.Cohort) -> dict:
    """Train a model; return what is to be kept of it."""
    data = training_set.TrainingSet.of(private, "patient")
    if settings.epsilon is None:
        arm = ordinary_step.BaselineArm(
            data, model, channels=1, batch_size=settings.batch, seed=settings.seed
        )
    else:
        arm = private_arm(settings, model, data)
    name = fingerprints.fingerprint(dataclasses.asdict(settings))[:12]
    session = training_session.Session(
        f"ct-{name}",
        model,
        arm,
        epochs=settings.head_steps if settings.trained == "head" else settings.epochs,
        learning_rate=settings.learning_rate,
        head_learning_rate=settings.head_learning_rate,
        averaging=settings.averaging,
        fingerprint=fingerprints.fingerprint(
            {"settings": name, "data": private.record["data_hash"]}, pretraining.CODE
        ),
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    session.checkpoint.unlink(missing_ok=True)
    noise = {} if settings.epsilon is None else {"noise_multiplier": arm.promise.noise_multiplier}
    return {"steps": session.steps, "train_seconds": round(session.seconds, 1)} | noise


def main() -> None:
    """Run what is missing in the results."""
    options = read_options(__doc__)
    os.environ["RESULTS_DIR"] = str(
        (options.scratch / ("ct_tuning" if options.tune else "ct_ladder")).resolve()
    )
    build_cohort.build(PRIVATE, generator_seed=TUNING_SEED if options.tune else 0)
    build_cohort.build(PUBLIC, generator_seed=0)
    about = {
        "hardware": run_records.hardware(),
        "versions": run_records.versions(),
        "generator_version": abdomen_cohort.GENERATOR_VERSION,
        "n_patients": N_PATIENTS,
        "delta": DELTA,
    }
    collect(
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
