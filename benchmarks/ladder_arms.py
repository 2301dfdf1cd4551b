"""Arms of the ladder: what each one is, and how a run of it is trained.

In: an arm, a budget. Out: settings of a run. All arms have the same network, the same public start
and the same five shifts at prediction, but those whose name says otherwise.
"""

import dataclasses

from helpers.training import recipe_rule

EPSILONS, SEEDS, DELTA = (0.29, 1.06, 7.89), (0, 1, 2), 1e-5
N_PATIENTS, N_IMAGES = 8800, 30_000  # of training; the images nearly
NO_NOISE = 1e3  # stands for no budget in settings of private steps without noise
_STRONG = dict(augmentation="strong", head="halves", inverted=0.0)
STARTS = {  # public training on unsided labels
    "80_passes": _STRONG | dict(epochs=80),
    "40_passes": _STRONG | dict(epochs=40),
    "20_passes": _STRONG | dict(epochs=20),
    "20_passes_inverted": _STRONG | dict(epochs=20, inverted=0.25),
    "80_passes_inverted": _STRONG | dict(epochs=80, inverted=0.25),
}
START = "80_passes"
INVERTED = ", inverted public films"  # after the name of an arm from the start below
INVERTED_START = "80_passes_inverted"
OTHER_PARTS = {"all weights, then the head": "all_then_head", "all weights alone": "all"}
ABOUT = {
    "zero-shot": "the public model, untouched",
    "ceiling": "without privacy, best of five trials",
    "ours, patient": "our recipe by its rule, a promise to patients",
    "ours, image": "our recipe by its rule, a promise to images",
    "paper, as published": "the paper's recipe and settings, from our public model and network; "
    "a promise to images",
    "paper, our start": "the same with the best of five trials of rate and passes at each budget",
    "all weights, then the head": "ours, in place of the rule's head alone",
    "all weights alone": "ours: all weights, no steps of the head alone",
    "same recipe, clipped": "ours at the largest budget without noise",
    "same recipe": "the same without clipping either",
    "zero-shot" + INVERTED: "a public model that saw a quarter of its films inverted, untouched",
    "ours, patient" + INVERTED: "our recipe by its rule from there, a promise to patients",
    "paper, our start" + INVERTED: "the paper's recipe, tuned as above, from there; a promise to "
    "images",
    "ours, random weights": "all weights without a public start, best of two trials at each budget",
    "ceiling, random weights": "without privacy and without a public start, best of two trials",
}
_OF_RULE = {
    "trained": "TRAINED",
    "batch": "EXPECTED_BATCH_SIZE",
    "epochs": "EPOCHS",
    "learning_rate": "LEARNING_RATE",
    "clip_norm": "CLIP_NORM",
    "head_steps": "HEAD_STEPS",
    "head_learning_rate": "HEAD_LEARNING_RATE",
    "head_clip_norm": "HEAD_CLIP_NORM",
    "head_share": "HEAD_SHARE",
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How one run is trained; epsilon None: ordinary steps. 0 stands for what is not trained.

    Attributes:
        start: one of `STARTS`, which says whether public films were inverted, or "none" for random
            weights.
        head: see `head_reading`.
        trained: "all", "head" or "all_then_head", see `recipe_rule`.
        batch, epochs, learning_rate, clip_norm: of all weights.
        head_steps, head_learning_rate, head_clip_norm, head_share: of the head alone.
        shifts: at prediction.
    """

    arm: str
    epsilon: float | None = None
    seed: int = 0
    start: str = START
    head: str = "halves"
    trained: str = "all"
    unit: str = "patient"
    batch: int = 64
    epochs: int = 6
    learning_rate: float = 4e-3
    clip_norm: float = 1.0
    schedule: str = "cosine"
    averaging: float = 0.97
    pos_weight: str = "none"
    head_steps: int = 0
    head_learning_rate: float = 0.0
    head_clip_norm: float = 0.0
    head_share: float = 0.0
    shifts: int = 5

    @property
    def recipe(self) -> dict[str, str | int | float]:
        """Return what `recipe_rule.batching_of` reads."""
        return {key: getattr(self, name) for name, key in _OF_RULE.items()}


def ours(arm: str, epsilon: float, *, start: str = START, **by_hand: object) -> Settings:
    """Return our recipe by its rule.

    Args:
        arm, epsilon, start: see `Settings`; the unit is the image where the arm's name says so.
        by_hand: settings by their names in `recipe_rule`.
    """
    unit = "image" if arm.endswith(", image") else "patient"
    chosen, _ = recipe_rule.settle(
        epsilon,
        N_IMAGES if unit == "image" else N_PATIENTS,
        "unknown" if start == "none" else "alike",
        **by_hand,
    )
    return Settings(arm, epsilon, start=start, unit=unit, **counted(chosen))


def counted(chosen: dict[str, str | int | float]) -> dict[str, str | int | float]:
    """Return a recipe's settings by their names here, 0 for what is not trained.

    Args:
        chosen: see `recipe_rule.settle`.
    """
    return {
        name: chosen.get(key, type(getattr(Settings, name))()) for name, key in _OF_RULE.items()
    }


def paper(arm: str, epsilon: float, **tuned: object) -> Settings:
    """Return the paper's recipe, of which an arm may have tuned learning rate and epochs."""
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
    return Settings(arm, epsilon, **(published | tuned))


def ceiling(arm: str, **tuned: object) -> Settings:
    """Return ordinary training, of which learning rate and epochs are tuned."""
    start = "none" if arm == "ceiling, random weights" else START
    return Settings(arm, unit="image", averaging=0.99, start=start, **tuned)
