"""The privacy ledger of a training run: what was promised and spent, and what is not covered.

In: a promise, the steps released. Out: the ledger. Needs no torch. Raises `InputError` for unknown
units and modes, or more steps than planned.

Each step of DP-SGD every unit enters with probability q (Poisson subsampling); the released
gradient is the sum of clipped per-unit gradients + N(0, (noise multiplier x clipping norm)^2),
divided by the declared expected number q x N. `accounting` says what that costs. With q = 1 every
unit enters every step. A run may have two parts, all weights and then the head; what is spent is
spent by both.
"""

import math

from helpers.core import errors
from helpers.privacy import accounting, attack_bounds, run_parts

NOT_COVERED = {
    "pretraining data": "public; the promise is about the private training patients only",
    "validation and test patients": "their images enter scores and tables, never a gradient",
    "cohort table and exclusions": (
        "counts, shares of positive labels and data hashes are shown as they are"
    ),
    "number of units and expected batch": (
        "treated as public; the batch may follow from the number of units"
    ),
    "choice of parameters": "made by people; trials on private data are not accounted for",
    "thresholds": "fitted on validation patients",
    "training diagnostics": (
        "loss, clipped fraction and norms are outside the promise; not kept or shown in private"
        " mode"
    ),
    "running time": "a step takes the longer, the more units were drawn",
    "other runs": (
        "every run on the same patients has its own promise; together they spend more, see the"
        " privacy register"
    ),
    "runs without privacy": (
        "a model trained on the same patients without noise, such as the baseline, has no bound at"
        " all: released beside this one, it alone decides what can be learnt of a patient"
    ),
    "merged patients": "none",
    "floating point": (
        "Gaussian noise in floating point, not hardened against precision attacks (Mironov 2012)"
    ),
}
_CLASS_WEIGHTS = {
    "none": "none used",
    "public": "from public data, which the promise need not cover",
    "private labels": "computed from private labels without noise: the promise does not hold",
}
_ADJACENCY = {
    "patient": (
        "all images of one patient, present or zeroed out; the number of patients N is fixed and"
        " public (batch and steps may be chosen by N: with one patient more they may be others)"
    ),
    "image": (
        "one image of those trained on, present or zeroed out; their number N is fixed and public;"
        " of a patient with more than K images, which are K chosen by name"
    ),
}
_GENERATOR = {
    "private": (
        "numpy PCG64DXSM, not cryptographic; one each for sampling, images and every chunk of the"
        " noise, each seeded with 128 bits of the operating system's entropy; nothing stored. Noise"
        " on a GPU: Philox 4x32-10 of torch, counter-based, passes BigCrush (Salmon et al. 2011),"
        " not cryptographic; two draws a step with keys of 64 bits from such a generator, added"
    ),
    "demo": (
        "numpy PCG64DXSM, keyed by (seed, stream, step, chunk); on a GPU torch's Philox 4x32-10,"
        " keyed by it: everybody can repeat it"
    ),
}
SEVERAL_IMAGES = "several images of one person"  # not covered, where patients are unknown
UNKNOWN_ORIGIN = "start of unknown origin"
_OF_UNKNOWN_ORIGIN = (
    "nobody knows what these weights were trained on; if on these patients, the promise is empty"
)


def ledger(
    *,
    unit: str,
    n_units: int,
    expected_batch_size: int,
    steps: int,
    steps_done: int,
    noise_multiplier: float,
    clip_norm: float,
    delta: float,
    epsilon: float,
    max_images_per_unit: int,
    mode: str,
    views_per_image: int = 1,
    max_images_per_patient: int | None = None,
    pos_weight: str = "none",
    lineage: list[dict] | None = None,
    handled: dict | None = None,
    head: dict | None = None,
) -> dict:
    """Return the privacy ledger of a run: what was promised, what was spent, what is not covered.
    Fit for JSON.

    Guarantees: epsilon and the bounds on attacks are those of all steps done, of both parts where
    there are two.

    Args:
        unit: "patient" or "image".
        n_units, expected_batch_size: declared constants, treated as public; their ratio is the
            sampling rate.
        steps: planned; of a run of two parts, the first part's.
        steps_done: of all parts together, the first part's first; epsilon is what they spent.
        noise_multiplier, clip_norm: the noise's standard deviation is their product.
        delta, epsilon: the budget.
        max_images_per_unit, views_per_image: of a unit in one step.
        mode: "demo" or "private".
        max_images_per_patient: declared cap, for a run whose unit is the image.
        pos_weight: where class weights come from: "none", "public" or "private labels".
        lineage: what trained the start, see `lineage`; [] for random weights, None where nobody
            knows.
        handled: how this run handled what is not covered; replaces entries of `NOT_COVERED`.
        head: the second part, expected_batch_size, steps, clip_norm and noise_multiplier; None
            for none.

    Returns:
        The ledger. Of a run of two parts `parts` lists both, see `run_parts.entries_of`;
        steps_planned and steps_done are of both, other single values of the first.
        None stands for an epsilon that is not finite or (PRV) that opacus cannot
        compute.

    Raises:
        InputError: an unknown unit, mode or origin of class weights, or more steps than planned.
    """
    errors.one_of("PRIVACY_UNIT", unit, ("patient", "image"))
    errors.one_of("MODE", mode, ("demo", "private"))
    errors.one_of("POS_WEIGHT", pos_weight, tuple(_CLASS_WEIGHTS))
    parts = (run_parts.Part(expected_batch_size, steps, clip_norm, noise_multiplier),)
    parts += (run_parts.Part(**head),) if head else ()
    runs = run_parts.runs_of(parts, n_units, steps_done)
    least_noise = min(part.noise_multiplier for part in parts)
    entries = {
        "guarantee": _guarantee(mode, least_noise, pos_weight, delta, n_units, lineage),
        "unit": unit,
        "adjacency": _ADJACENCY[unit],
        "start": start_in_words(lineage),
        "sampler": run_parts.sampler_in_words(unit, runs[0].sample_rate),
        "n_units": n_units,
        "expected_batch_size": expected_batch_size,
        "sample_rate": runs[0].sample_rate,
        "steps_planned": sum(part.steps for part in parts),
        "steps_done": steps_done,
        "noise_multiplier": noise_multiplier,
        "clip_norm": clip_norm,
        "max_images_per_unit": max_images_per_unit,
        "views_per_image": views_per_image,
        "delta": delta,
        "epsilon_target": _finite(epsilon),
        "quoted_accountant": "PLD",
        "epsilon_spent": {
            name: _finite(accounting.epsilon_of_all(runs, delta, name))
            for name in accounting.ACCOUNTANTS
        },
        "attack_bounds": attack_bounds.attack_bounds(runs),
        "mode": mode,
        "generator": _GENERATOR[mode],
        "pos_weight": pos_weight,
        "not_covered": (
            NOT_COVERED
            | {"class weights": _CLASS_WEIGHTS[pos_weight]}
            | (
                {UNKNOWN_ORIGIN: _OF_UNKNOWN_ORIGIN}
                if start_in_words(lineage) == UNKNOWN_ORIGIN
                else {}
            )
            | (handled or {})
        ),
    }
    if head:
        entries["parts"] = run_parts.entries_of(parts, n_units, steps_done, delta, unit)
    if unit == "image":
        counts = sorted({2, 4, 10, max_images_per_patient or 2})
        entries["epsilon_of_patient"] = {
            str(n): _finite(
                accounting.epsilon_of_all([run._replace(n_images=n) for run in runs], delta)
            )
            for n in counts
        }
    return entries


def runs_of(entries: dict) -> tuple[accounting.Run, ...]:
    """Return the steps done of a ledger as runs for the accountants, one for each part.

    Args:
        entries: a ledger; those of version 0.3.0 have one part.
    """
    return tuple(
        accounting.Run(*(part[name] for name in ("noise_multiplier", "sample_rate", "steps_done")))
        for part in entries.get("parts", [entries])
    )


def start_in_words(lineage: list[dict] | None) -> str:
    """Return what trained the start.

    "random weights", names of cohorts with what is in doubt, or `UNKNOWN_ORIGIN`.
    """
    if lineage is None or any("cohort" not in ancestor for ancestor in lineage):
        return UNKNOWN_ORIGIN
    names = [
        ancestor["cohort"] + (f" ({ancestor['doubt']})" if "doubt" in ancestor else "")
        for ancestor in lineage
    ]
    return "trained on " + ", then ".join(names) if names else "random weights"


def _guarantee(
    mode: str,
    noise_multiplier: float,
    pos_weight: str,
    delta: float,
    n_units: int,
    lineage: list[dict] | None,
) -> str:
    """Return "valid", under what condition it is, or why there is no guarantee."""
    if delta >= 1 / n_units:
        return (
            f"not valid (delta is {delta * n_units:.2g} / number of units: publishing a unit whole"
            " would keep such a promise)"
        )
    if pos_weight == "private labels":
        return "not valid (pos_weight from private labels)"
    if noise_multiplier < accounting.NO_NOISE:
        return "none: no noise"
    if mode == "demo":
        return "none: demo mode, the noise can be recomputed from the seed"
    is_clear = lineage is not None and all(
        "cohort" in ancestor and "doubt" not in ancestor for ancestor in lineage
    )
    return (
        "valid"
        if is_clear
        else f"valid only if the start never saw these patients ({start_in_words(lineage)})"
    )


def is_valid(entries: dict) -> bool:
    """Return whether a ledger has a guarantee.

    One under a condition counts, and its words name the condition.
    """
    return entries["guarantee"].startswith("valid")


def _finite(value: float | None) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else float(value)


# ---- command line


def number_in_words(epsilon: float | None) -> str:
    """Return an epsilon as text."""
    return (
        "not finite, or not computable"
        if epsilon is None or not math.isfinite(epsilon)
        else f"{epsilon:.4g}"
    )
