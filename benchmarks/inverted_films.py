"""What a gap of the public model is: AUROC by scanner, of public training with and without inverted
films.

In: nothing. Out: `results/inverted_films.json`, a row for each public training (share of films
inverted) and arm (zero-shot, and the head trained with privacy at epsilon 1.06), on the embedded
cohort at the notebooks' sizes. Scanner B of the private hospital exports inverted films.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import ladder

from helpers.analysis import metrics
from helpers.core import files, run_records
from helpers.data import build_cohort, cohorts
from helpers.privacy import promise
from helpers.training import (
    loop,
    prediction,
    pretraining,
    private_step,
    recipe_rule,
    starts,
    training_session,
    training_set,
)

SHARES, EPSILON, DELTA, PASSES = (0.0, 0.25), 1.06, 1e-5, 6


def public_model(share: float) -> tuple[dict, list[str]]:
    """Return the weights of public training with a share of films inverted, and their findings."""
    public = cohorts.read(ladder.PUBLIC)
    session = pretraining.pretraining_session(
        f"inverted-{share:g}",
        public,
        channels=1,
        width=16,
        epochs=PASSES,
        learning_rate=2e-3,
        batch_size=64,
        inverted=share,
        fingerprint=f"inverted {share:g} {public.record['data_hash']}",
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    starts.standardise(session.model, public, 1)
    return session.model.state_dict(), [public.canonical[name] for name in public.findings]


def rows_of(share: float) -> list[dict]:
    """Return the rows of one public training: zero-shot, then the private head."""
    private, (weights, known) = cohorts.read(ladder.PRIVATE), public_model(share)
    data = training_set.TrainingSet.of(private, "patient")
    chosen, _ = recipe_rule.settle(EPSILON, len(data.units), TRAINED="head")
    model, _ = starts.starting_model(
        private, weights, known, channels=1, width=16, seed=0, trained="head"
    )
    rows = [row_of("zero-shot", share, model, private)]
    clip_norm, batching, _ = recipe_rule.batching_of(chosen, len(data.units), 8)
    arm = private_step.PrivateArm(
        data,
        model,
        promise.PrivacyBudget(EPSILON, DELTA, clip_norm),
        batching,
        mode="demo",
        seed=0,
    )
    session = training_session.Session(
        f"inverted-{share:g}-head",
        model,
        arm,
        epochs=batching.epochs,
        learning_rate=0.0,
        head_learning_rate=chosen["HEAD_LEARNING_RATE"],
    )
    for _ in loop.epochs_left(session):
        loop.train_one_epoch(session)
    return [*rows, row_of(f"private head at {EPSILON:g}", share, model, private)]


def row_of(arm: str, share: float, model: object, private: cohorts.Cohort) -> dict:
    """Return a row: mean AUROC over findings of all test images, and of each scanner's."""
    predictions = prediction.predictions_of(model, private, 1, ("test",), shifts=5)
    everybody = metrics.auroc_by_finding({"auroc": predictions}, split="test")["auroc"].mean()
    return {
        "arm": arm,
        "share of public films inverted": share,
        "everybody": round(float(everybody), 4),
        **{
            f"scanner {name}": auroc
            for name, auroc in ladder.by_scanner(predictions, private).items()
        },
    }


def main() -> None:
    """Train both public models, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", type=Path, required=True, help="folder for cohorts and runs")
    os.environ["RESULTS_DIR"] = str(parser.parse_args().scratch.resolve())
    for name in (ladder.PRIVATE, ladder.PUBLIC):
        build_cohort.build(name)
    about = {"hardware": run_records.hardware(), "versions": run_records.versions()}
    rows = [row for share in SHARES for row in rows_of(share)]
    files.write_json(ladder.RESULTS / "inverted_films.json", about | {"rows": rows})
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
