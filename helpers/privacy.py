"""The privacy promise of a training run: random draws, noise, the ledger of what was promised and spent.

In: the settings of a private run. Out: draws of units, noise, the ledger, and its words and table for readers.
Refuses: a delta that promises nothing (at or above 1 / number of units), unknown units and modes.

Each step every unit enters with probability q (Poisson); g = clipped sum + N(0, (noise multiplier x clip norm)^2), divided
by the declared expected number q x N. `accounting` says what that costs; on the command line:

    python -m helpers.privacy --sample-rate 128/150188 --noise-multiplier 0.5496 --steps 109089 --delta 6e-6
"""

import argparse
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pandas as pd
import torch

from helpers import accounting, checks, runs

NOT_COVERED = {
    "pretraining data": "public; the promise is about the private training patients only",
    "validation and test patients": "their images enter scores and tables, never a gradient",
    "cohort table and exclusions": "counts, shares of positive labels and data hashes are shown as they are",
    "number of units and expected batch": "treated as public; the batch may follow from the number of units",
    "choice of parameters": "made by people; trials on private data are not accounted for",
    "thresholds": "fitted on validation patients",
    "training diagnostics": "loss, clipped fraction and norms are outside the promise; not kept or shown in private mode",
    "running time": "a step takes the longer, the more units were drawn",
    "other runs": "every run on the same patients has its own promise; the epsilons of several add up",
    "floating point": "Gaussian noise in floating point, not hardened against precision attacks (Mironov 2012)",
}
_CLASS_WEIGHTS = {"none": "none used", "public": "from public data, which the promise need not cover",
                  "private labels": "computed from private labels without noise: the promise does not hold"}
_ADJACENCY = {"patient": "add or remove all images of one patient",
              "image": "add or remove one image of those trained on; of a patient with more than K, which are K chosen by name"}
_CHUNKS = 8  # of the noise, each with its own generator: fixed, so that demo mode repeats whatever the number of cores
_GENERATOR = {
    "private": f"numpy PCG64DXSM, not cryptographic; one each for sampling, images and {_CHUNKS} chunks of noise, each "
               "seeded with 128 bits of the operating system's entropy; nothing stored",
    "demo": "numpy PCG64DXSM, keyed by (seed, stream, step, chunk): everybody can repeat it",
}


def check_delta(delta: float, n_units: int, unit: str, allow_weak: bool = False) -> str:
    """Return a warning ("" for none) about delta for a number of units.

    Raises:
        InputError: delta >= 1 / n_units, and that is not allowed: such a promise allows publishing one unit outright.
    """
    if delta >= 1 / n_units and not allow_weak:
        checks.refuse(f"DELTA below 1 / {n_units:,} training {unit}s = {1 / n_units:.2g}", f"{delta:g}",
                      f"Set DELTA to {1 / (10 * n_units):.1g} or less; to repeat a study that did so, ALLOW_WEAK_DELTA labels the run.")
    if delta > 1 / (10 * n_units):
        return f"delta = {delta:g} is above 1 / (10 x {n_units:,} {unit}s) = {1 / (10 * n_units):.1g}: a weak promise."
    return ""


# ---- randomness

class Randomness:
    """Sampling and noise of each step.

    `demo`: keyed by (seed, stream, step), so that a resumed run repeats the uninterrupted one; not a guarantee, since
    whoever knows the seed can subtract the noise. `private`: generators with 128 bits of operating-system entropy
    each, never stored; a resumed run goes on with fresh entropy.

    Guarantees: no two streams, chunks of the noise or steps share their numbers; no global seed has a say in private mode.
    """

    def __init__(self, mode: str, seed: int) -> None:
        self.mode, self.seed = checks.one_of("MODE", mode, ("demo", "private")), seed
        self._chunks = [f"noise {chunk}" for chunk in range(_CHUNKS)]
        if mode == "private":
            self._fresh = {name: np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence()))
                           for name in ("sampling", "images", *self._chunks)}

    def _stream(self, name: str, step: int) -> np.random.Generator:
        """Return the generator of a stream at a step."""
        return self._fresh[name] if self.mode == "private" else runs.random_stream(self.seed, name, step)

    def draw_units(self, n_units: int, sample_rate: float, step: int) -> np.ndarray:
        """Return the units that enter this step, each independently with probability `sample_rate` (Poisson)."""
        return np.flatnonzero(self._stream("sampling", step).random(n_units) < sample_rate)

    def choose_images(self, images: list[np.ndarray], most: int, step: int) -> list[np.ndarray]:
        """Return for each drawn unit at most `most` of its images, drawn at random without replacement."""
        stream = self._stream("images", step)
        return [rows if len(rows) <= most else np.sort(stream.choice(rows, most, replace=False)) for rows in images]

    def noise(self, parameters: list[torch.Tensor], standard_deviation: float, step: int) -> list[torch.Tensor]:
        """Return independent Gaussian noise, one tensor a parameter, once for a logical batch; drawn in threads."""
        sizes = [p.numel() for p in parameters]
        flat = np.empty(sum(sizes), dtype=np.float32)

        def fill(name: str, chunk: np.ndarray) -> None:
            self._stream(name, step).standard_normal(out=chunk, dtype=np.float32)
            np.multiply(chunk, np.float32(standard_deviation), out=chunk)

        with ThreadPoolExecutor(min(_CHUNKS, torch.get_num_threads()) if len(flat) > 2**17 else 1) as threads:
            list(threads.map(fill, self._chunks, np.array_split(flat, _CHUNKS)))  # list() lets errors out
        parts = torch.from_numpy(flat).to(parameters[0].device).split(sizes)
        return [part.view_as(p).to(p.device) for part, p in zip(parts, parameters)]


# ---- ledger

def ledger(*, unit: str, n_units: int, expected_batch_size: int, steps: int, steps_done: int, noise_multiplier: float,
           clip_norm: float, delta: float, epsilon: float, max_images_per_unit: int, mode: str, views_per_image: int = 1,
           max_images_per_patient: int | None = None, pos_weight: str = "none", handled: dict | None = None) -> dict:
    """Return the privacy ledger of a run: what was promised, what was spent, what is not covered. Fit for JSON.

    Args:
        unit: "patient" or "image".
        n_units, expected_batch_size: declared constants, treated as public; their ratio is the sampling rate.
        steps, steps_done: planned and done; epsilon is what the done ones spent.
        noise_multiplier, clip_norm: the noise's standard deviation is their product.
        delta, epsilon: the budget.
        max_images_per_unit, views_per_image: of a unit in one step.
        mode: "demo" or "private".
        max_images_per_patient: declared cap, for a run whose unit is the image.
        pos_weight: where class weights come from: "none", "public" or "private labels".
        handled: how this run handled what is not covered; replaces entries of `NOT_COVERED`.

    Returns:
        The ledger. None stands for an epsilon that is not finite or (PRV) that opacus cannot compute.

    Raises:
        InputError: an unknown unit, mode or origin of class weights.
    """
    checks.one_of("PRIVACY_UNIT", unit, ("patient", "image"))
    checks.one_of("MODE", mode, ("demo", "private"))
    checks.one_of("POS_WEIGHT", pos_weight, tuple(_CLASS_WEIGHTS))
    run = (noise_multiplier, expected_batch_size / n_units, steps_done)
    entries = {
        "guarantee": _guarantee(mode, noise_multiplier, pos_weight, delta, n_units),
        "unit": unit, "adjacency": _ADJACENCY[unit],
        "sampler": f"Poisson over {unit}s", "n_units": n_units, "expected_batch_size": expected_batch_size,
        "sample_rate": run[1], "steps_planned": steps, "steps_done": steps_done, "noise_multiplier": noise_multiplier,
        "clip_norm": clip_norm, "max_images_per_unit": max_images_per_unit, "views_per_image": views_per_image,
        "delta": delta, "epsilon_target": _finite(epsilon), "quoted_accountant": "PLD",
        "epsilon_spent": {name: _finite(accounting.epsilon_spent(*run, delta, name)) for name in accounting.ACCOUNTANTS},
        "attack_bounds": accounting.attack_bounds(*run), "mode": mode, "generator": _GENERATOR[mode],
        "pos_weight": pos_weight,
        "not_covered": NOT_COVERED | {"class weights": _CLASS_WEIGHTS[pos_weight]} | (handled or {}),
    }
    if unit == "image":
        counts = sorted({2, 4, 10, max_images_per_patient or 2})
        entries["epsilon_of_patient"] = {str(n): _finite(accounting.epsilon_for_patient(*run, delta, n)) for n in counts}
    return entries


def _guarantee(mode: str, noise_multiplier: float, pos_weight: str, delta: float, n_units: int) -> str:
    """Return "valid", or why there is no guarantee."""
    if delta >= 1 / n_units:
        return f"not valid (delta is {delta * n_units:.2g} / number of units: publishing a unit whole would keep such a promise)"
    if pos_weight == "private labels":
        return "not valid (pos_weight from private labels)"
    if noise_multiplier < accounting.NO_NOISE:
        return "none: no noise"
    return "none: demo mode, the noise can be recomputed from the seed" if mode == "demo" else "valid"


def _finite(value: float | None) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return None if value is None or not math.isfinite(value) else float(value)


# ---- words, table, command line

def privacy_statement(entries: dict) -> str:
    """Return a ledger's promise in three sentences for a clinician: a weak one is called weak, none is called none."""
    unit, found, several = entries["unit"], entries["attack_bounds"], entries.get("epsilon_of_patient", {})
    share = found["true_positive_rate"]
    attack = (f"an attacker who sees the model and falsely accuses {100 * found['false_positive_rate']:g} % of the {unit}s "
              f"it was not trained on finds at most {_percent(share)} of those it was trained on, and is then at most "
              f"{_percent(found['posterior'])} sure of an accused {unit}, having started at 50 %")
    if entries["guarantee"] != "valid":
        why = ("its class weights were computed from private labels" if "pos_weight" in entries["guarantee"] else
               f"its delta would allow publishing one {unit} whole" if "delta" in entries["guarantee"] else
               "it had no noise" if "no noise" in entries["guarantee"] else "like every demo's, its noise can be recomputed")
        return (f"There is no privacy guarantee for this model: {why}. By the arithmetic alone, which promises nothing "
                f"here, {attack}. Do not pass on a model trained like this on real {unit}s.")
    words = ("a strong promise" if share <= 0.03 else "a moderate promise" if share <= 0.1 else
             f"a weak promise: some {unit}s can be picked out with confidence" if share <= 0.9 else "hardly a promise")
    more = ", ".join(f"{_number(epsilon)} for {n} images" for n, epsilon in several.items())
    whom = (f"each image by itself, while a patient with several is protected less (epsilon {more})" if several else
            f"all images of a patient together, up to {entries['max_images_per_unit']} in a step")
    return (f"Whatever the method, {attack}. This is {words} (epsilon {_number(entries['epsilon_spent']['PLD'])} at delta "
            f"{entries['delta']:g}, per {unit}), and it protects {whom}. It does not cover the patients of validation and "
            "test, the choice of parameters, or other models trained on the same patients.")


def _percent(share: float) -> str:
    """Return a bound as a percentage, rounded up."""
    return f"{math.ceil(1000 * share - 1e-9) / 10:g} %"


def _number(epsilon: float | None) -> str:
    """Return an epsilon as text."""
    return "not finite, or not computable" if epsilon is None or not math.isfinite(epsilon) else f"{epsilon:.4g}"


def ledger_table(entries: dict) -> pd.DataFrame:
    """Return a ledger, as `ledger` or a run's record has it, as a reviewer's table: columns entry and value, both text."""
    rows = {name.replace("_", " "): value for name, value in entries.items() if not isinstance(value, dict)}
    rows |= {f"epsilon spent, {name}": _number(value) for name, value in entries["epsilon_spent"].items()}
    rows |= {f"epsilon of a patient with {n} images": _number(e) for n, e in entries.get("epsilon_of_patient", {}).items()}
    rows |= {f"any attack, at most: {name.replace('_', ' ')}": _percent(e) for name, e in entries["attack_bounds"].items()}
    rows |= {f"not covered: {name}": text for name, text in entries["not_covered"].items()}
    values = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in rows.values()]
    return pd.DataFrame({"entry": list(rows), "value": values})


def main(arguments: list[str]) -> int:
    """Print the epsilon of a run by each accountant; return 0, or 2 for what cannot be accounted."""
    parser = argparse.ArgumentParser(prog="python -m helpers.privacy", description="Print the epsilon of a run.", usage=(
        "%(prog)s --sample-rate Q --steps N --delta D (--noise-multiplier S | --target-epsilon E) [--images-per-patient M]"))
    parser.add_argument("--sample-rate", type=_fraction, required=True, help="expected batch / number of units, 128/150188")
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps")
    parser.add_argument("--delta", type=_fraction, required=True, help="far below 1 / number of units")
    noise = parser.add_mutually_exclusive_group(required=True)
    noise.add_argument("--noise-multiplier", type=_fraction, help="standard deviation of the noise / clip norm")
    noise.add_argument("--target-epsilon", type=_fraction, help="calibrate the noise multiplier to this epsilon")
    parser.add_argument("--images-per-patient", type=int, help="add such a patient, in a run whose unit is the image")
    given = parser.parse_args(arguments)
    sigma, n, run = given.noise_multiplier, given.images_per_patient, (given.sample_rate, given.steps, given.delta)
    try:
        if sigma is None:
            sigma = accounting.noise_multiplier_for(given.target_epsilon, given.delta, given.sample_rate, given.steps)
        rows = {name: accounting.epsilon_spent(sigma, *run, name) for name in accounting.ACCOUNTANTS}
        rows |= {} if n is None else {f"PLD, patient with {n} images": accounting.epsilon_for_patient(sigma, *run, n)}
    except checks.InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"noise multiplier {sigma:.6g}")
    print(pd.DataFrame({"accountant": list(rows), "epsilon": map(_number, rows.values())}).to_string(index=False))
    return 0


def _fraction(text: str) -> float:
    """Return a number written as one, or as a fraction."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"expected a number or a fraction such as 128/150188; got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
