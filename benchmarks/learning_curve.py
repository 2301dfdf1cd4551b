"""The learning curve: mean AUROC of private models against the number of private patients, on the
drawn cohort, from one public start.

In: sizes, budgets, seeds. Out: `results/learning_curve.json`, a row a run, with its share of the
distance between the public model and the best without privacy, and that share under resamples of
the test patients: what `helpers.analysis.patients_needed` is fitted to.

"Without privacy" is trained on all patients of the largest size, once. Ends and rows are kept by
what made them, cohort, start and recipe: of another one they are made again.

One cohort of the largest size is drawn; a smaller one is its first patients, so that all are tested
on the same others. The head alone reads features that are computed once. Where the rule trains all
weights as well, that run comes last (`--both`: it takes long).
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import curve_points
import ladder_arms
import ladder_levels
import numpy as np
import torch
from curve_points import Point

from helpers.core import errors, files, fingerprints, paths, run_records
from helpers.data import build_cohort, cohorts
from helpers.privacy import promise
from helpers.training import (
    frozen_head,
    loop,
    networks,
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

RESULTS = Path(__file__).resolve().parent / "results" / "learning_curve.json"
DELTA = 1e-6  # below 1 / (10 x 35,000)
N_TEST, WIDTH, CHANNELS, SHIFTS = 1500, 16, 1, 5
PUBLIC = ladder_arms.STARTS[ladder_arms.START] | dict(learning_rate=2e-3, batch_size=64)
# as many steps as the ladder's best without privacy, on four times the patients, at its rate
CEILING = dict(epochs=5, learning_rate=8e-3, averaging=0.99)


@dataclasses.dataclass
class Curve:
    """What all runs share: the patients, and where they start."""

    private: cohorts.Cohort
    weights: dict[str, torch.Tensor]
    known: list[str]
    start: str  # fingerprint of what made the weights

    @property
    def ends_made_from(self) -> str:
        """Return the fingerprint of what decides the public model's AUROC and the one without
        privacy.
        """
        made_from = {"data": self.private.record["data_hash"], "start": self.start}
        return fingerprints.fingerprint(
            made_from | {"ceiling": CEILING, "width": WIDTH, "shifts": SHIFTS}
        )

    def made_from(self, point: Point) -> str:
        """Return the fingerprint of what decides a row: its ends, the point, its recipe."""
        made_from = {"ends": self.ends_made_from, "delta": DELTA} | dataclasses.asdict(point)
        return fingerprints.fingerprint(made_from | {"recipe": curve_points.recipe_of(point)})

    @functools.cached_property
    def features(self) -> torch.Tensor:
        """The training films as features of the public trunk, computed once for all sizes."""
        rows = training_set.TrainingSet.of(self.private, "patient").rows
        return frozen_head.features_of(self.model(0), self.private.images, rows, CHANNELS)

    def model(self, seed: int) -> networks.ResNet9:
        """Return the network as every run starts."""
        return starts.starting_model(
            self.private, self.weights, self.known, channels=CHANNELS, width=WIDTH, seed=seed
        )[0]

    def first(self, n_patients: int) -> training_set.TrainingSet:
        """Return the training set of the first patients of the cohort."""
        whole = training_set.TrainingSet.of(self.private, "patient")
        units = whole.units[:n_patients]
        most = max(map(len, units))
        return dataclasses.replace(whole, units=units, most_images=most)

    def measured(self, model: networks.ResNet9) -> np.ndarray:
        """Return (1 + replicates,) macro AUROCs of test patients, the estimate first."""
        predictions = prediction.predictions_of(
            model, self.private, CHANNELS, ("test",), shifts=SHIFTS
        )
        return ladder_levels.replicates_of(predictions)


def run(curve: Curve, point: Point) -> tuple[np.ndarray, dict]:
    """Train a point of the curve; return its macro AUROCs, and its recipe and seconds."""
    model, data = curve.model(point.seed), curve.first(point.n_patients)
    chosen, made_from = curve_points.recipe_of(point), curve.made_from(point)
    networks.train_only(model, recipe_rule.part_of(chosen))
    clip_norm, batching, second = recipe_rule.batching_of(
        chosen, point.n_patients, data.most_images
    )
    budget = promise.PrivacyBudget(point.epsilon, DELTA, clip_norm)
    arm = private_step.PrivateArm(
        data, model, budget, batching, mode="demo", seed=point.seed, channels=CHANNELS, head=second
    )
    if point.trained == "head":
        arm.data._features = curve.features  # the same trunk: not computed again
    session = training_session.Session(
        f"curve-{made_from[:12]}",
        model,
        arm,
        fingerprint=made_from,
        epochs=batching.epochs,
        learning_rate=chosen.get("LEARNING_RATE", 0.0),
        head_learning_rate=chosen.get("HEAD_LEARNING_RATE", 0.0),
        averaging=0.97,
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    session.checkpoint.unlink(missing_ok=True)
    kept = {"train_seconds": round(session.seconds, 1), "recipe": chosen, "made_from": made_from}
    return curve.measured(model), kept


def ceiling(curve: Curve) -> np.ndarray:
    """Train on all patients without privacy; return the macro AUROCs."""
    model = curve.model(0)
    data = training_set.TrainingSet.of(curve.private, "image")
    arm = ordinary_step.BaselineArm(data, model, channels=CHANNELS, batch_size=64, seed=0)
    session = training_session.Session(
        "curve-ceiling", model, arm, fingerprint=curve.ends_made_from, **CEILING
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    return curve.measured(model)


def public_start() -> tuple[dict[str, torch.Tensor], list[str], str]:
    """Return the weights of the public model, trained if it is not there, its findings, and the
    fingerprint of what made it.
    """
    public = build_cohort.build("synthetic_cxr_public")
    made_from = PUBLIC | {"data": public.record["data_hash"]}
    fingerprint = fingerprints.fingerprint(made_from, pretraining.CODE)
    path = paths.results_dir() / f"start-{fingerprint[:12]}.safetensors"
    if not path.exists():
        session = pretraining.pretraining_session(
            "curve-start", public, channels=CHANNELS, width=WIDTH, fingerprint=fingerprint, **PUBLIC
        )
        for _ in loop.epochs_left(session):
            loop.train_one_epoch(session)
        starts.standardise(session.model, public, CHANNELS)
        known = [public.canonical[finding] for finding in public.findings]
        weight_files.save_weights(session.model, path, known)
    return *weight_files.load_weights(path), fingerprint


def ends_of(curve: Curve, scratch: Path) -> dict[str, np.ndarray]:
    """Return the macro AUROCs of the public model and of the best without privacy."""
    path = scratch / f"ends-{curve.ends_made_from[:12]}.npz"
    if not path.exists():
        np.savez(path, zero_shot=curve.measured(curve.model(0)), ceiling=ceiling(curve))
    return dict(np.load(path))


def rows_of(out: Path, curve: Curve) -> dict[Point, dict]:
    """Return the rows that the results have, by their run: those of this cohort, start and
    recipe.
    """
    rows = json.loads(out.read_text())["rows"] if out.exists() else []
    names = [field.name for field in dataclasses.fields(Point)]
    by_point = {Point(**{name: row[name] for name in names}): row for row in rows}
    return {
        point: row
        for point, row in by_point.items()
        if row.get("made_from") == curve.made_from(point)
    }


def main() -> None:
    """Run what is missing in the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder of cohort and start")
    parser.add_argument("--minutes", type=float, default=60.0, help="no run is begun later")
    parser.add_argument("--both", action="store_true", help="all weights, too, by the rule")
    options = parser.parse_args()
    scratch = options.scratch.resolve()
    os.environ["RESULTS_DIR"] = str(scratch)
    until = time.monotonic() + 60 * options.minutes
    torch.set_num_threads(1)
    private = build_cohort.build(
        "synthetic_cxr_private", n_patients=max(curve_points.SIZES), n_test_patients=N_TEST
    )
    curve = Curve(private, *public_start())
    ends = ends_of(curve, scratch)
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()}
    about |= {"delta": DELTA} | {name: float(values[0]) for name, values in ends.items()}
    rows = rows_of(RESULTS, curve)
    for point in curve_points.points(options.both):
        if point in rows or time.monotonic() > until:
            continue
        aurocs, kept = run(curve, point)
        rows[point] = curve_points.row_of(
            point, kept | {"commit": run_records.commit()}, aurocs, ends
        )
        files.write_json(RESULTS, about | {"rows": list(rows.values())})
        print(dataclasses.astuple(point), round(rows[point]["auroc"], 4), kept, flush=True)


if __name__ == "__main__":
    try:
        main()
    except errors.InputError as error:
        sys.exit(str(error))
