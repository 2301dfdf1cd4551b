"""The privacy promise of a training run: sampling, noise, accounting, ledger.

In: a budget (epsilon, delta), the sampling rate and the number of steps. Out: the noise multiplier that keeps it, random
draws of units, noise, and the ledger of what was promised, spent and not covered.
Refuses: budgets that promise nothing (delta at or above 1 / number of units) or cannot be kept.

Neighbouring data sets differ by all images of one unit, added or removed. Each step every unit enters with probability
q (Poisson), g = clipped sum + N(0, (noise multiplier x clip norm)^2), divided by the declared expected number q x N.
"""

import math

import numpy as np
import torch
from dp_accounting.pld import privacy_loss_distribution
from opacus.accountants import PRVAccountant, RDPAccountant

from helpers import checks, runs

NOT_COVERED = {
    "pretraining data": "public; the promise is about the private training patients only",
    "validation and test patients": "their images enter scores and tables, never a gradient",
    "cohort table and exclusions": "counts and data hashes are shown as they are",
    "number of units and expected batch": "declared constants, treated as public",
    "choice of parameters": "made by people; trials on private data are not accounted for",
    "thresholds": "fitted on validation patients",
    "training diagnostics": "loss, clipped fraction and norms are outside the promise; not kept or shown in private mode",
    "other runs": "every run on the same patients has its own promise; the epsilons of several add up",
    "floating point": "Gaussian noise in floating point, not hardened against precision attacks (Mironov 2012)",
}
_COARSE, _FINE = 1e-3, 1e-4  # widths of the grid of privacy losses; both give upper bounds


# ---- accounting

def epsilon_spent(noise_multiplier: float, sample_rate: float, steps: int, delta: float, accountant: str = "PLD") -> float:
    """Return epsilon after `steps` steps of the Poisson-sampled Gaussian mechanism.

    PLD (pessimistic grid) is an upper bound and is what is quoted; PRV and RDP stand beside it. GDP is not offered: it
    understates epsilon.

    Args:
        noise_multiplier: standard deviation of the noise in units of the clip norm, > 0.
        sample_rate: q in (0, 1].
        steps: optimizer steps, >= 0.
        delta: in (0, 1).
        accountant: PLD, PRV or RDP.

    Source: Koskela et al. (2020), Gopi et al. (2021), Mironov (2017).
    """
    checks.one_of("accountant", accountant, ("PLD", "PRV", "RDP"))
    if steps == 0:
        return 0.0
    if accountant == "PLD":
        return _pld_epsilon(noise_multiplier, sample_rate, steps, delta, _FINE)
    other = {"PRV": PRVAccountant, "RDP": RDPAccountant}[accountant]()
    other.history = [(noise_multiplier, sample_rate, steps)]
    return float(other.get_epsilon(delta=delta))


def _pld_epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, grid: float) -> float:
    """Return the PLD upper bound on a grid of the given width."""
    one_step = privacy_loss_distribution.from_gaussian_mechanism(
        noise_multiplier, sampling_prob=sample_rate, value_discretization_interval=grid)
    return float(one_step.self_compose(steps).get_epsilon_for_delta(delta))


def noise_multiplier_for(epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """Return the smallest noise multiplier (to 0.5 %) that keeps a budget, by the PLD accountant.

    Guarantees: `epsilon_spent` of the result is at most `epsilon`, and at least 0.99 of it.

    Raises:
        InputError: arguments out of range, or no multiplier up to 10,000 keeps the budget.
    """
    checks.number("EPSILON", epsilon, 0, 500, open_low=True)
    checks.number("DELTA", delta, 0, 0.1, open_low=True)
    checks.number("sample_rate", sample_rate, 0, 1, open_low=True)
    grid = min(_COARSE, epsilon / 200)
    low, high = 0.2, 0.4
    while (spent := _pld_epsilon(high, sample_rate, steps, delta, grid)) > epsilon:
        low, high = high, 2 * high
        if high > 10_000:
            checks.refuse(f"a noise multiplier that keeps EPSILON = {epsilon:g}", f"{spent:g} spent at 5,000",
                          "Raise EPSILON, or lower EPOCHS.")
    while spent < 0.992 * epsilon and high - low > 1e-6:
        middle = math.sqrt(low * high)
        if (tried := _pld_epsilon(middle, sample_rate, steps, delta, grid)) > epsilon:
            low = middle
        else:
            high, spent = middle, tried
    return high


def check_delta(delta: float, n_units: int, unit: str) -> str:
    """Return a warning ("" for none) about delta for a number of units.

    Raises:
        InputError: delta >= 1 / n_units: such a promise allows publishing one unit outright.
    """
    if delta >= 1 / n_units:
        checks.refuse(f"DELTA below 1 / {n_units:,} training {unit}s = {1 / n_units:.2g}", f"{delta:g}",
                      f"Set DELTA to {1 / (10 * n_units):.1g} or less.")
    if delta > 1 / (10 * n_units):
        return f"delta = {delta:g} is above 1 / (10 x {n_units:,} {unit}s) = {1 / (10 * n_units):.1g}: a weak promise."
    return ""


# ---- randomness

class Randomness:
    """Sampling and noise of each step.

    `demo`: keyed by (seed, stream, step), so that a resumed run repeats the uninterrupted one; not a guarantee, since
    whoever knows the seed can subtract the noise. `private`: generators with 128 bits of operating-system entropy
    each, never stored; a resumed run goes on with fresh entropy.
    """

    def __init__(self, mode: str, seed: int) -> None:
        self.mode, self.seed = checks.one_of("MODE", mode, ("demo", "private")), seed
        if mode == "private":
            self._fresh = {name: np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence()))
                           for name in ("sampling", "images", "noise")}

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
        """Return independent Gaussian noise, one tensor a parameter, once for a logical batch."""
        sizes = [p.numel() for p in parameters]
        flat = self._stream("noise", step).standard_normal(sum(sizes), dtype=np.float32) * np.float32(standard_deviation)
        return [part.view_as(p).to(p.device) for part, p in zip(torch.from_numpy(flat).split(sizes), parameters)]


# ---- ledger

def ledger(*, unit: str, n_units: int, expected_batch_size: int, steps: int, steps_done: int, noise_multiplier: float,
           clip_norm: float, delta: float, epsilon: float, max_images_per_unit: int, mode: str) -> dict:
    """Return the privacy ledger of a run: what was promised, what was spent, what is not covered."""
    sample_rate = expected_batch_size / n_units
    spent = {name: epsilon_spent(noise_multiplier, sample_rate, steps_done, delta, name)
             for name in ("PLD", "PRV", "RDP")}
    return {
        "unit": unit, "adjacency": f"add or remove all images of one {unit}", "sampler": f"Poisson over {unit}s",
        "n_units": n_units, "expected_batch_size": expected_batch_size, "sample_rate": sample_rate,
        "steps_planned": steps, "steps_done": steps_done, "noise_multiplier": noise_multiplier, "clip_norm": clip_norm,
        "max_images_per_unit": max_images_per_unit, "views_per_image": 1, "delta": delta, "epsilon_target": epsilon,
        "epsilon_spent": spent, "quoted_accountant": "PLD", "mode": mode,
        "guarantee": "none: demo mode, the noise can be recomputed from the seed" if mode == "demo" else "valid",
        "pos_weight": "none", "not_covered": NOT_COVERED,
    }


def statement(entries: dict) -> str:
    """Return the ledger's promise in plain words, weak promises included."""
    unit, epsilon = entries["unit"], entries["epsilon_spent"]["PLD"]
    posterior_percent = 100 / (1 + math.exp(-epsilon))
    text = (f"Somebody who sees the trained weights and wonders whether one given {unit} was in the training set can "
            f"multiply the odds by at most {math.exp(epsilon):,.1f} (epsilon = {epsilon:.2f}), that is get from 50 % to at "
            f"most {posterior_percent:.1f} %, except with probability {entries['delta']:g} (delta). ")
    if unit == "image":
        text += "A patient with several images has a weaker promise. "
    if entries["mode"] == "demo":
        text += "Demo mode: not a guarantee, since the seed is published. "
    return text + f"Validation and test {unit}s, and the choice of parameters, are not covered."
