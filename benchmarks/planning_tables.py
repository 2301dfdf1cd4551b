"""Hours and memory of studies at real size, from what was measured of a step and of the loader.

In: stored results of `private_step.py` and `loader.py`, manifests, profiles. Out: tables. Nothing
is measured here.
"""

import pandas as pd

from helpers.data import manifests
from helpers.study import profiles
from helpers.training import recipe_rule

STUDIES = ("chestxray14", "taix_ray", "mimic_cxr_jpg")  # profiles and their manifests
PIXELS = (224, 512)
MANY_GPUS = 8
WAYS = {"ordinary": "non-private", "private": "ours, patient"}


def seconds_per_image(steps: dict, batches: dict[str, int], px: int, loader_ms: float) -> dict:
    """Return for ordinary and private training the seconds of an image: of a step on the GPU, and
    of the loader, which take turns.

    Args:
        steps: results of `private_step.py`.
        batches: images of a step, by setting.
        px: of the films, with three channels.
        loader_ms: milliseconds of the loader for a film of 512 px; in proportion to pixels.
    """
    setting = f"{px}px_3ch"
    milliseconds = {
        row["variant"]: row["milliseconds"] for row in steps["rows"] if row["setting"] == setting
    }
    loading = loader_ms * (px / 512) ** 2
    return {
        way: (milliseconds[variant] / batches[setting] + loading) / 1000
        for way, variant in WAYS.items()
    }


def passes_of(name: str) -> dict[str, int]:
    """Return images that a profile's training goes through: by ordinary training (of the public
    data set and of its own), and by private training of all its budgets, all weights, one seed.

    Every image counts as one to train on: an upper bound.
    """
    profile = profiles.read_profile(name)
    ordinary, private = profile.notebooks["02"], profile.notebooks["03"]
    pretrain, cohort = profile.parameters["PRETRAIN"], profile.parameters["COHORT"]
    start = recipe_rule.start_of(pretrain, cohort, "halves", "halves")
    epochs = private.get("EPOCHS") or recipe_rule.EPOCHS[start]
    images = n_images(cohort)
    through = ordinary["EPOCHS"] * images
    if pretrain != "none":
        through += ordinary["PRETRAIN_EPOCHS"] * n_images(pretrain)
    budgets = len(profile.parameters["EPSILONS"]) * len(profile.parameters["SEEDS"])
    return {"ordinary": through, "private": budgets * epochs * images, "budgets": budgets}


def n_images(name: str) -> int:
    """Return the images of a data set by its manifest; rows of its table where it has no more."""
    sizes = manifests.read(name).sizes
    return sizes.get("images") or sizes["rows"]


def hours_table(steps: dict, batches: dict[str, int], loader_ms: float) -> pd.DataFrame:
    """Return hours of a pass and of a study on one GPU, and the least on eight; a row a data set
    and image size.

    Args:
        steps, batches, loader_ms: see `seconds_per_image`.
    """
    rows = []
    for name in STUDIES:
        images, study = n_images(name), passes_of(name)
        for px in PIXELS:
            seconds = seconds_per_image(steps, batches, px, loader_ms)
            hours = sum(study[way] * seconds[way] for way in WAYS) / 3600
            rows.append(
                {
                    "data set": name,
                    "images": f"{images:,}",
                    "patients": f"{manifests.read(name).sizes.get('patients', 0):,}",
                    "px": px,
                    "hours, ordinary pass": images * seconds["ordinary"] / 3600,
                    "hours, private pass": images * seconds["private"] / 3600,
                    "private runs": study["budgets"],
                    "hours, study, 1 GPU": hours,
                    f"at least, {MANY_GPUS} GPUs": hours / MANY_GPUS,
                    "GB of images.npy": images * px**2 / 1e9,
                }
            )
    return pd.DataFrame(rows).replace({"patients": {"0": "not in the manifest"}})


def loader_table(loader: dict) -> pd.DataFrame:
    """Return films per second of the loader, and of the same in plain numpy and torch."""
    rows = [
        {
            "channels": row["channels"],
            "films/s, best turn": row["films_per_second"]["loader"],
            "median turn": row["films_per_second_median"]["loader"],
            "plain, best turn": row["films_per_second"]["plain"],
            "plain, median": row["films_per_second_median"]["plain"],
            "ms of one core a film": row["cpu_milliseconds_per_film"],
        }
        for row in loader["speeds"]
    ]
    return pd.DataFrame(rows)


def epoch_table(loader: dict) -> pd.DataFrame:
    """Return the loader's time and memory in the first and last tenth of an epoch, and the most."""
    rows = []
    for epoch in loader["epochs"]:
        first, last = epoch["tenths"][0], epoch["tenths"][-1]
        rows.append(
            {
                "channels": epoch["channels"],
                "steps": f"{epoch['steps']} of {epoch['steps_an_epoch']}",
                "films": f"{epoch['films']:,}",
                "ms a film, first tenth": first["milliseconds_per_film"],
                "last tenth": last["milliseconds_per_film"],
                "GB in memory, first tenth": first["resident_gb"],
                "last": last["resident_gb"],
                "of these mapped, at most": max(t["mapped_gb"] for t in epoch["tenths"]),
                "most GB at any time": epoch["peak_gb"],
            }
        )
    return pd.DataFrame(rows)
