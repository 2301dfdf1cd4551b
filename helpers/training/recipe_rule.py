"""The default recipe of private training: what follows from the budget, the number of units and
where training starts.

In: epsilon, number of units, the start, what is set by hand. Out: which part of the network is
trained, and how. Needs no torch. Raises `InputError` for settings of all weights where the head
alone is trained.

Rates, steps and passes were set by trials on a drawn tuning cohort (`make ladder-trials` repeats
them), never on the ladder's; the limit for drawn starts after real films had been looked at
(`benchmarks/results/real_ladder.json`).

Two ways to spend a budget: the *head* alone, on frozen features and with every unit in each step,
takes seconds and learns all there is in the public features; *all weights* (DP-SGD with
Poisson-sampled batches) can change the features, and pays for it with more noise. The head comes
first in value as long as the features are of images like the private ones. So:

- from public images like the private ones ("alike"): the head; beyond `BOTH_FROM` units x epsilon
  all weights first, then the head, within one budget;
- from drawn images for real patients ("drawn"): the same from far less, since the features are
  poor;
- from random weights, a file, or a head whose input is not standardised by public images
  ("unknown"): all weights.
"""

import math

from helpers.core import errors, paths
from helpers.data import manifests
from helpers.privacy import promise

# passes of all weights by the start: good features need little change, and each pass takes time
EPOCHS = {"alike": 6, "drawn": 8, "unknown": 8}
RATE_AT_1 = 3.9e-3  # learning rate of NAdam at epsilon 1, for all weights
MOST_RATE = 6e-3
CLIP_NORM = 1.0  # of all weights
# units x epsilon from which all weights are trained, too
BOTH_FROM = {"alike": 100_000, "drawn": 5_000, "unknown": math.inf}
# of momentum steps: times epsilon x units while noise decides, times its root beyond, and at most
HEAD_RATES = (0.009, 0.65, 200.0)
MOST_HEAD_STEPS = 120
STARTS = tuple(BOTH_FROM)
STANDARDISED = ("levels", "halves")  # heads of resnet9 whose input public images standardise
OF_ALL_WEIGHTS = ("EXPECTED_BATCH_SIZE", "EPOCHS", "LEARNING_RATE", "CLIP_NORM")
_NOT_PROMISED = ("TRAINED", "EPOCHS", "LEARNING_RATE", "HEAD_LEARNING_RATE", "HEAD_SHARE")
OF_HEAD = ("HEAD_STEPS", "HEAD_LEARNING_RATE", "HEAD_CLIP_NORM", "HEAD_SHARE")


def start_of(
    pretrain: str, cohort: str, head: str, public_head: str, network: str = "resnet9"
) -> str:
    """Return what is known in public of where training starts: one of `STARTS`.

    No private image and no private result has a say in it.

    Args:
        pretrain: PRETRAIN of notebook 02.
        cohort: the private one, COHORT.
        head: of the network, see `head_reading`.
        public_head: of the public model, HEAD of notebook 02.
        network: NETWORK of notebook 02.

    Returns:
        "alike" from a public data set of the same kind of images; "drawn" where it is drawn and the
        patients are real; else "unknown".
    """
    is_file = pretrain == "none" or pretrain.endswith(paths.WEIGHT_FILES)
    if is_file or not is_standardised(pretrain, head, public_head, network):
        return "unknown"
    public, private = manifests.read(pretrain), manifests.read(cohort)
    if bool(public.volume) != bool(private.volume):
        return "unknown"
    is_drawn = public.access == "embedded" and private.access != "embedded"
    return "drawn" if is_drawn else "alike"


def is_standardised(pretrain: str, head: str, public_head: str, network: str = "resnet9") -> bool:
    """Return whether public images standardise the input of a head, as far as is known before the
    public model is read.

    Args:
        pretrain, head, public_head, network: see `start_of`.
    """
    is_of_head = head in STANDARDISED or network != "resnet9"
    return pretrain != "none" and head == public_head and is_of_head


def recipe_for(epsilon: float, n_units: int, start: str = "alike") -> dict[str, str | int | float]:
    """Return TRAINED, and the settings of all weights and of the head, for a budget.

    Guarantees: a function of these three alone, all public; what is trained, batch, passes, rates
    and steps of the head never fall as epsilon or the number of units grows.

    Args:
        epsilon: of the whole run, for one unit; > 0.
        n_units: patients or images that are trained on, >= 1.
        start: one of `STARTS`.
    """
    batch = min(n_units, 2 ** max(8, round(math.log2(n_units / 16))))
    rate = min(MOST_RATE, RATE_AT_1 * math.sqrt(epsilon))
    if errors.one_of("start", start, STARTS) == "unknown":
        trained = "all"
    else:
        trained = "all_then_head" if epsilon * n_units >= BOTH_FROM[start] else "head"
    return {
        "TRAINED": trained,
        "EXPECTED_BATCH_SIZE": batch,
        "EPOCHS": EPOCHS[start],
        "LEARNING_RATE": float(f"{rate:.2g}"),
        "CLIP_NORM": CLIP_NORM,
        **head_for(epsilon, n_units),
    }


def head_for(epsilon: float, n_units: int) -> dict[str, int | float]:
    """Return the settings of the head: both steps and rate grow with epsilon x units, since the
    noise in a mean over units falls with that product.

    Few units and a small budget leave the public head nearly as it is: the noise in its logits is
    then about the same at every budget.

    Args:
        epsilon, n_units: see `recipe_for`.
    """
    few, many, most = HEAD_RATES
    product = epsilon * n_units
    rate = min(few * product, many * math.sqrt(product), most)
    steps = min(MOST_HEAD_STEPS, max(20, round(math.sqrt(product) / 2.2)))
    return {
        "HEAD_STEPS": steps,
        "HEAD_LEARNING_RATE": float(f"{rate:.2g}"),
        "HEAD_CLIP_NORM": 0.1,
        "HEAD_SHARE": 0.5,
    }


def settle(
    epsilon: float, n_units: int, start: str = "alike", **declared: str | float | None
) -> tuple[dict[str, str | int | float], dict[str, str]]:
    """Return the recipe of a run, and for each setting whether it was set "by hand" or "by the
    rule".

    Settings of all weights by hand mean that all weights are trained, unless TRAINED says more.

    Args:
        epsilon, n_units, start: see `recipe_for`.
        declared: settings by name, None where the rule decides.

    Returns:
        Those that count for what is trained, and their origin.

    Raises:
        InputError: settings by hand of what is not trained.
    """
    by_hand = {name: value for name, value in declared.items() if value is not None}
    chosen = recipe_for(epsilon, n_units, start)
    if "TRAINED" not in by_hand and set(by_hand) & set(OF_ALL_WEIGHTS):
        chosen["TRAINED"] = "all_then_head" if set(by_hand) & set(OF_HEAD) else "all"
    chosen |= by_hand
    counts = ["TRAINED"]
    if chosen["TRAINED"] != "head":
        counts += OF_ALL_WEIGHTS
    if chosen["TRAINED"] in ("head", "all_then_head"):
        counts += OF_HEAD[:-1]
    if chosen["TRAINED"] == "all_then_head":
        counts += OF_HEAD[-1:]
    if lost := [name for name in by_hand if name not in counts]:
        errors.refuse(
            f"None as {', '.join(lost)} where TRAINED is {chosen['TRAINED']!r}",
            ", ".join(repr(by_hand[name]) for name in lost),
            "Set TRAINED to what these settings are for, or leave them to the rule.",
        )
    return {name: chosen[name] for name in counts}, {
        name: "by hand" if name in by_hand else "by the rule" for name in counts
    }


def head_alone_fits(trained: str, head: str, is_standardised: bool) -> None:
    """Accept steps of the head alone where its input is standardised by public images: their
    clipping norm and rate are for rows of norm 1.

    Args:
        trained: TRAINED, by hand or by the rule.
        head: of the network, see `head_reading`.
        is_standardised: whether its input is.

    Raises:
        InputError: it is not.
    """
    if trained in ("head", "all_then_head") and not is_standardised:
        errors.refuse(
            f"a head that reads several levels, standardised by public images, for TRAINED ="
            f" {trained!r}",
            f"HEAD = {head!r} as it starts here",
            "Set PRETRAIN to a public data set and, of resnet9, HEAD of notebook 02 to halves or"
            " levels; or TRAINED = 'all'.",
        )


def batching_of(
    chosen: dict[str, str | int | float],
    n_units: int,
    max_images_per_patient: int,
    physical_batch_size: int = 256,
) -> tuple[float, promise.Batching, promise.HeadSteps | None]:
    """Return the clipping norm and batching of a run's first part, and its second part.

    Args:
        chosen: see `settle`.
        n_units: see `recipe_for`.
        max_images_per_patient, physical_batch_size: see `promise.Batching`.
    """
    second = None
    if chosen["TRAINED"] == "head":  # the first part, and the only one
        clip_norm, batch, epochs = chosen["HEAD_CLIP_NORM"], n_units, chosen["HEAD_STEPS"]
    else:
        clip_norm = chosen["CLIP_NORM"]
        batch, epochs = chosen["EXPECTED_BATCH_SIZE"], chosen["EPOCHS"]
    if chosen["TRAINED"] == "all_then_head":
        second = promise.HeadSteps(
            chosen["HEAD_STEPS"], chosen["HEAD_CLIP_NORM"], chosen["HEAD_SHARE"]
        )
    batching = promise.Batching(
        batch, epochs, max_images_per_patient, physical_batch_size=physical_batch_size
    )
    return clip_norm, batching, second


def part_of(chosen: dict[str, str | int | float]) -> str:
    """Return the part of the network that is trained first, see `networks.PARTS`."""
    return "all" if chosen["TRAINED"] == "all_then_head" else chosen["TRAINED"]


def declared(chosen: dict[str, str | int | float]) -> dict[str, str | int | float]:
    """Return what of a recipe stands in a run's identity and record: what the promise does not say.

    Where all weights or a part of them are trained alone, as version 0.3 kept it.
    """
    if chosen["TRAINED"] in ("head", "all_then_head"):
        return {name: value for name, value in chosen.items() if name in _NOT_PROMISED}
    return {
        "trained": chosen["TRAINED"],
        "EPOCHS": chosen["EPOCHS"],
        "LEARNING_RATE": chosen["LEARNING_RATE"],
    }
