"""The ladder: what each way of training reaches at each budget, on the embedded cohort, with
several seeds.

In: the arms below, budgets, seeds. Out: `results/ladder.json`, a row a run, and intervals over
patients and seeds, from the bootstrap's replicates of each run in `results/ladder_replicates.npz`.
With `--tune`: equally many trials for each tuned arm and budget, on another cohort of the
generator, into `results/ladder_trials.json`; arms take the best of their trials, ours the rule
`recipe_rule.recipe_for`.

Test patients of the ladder are never seen in trials. Runs that the results hold already are not run
again.
"""

import argparse
import dataclasses
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core a run
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import pandas as pd
import torch

from helpers.analysis import bootstrap, metrics
from helpers.core import errors, files, fingerprints, paths, random_streams, run_records
from helpers.data import build_cohort, cohorts, manifests
from helpers.data.synthetic import chest_cohort
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

RESULTS = Path(__file__).resolve().parent / "results"
PRIVATE, PUBLIC = "synthetic_cxr_private", "synthetic_cxr_public"
EPSILONS, SEEDS, DELTA = (0.29, 1.06, 7.89), (0, 1, 2), 1e-5
N_PATIENTS, N_IMAGES = 8800, 30_000  # of training; the images nearly
TUNING_SEED = 1  # of the generator, for the cohort on which arms are tuned
# of the network; the last two of public training
WIDTH, CHANNELS, BATCH_SIZE, LEARNING_RATE = 16, 1, 64, 2e-3
STARTS = {
    "plain": dict(augmentation="shift", epochs=4),
    "strong": dict(augmentation="strong", epochs=10),
    "sided": dict(augmentation="strong", epochs=10),
}  # the last from public labels with sides
N_BOOTSTRAP = 1000
ONCE = (
    "zero-shot",
    "zero-shot, paper's start",
    "same recipe",
    "same recipe, clipped",
    "ours, patient, public sides",
)
NO_NOISE = 1e3  # stands for no budget in settings of private steps without noise
SAME = {
    "generator_version": chest_cohort.GENERATOR_VERSION,
    "n_patients": N_PATIENTS,
    "delta": DELTA,
}  # rows of other ones are run again


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one run is trained; epsilon None: ordinary steps."""

    arm: str
    epsilon: float | None = None
    seed: int = 0
    start: str = "strong"
    head: str = "sided"
    trained: str = "all"
    unit: str = "patient"
    batch: int = 64
    epochs: int = 6
    learning_rate: float = 4e-3
    clip_norm: float = 1.0
    schedule: str = "cosine"
    averaging: float = 0.97
    pos_weight: str = "none"


# ---- arms and trials


def paper(arm: str, epsilon: float, **tuned: object) -> Settings:
    """Return the paper's recipe, of which an arm may have tuned learning rate and epochs."""
    own_start = (
        dict(start="strong", head="sided")
        if arm == "paper, our start"
        else dict(start="plain", head="pooled")
    )
    published = dict(
        unit="image",
        batch=128,
        clip_norm=1.5,
        schedule="constant",
        averaging=0.0,
        pos_weight="private",
        learning_rate=5e-4,
        epochs=4,
    )
    return Settings(arm, epsilon, **(published | own_start | tuned))


def ours(arm: str, epsilon: float, **changed: object) -> Settings:
    """Return our recipe by its rule."""
    unit = "image" if arm == "ours, image" else "patient"
    rule = recipe_rule.recipe_for(epsilon, N_IMAGES if unit == "image" else N_PATIENTS)
    return Settings(
        arm,
        epsilon,
        unit=unit,
        **(
            {
                name: rule[key]
                for name, key in (
                    ("batch", "EXPECTED_BATCH_SIZE"),
                    ("epochs", "EPOCHS"),
                    ("learning_rate", "LEARNING_RATE"),
                )
            }
            | changed
        ),
    )


def trials() -> list[Settings]:
    """Return five trials for each tuned arm and budget.

    Ours at image level takes the rule, and is tried once.
    """
    trial_settings = []
    for epsilon in (1.06, 7.89, 0.29):
        rule = ours("ours, patient", epsilon)
        trial_settings += [
            dataclasses.replace(rule, **change)
            for change in (
                {},
                {"learning_rate": rule.learning_rate * 2},
                {"learning_rate": rule.learning_rate / 2},
                {"clip_norm": 3.0},
                {"batch": rule.batch // 2},
            )
        ]
    trial_settings += [
        Settings("ceiling", unit="image", learning_rate=rate, epochs=epochs, averaging=0.99)
        for rate, epochs in ((8e-3, 6), (4e-3, 6), (2e-3, 6), (1.6e-2, 6), (8e-3, 10))
    ]
    for arm in ("paper, tuned", "paper, our start"):
        for epsilon in (1.06, 7.89, 0.29):
            # the published rate and epochs are among the trials
            rate = 5e-4 if epsilon < 1 else 1e-3
            trial_settings += [
                paper(arm, epsilon, learning_rate=rate * times, epochs=epochs)
                for times, epochs in ((1, 4), (0.5, 4), (2, 4), (1, 2), (1, 8))
            ]
    return trial_settings + [ours("ours, image", epsilon) for epsilon in EPSILONS]


def best_trial(arm: str, epsilon: float | None) -> dict:
    """Return learning rate and epochs of an arm's best trial at a budget.

    Raises:
        InputError: not all of them have been made.
    """
    path = RESULTS / "ladder_trials.json"
    errors.file_exists(path, "Run --tune first.")
    made = {settings_of(row): row["auroc"] for row in rows_of(path, SAME)}
    wanted = [
        settings for settings in trials() if (settings.arm, settings.epsilon) == (arm, epsilon)
    ]
    missing = [settings for settings in wanted if settings not in made]
    if missing:
        errors.refuse(
            f"{len(wanted)} trials of {arm!r} at epsilon {epsilon}",
            f"{len(wanted) - len(missing)}",
            "Run --tune to its end.",
        )
    best = max(wanted, key=made.get)
    return {"learning_rate": best.learning_rate, "epochs": best.epochs}


def ladder() -> list[Settings]:
    """Return all runs of the ladder, those that say most first.

    What splits the price, with one seed.
    """
    lines = [
        Settings("zero-shot"),
        Settings("zero-shot, paper's start", start="plain", head="pooled"),
        Settings("ceiling", unit="image", averaging=0.99, **best_trial("ceiling", None)),
    ]
    for epsilon in EPSILONS:
        lines += [
            ours("ours, patient", epsilon),
            paper("paper, as published", epsilon),
            ours("ours, image", epsilon),
        ]
        lines += [
            paper(arm, epsilon, **best_trial(arm, epsilon))
            for arm in ("paper, tuned", "paper, our start")
        ]
    without_noise = dataclasses.replace(
        ours("same recipe, clipped", EPSILONS[-1]), epsilon=NO_NOISE
    )
    lines += [
        without_noise,
        dataclasses.replace(without_noise, arm="same recipe", clip_norm=1e6),
        ours("ours, patient, public sides", 1.06, start="sided"),
    ]
    return [
        dataclasses.replace(line, seed=seed)
        for seed in SEEDS
        for line in lines
        if not (seed and line.arm in ONCE)
    ]


# ---- one run


def train(settings: Settings, model: torch.nn.Module, private: cohorts.Cohort) -> dict:
    """Train a model; return what is to be kept of it."""
    data = training_set.TrainingSet.of(private, settings.unit)
    if settings.epsilon is None:
        arm = ordinary_step.BaselineArm(
            data, model, channels=CHANNELS, batch_size=settings.batch, seed=settings.seed
        )
    else:
        weighting = (
            ("private labels", image_loss.pos_weight(data.labels))
            if settings.pos_weight == "private"
            else ("none", None)
        )
        arm = private_step.PrivateArm(
            data,
            model,
            promise.PrivacyBudget(
                epsilon=settings.epsilon,
                delta=DELTA,
                clip_norm=settings.clip_norm,
                noise_multiplier=0.0 if settings.epsilon == NO_NOISE else None,
            ),
            promise.Batching(
                expected_batch_size=settings.batch,
                epochs=settings.epochs,
                max_images_per_patient=data.most_images,
                physical_batch_size=256,
            ),
            channels=CHANNELS,
            mode="demo",
            seed=settings.seed,
            weighting=weighting,
        )
    session = training_session.Session(
        f"ladder-{fingerprints.fingerprint(dataclasses.asdict(settings))[:12]}",
        model,
        arm,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        fingerprint=fingerprint(dataclasses.asdict(settings), private),
        schedule=settings.schedule,
        averaging=settings.averaging,
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    session.checkpoint.unlink(missing_ok=True)
    kept = {"steps": session.steps, "train_seconds": round(session.seconds, 1)}
    if settings.epsilon is not None:
        kept["noise_multiplier"] = arm.promise.noise_multiplier
        kept["clipped_fraction"] = float(
            np.mean([step["clipped_fraction"] for step in arm.diagnostics])
        )
    return kept


def run(settings: Settings) -> tuple[dict, np.ndarray]:
    """Train and predict `test`.

    Return the row of the results, and (1 + replicates,) macro AUROCs, the estimate first.
    """
    torch.set_num_threads(1)
    private = cohorts.read(PRIVATE)
    weights, known = weight_files.load_weights(start_path(settings.start))
    model, _ = starts.starting_model(
        private,
        weights,
        known,
        channels=CHANNELS,
        width=WIDTH,
        seed=settings.seed,
        head=settings.head,
        trained=settings.trained,
    )
    kept = {} if settings.arm.startswith("zero-shot") else train(settings, model, private)
    predictions = prediction.predictions_of(model, private, CHANNELS, ("test",))
    aurocs = metrics.auroc_by_finding({"auroc": predictions}, split="test").set_index("finding")[
        "auroc"
    ]
    row = (
        dataclasses.asdict(settings)
        | kept
        | {
            "auroc": float(aurocs.mean()),
            "by_finding": aurocs.round(4).to_dict(),
        }
    )
    return row, replicates_of(predictions)


def fingerprint(settings: dict, cohort: cohorts.Cohort) -> str:
    """Return the hash of all that decides a model: settings, data, code."""
    return fingerprints.fingerprint(
        settings | {"data": cohort.record["data_hash"]}, pretraining.CODE
    )


def start_path(name: str) -> Path:
    """Return the file of a public model."""
    public = cohorts.read(f"{PUBLIC}_sided" if name == "sided" else PUBLIC)
    return (
        paths.results_dir() / f"start-{name}-{fingerprint(STARTS[name], public)[:12]}.safetensors"
    )


def make_start(name: str) -> None:
    """Train a public model, if it is not there."""
    torch.set_num_threads(1)
    public = cohorts.read(f"{PUBLIC}_sided" if name == "sided" else PUBLIC)
    if not start_path(name).exists():
        session = pretraining.pretraining_session(
            f"start-{name}",
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
        weight_files.save_weights(
            session.model,
            start_path(name),
            [public.canonical[finding] for finding in public.findings],
        )


# ---- intervals


def replicates_of(predictions: pd.DataFrame) -> np.ndarray:
    """Return (1 + replicates,) macro AUROCs, the estimate first.

    The same resamples of patients for each run.
    """
    patients = predictions.loc[
        predictions["finding"] == predictions["finding"].iloc[0], "patient_id"
    ].to_numpy()
    draws = bootstrap.Draws.of(patients, N_BOOTSTRAP, random_streams.random_stream(0, "bootstrap"))
    return np.mean(
        [
            bootstrap.ranked(part["label"].to_numpy(), part["score"].to_numpy(), draws, ("auroc",))[
                "auroc"
            ]
            for _, part in predictions.groupby("finding", sort=False)
        ],
        axis=0,
    )


def levels(by_arm: dict[tuple[str, float | None], np.ndarray]) -> list[dict]:
    """Return for each arm and budget the mean over seeds, its differences to other arms, and its
    share of the distance.

    An interval's variance is that of the patient bootstrap of the mean over seeds (the same
    resamples for all arms) plus, for every arm in it, the variance between seeds, pooled over arms,
    over the number of its seeds.

    Args:
        by_arm: {(arm, epsilon): (seeds, 1 + replicates)}, the estimates in column 0.

    Returns:
        A dict each: arm, epsilon, seeds (each one's value); auroc, minus_zero_shot, minus_ceiling,
        minus the other arms at the same budget; share, (arm - zero-shot) / (ceiling - zero-shot),
        and chance_corrected, (arm - 0.5) / (ceiling - 0.5): estimate, low, high.
    """
    several = [seeds[:, 0].var(ddof=1) for seeds in by_arm.values() if len(seeds) > 1]
    between = float(np.mean(several)) if several else 0.0

    # mean over seeds, and its variance between seeds
    def of(key: tuple) -> tuple[np.ndarray, float]:
        return by_arm[key].mean(0), (
            0.0 if key[0].startswith("zero-shot") else between / len(by_arm[key])
        )

    (zero, _), (ceiling, ceiling_variance) = of(("zero-shot", None)), of(("ceiling", None))
    entries = []
    for (arm, epsilon), seeds in by_arm.items():
        mean, variance = of((arm, epsilon))
        entry = {
            "arm": arm,
            "epsilon": epsilon,
            "seeds": seeds[:, 0].tolist(),
            "auroc": interval(mean, variance),
            "minus_zero_shot": interval(mean - zero, variance),
            "minus_ceiling": interval(mean - ceiling, variance + ceiling_variance),
        }
        for other in ("paper, as published", "paper, tuned", "paper, our start", "ours, image"):
            if (other, epsilon) in by_arm and other != arm:
                of_other, other_variance = of((other, epsilon))
                entry[f"minus {other}"] = interval(mean - of_other, variance + other_variance)
        if arm != "ceiling":
            share, distance = (mean - zero) / (ceiling - zero), (ceiling - zero)[0]
            entry["share"] = interval(
                share, (variance + share[0] ** 2 * ceiling_variance) / distance**2
            )
            kept, whole = (mean - 0.5) / (ceiling - 0.5), (ceiling - 0.5)[0]
            entry["chance_corrected"] = interval(
                kept, (variance + kept[0] ** 2 * ceiling_variance) / whole**2
            )
        entries.append(entry)
    return entries


def interval(values: np.ndarray, variance: float) -> list[float]:
    """Return estimate, low and high (95 %) of (1 + replicates,) values and a further variance."""
    half = 1.96 * np.sqrt(values[1:].var(ddof=1) + variance)
    return [float(values[0]), float(values[0] - half), float(values[0] + half)]


# ---- many runs


def in_turn(
    wanted: list, jobs: int, until: float, run: Callable, make_start: Callable
) -> Iterator[tuple[dict, np.ndarray]]:
    """Yield what `run` returns as runs finish, a process a job; none is begun after `until`."""
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        list(pool.map(make_start, {settings.start for settings in wanted} - {"none"}))
        waiting, running = list(reversed(wanted)), set()
        while running or waiting and time.monotonic() < until:
            while waiting and len(running) < jobs and time.monotonic() < until:
                running.add(pool.submit(run, waiting.pop()))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def rows_of(out: Path, about: dict) -> list[dict]:
    """Return the rows that the results have already.

    None where they are of another cohort or promise.
    """
    stored = json.loads(out.read_text()) if out.exists() else {}
    same = all(stored.get(name) == about[name] for name in SAME)
    return stored["rows"] if stored and same else []


def collect(
    wanted: list,
    out: Path,
    options: argparse.Namespace,
    *,
    about: dict,
    run: Callable,
    make_start: Callable,
) -> None:
    """Run what the results lack, and write rows, replicates and levels as runs finish; the same
    command goes on.

    Args:
        wanted: settings, dataclasses with arm, epsilon and start; those that say most first.
        out: the results; replicates lie beside it, but for trials.
        options: tune, jobs, minutes.
        about: what else the results say.
        run, make_start: of one setting and of one start, see `run` and `make_start` here.
    """
    until, kept = (
        time.monotonic() + 60 * options.minutes,
        out.with_name(f"{out.stem}_replicates.npz"),
    )
    kind = type(wanted[0])
    rows = {settings_of(row, kind): row for row in rows_of(out, about)}
    values = dict(np.load(kept)) if kept.exists() and not options.tune else {}
    missing = [
        settings
        for settings in wanted
        if settings not in rows or not (options.tune or key_of(settings) in values)
    ]
    for row, replicates in in_turn(missing, options.jobs, until, run, make_start):
        device = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}
        settings = settings_of(row, kind)
        rows[settings] = (
            row
            | device
            | {
                "date": datetime.date.today().isoformat(),
                "commit": run_records.commit(),
            }
        )
        values[key_of(settings)] = replicates.astype("float32")
        # of other settings nothing is kept
        done = [settings for settings in wanted if settings in rows]
        if not options.tune:
            with files.atomic_path(kept) as part, open(part, "wb") as stream:
                np.savez(stream, **{key: values[key] for key in map(key_of, done)})
        files.write_json(out, about | {"levels": [], "rows": [rows[settings] for settings in done]})
        print(
            {
                name: row[name]
                for name in row
                if name not in ("by_finding", "noise_multiplier", "steps")
            },
            flush=True,
        )
    if not options.tune:
        by_arm: dict[tuple, list] = {}
        for settings in filter(rows.get, wanted):
            by_arm.setdefault((settings.arm, settings.epsilon), []).append(
                values[key_of(settings)].astype(float)
            )
        ladder_levels = levels({key: np.array(seeds) for key, seeds in by_arm.items()})
        files.write_json(
            out,
            about
            | {
                "levels": ladder_levels,
                "rows": [rows[settings] for settings in filter(rows.get, wanted)],
            },
        )


def read_options(docstring: str) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=docstring.splitlines()[0])
    parser.add_argument("--tune", action="store_true", help="the trials, on the tuning cohort")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs side by side, a core each"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=90.0,
        help="no run is begun later (default 90); the same command goes on",
    )
    parser.add_argument(
        "--scratch", type=Path, required=True, help="folder for cohorts and public models"
    )
    return parser.parse_args()


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
    with_sides = {"name": f"{PUBLIC}_sided", "findings": manifests.read(PRIVATE).findings}
    build_cohort.build(manifests.read(PUBLIC).model_copy(update=with_sides))
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()} | SAME
    collect(
        trials() if options.tune else ladder(),
        RESULTS / ("ladder_trials.json" if options.tune else "ladder.json"),
        options,
        about=about,
        run=run,
        make_start=make_start,
    )


def key_of(settings: object) -> str:
    """Return the name of a run's replicates."""
    return fingerprints.fingerprint(dataclasses.asdict(settings))[:12]


def settings_of(row: dict, kind: type = Settings) -> object:
    """Return the settings of a row of the results."""
    return kind(**{field.name: row[field.name] for field in dataclasses.fields(kind)})


if __name__ == "__main__":
    try:
        main()
    except errors.InputError as error:
        sys.exit(str(error))
