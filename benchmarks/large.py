"""One private run at the paper's size: films of 512 px, width 64, three channels, by the rule; for a GPU.

In: drawn patients of both embedded sites. Out: `results/large.json`: images a second, memory, AUROC before and after. It shows that
the rule runs at that size and how fast, not how good it gets: a few hundred patients are far too few.
"""

import os
import time
from pathlib import Path

os.environ.setdefault("TQDM_DISABLE", "1")

import torch

from helpers import arms, cohorts, files, models, recipes, runs, scoring, starts, training, training_sets

RESULTS = Path(__file__).resolve().parent / "results"
N_PATIENTS, N_TEST, N_PUBLIC, PX, EPSILON, DELTA = 800, 200, 500, 512, 7.89, 1e-4
NETWORK = dict(channels=3, width=64)


def main() -> None:
    """Draw, train the public model, train privately, write what was seen."""
    os.environ.setdefault("RESULTS_DIR", "results_large")
    size = dict(image_px=PX, n_test_patients=N_TEST)
    private = cohorts.build("synthetic_cxr_private", n_patients=N_PATIENTS, **size)
    public = cohorts.build("synthetic_cxr_public", n_patients=N_PUBLIC, **size)
    session = starts.pretraining_session("large-start", public, **NETWORK, epochs=6, learning_rate=1e-3, batch_size=64, fingerprint="large")
    for _ in training.epochs_left(session):
        training.train_one_epoch(session)
    known = [public.canonical[finding] for finding in public.findings]
    model, _ = starts.starting_model(private, session.model.state_dict(), known, **NETWORK, seed=0)
    before = scoring.macro_auroc_on(model, private, "test", NETWORK["channels"])
    data = training_sets.TrainingSet.of(private, "patient")
    rule = recipes.recipe_for(EPSILON, len(data.units))
    arm = arms.PrivateArm(data, model, channels=3, epsilon=EPSILON, delta=DELTA, mode="demo", clip_norm=1.0, epochs=rule["EPOCHS"], seed=0,
                          expected_batch_size=rule["EXPECTED_BATCH_SIZE"], max_images_per_patient=8, physical_batch_size=128)
    own = training.Session("large-private", model, arm, epochs=rule["EPOCHS"], learning_rate=rule["LEARNING_RATE"], fingerprint="large", averaging=0.97)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    started, seen = time.monotonic(), 0
    for _ in training.epochs_left(own):
        training.train_one_epoch(own)
    seconds, seen = time.monotonic() - started, rule["EPOCHS"] * len(data.rows)
    memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found = {"hardware": runs.hardware() | {"device": device}, "versions": runs.versions(), "commit": runs.commit(), "image_px": PX, **NETWORK, "epsilon": EPSILON,
             "delta": DELTA, **rule, "training_patients": N_PATIENTS, "training_images": len(data.rows), "steps": own.steps, "seconds": seconds,
             "images_a_second": seen / seconds, "gigabytes_on_the_device": memory, "seconds_without_privacy_start": session.seconds,
             "public_images": int((public.table["split"] == "train").sum()), "auroc_before": before,
             "auroc_after": scoring.macro_auroc_on(model, private, "test", NETWORK["channels"])}
    files.write_json(Path(os.environ.get("OUT", RESULTS)) / "large.json", found)
    print(found, flush=True)


if __name__ == "__main__":
    main()
