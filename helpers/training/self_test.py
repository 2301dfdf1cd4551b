"""The self-test before private training: seconds, on the user's own network, loss and sampler.

In: a private arm, its cohort. Out: one row a promise, with what was tried. Raises `InputError` for
a broken promise, by name, before the run begins.

No private image is read: the network is tried on drawn noise. All randomness is the test's own,
from the operating system; with correct code it fails by chance less often than once in a million
runs. `self_test_steps` has what needs no chance at all.
"""

import math
from collections.abc import Collection

import numpy as np
import pandas as pd
import torch
from scipy import stats

from helpers.core import errors
from helpers.data import cohorts
from helpers.privacy import sampling_and_noise
from helpers.training import image_loss, private_step, self_test_steps
from helpers.training.known_randomness import ALARM, SIZES, in_float64, in_place
from helpers.training.self_test_steps import chance_of


def run(arm: private_step.PrivateArm, cohort: cohorts.Cohort) -> pd.DataFrame:
    """Try each promise of a private arm.

    Guarantees: the network, the arm's randomness and its sums are left as they were.

    Args:
        arm: about to be trained; not yet used.
        cohort: whose patients it is for.

    Returns:
        One row a promise: promise, tried (text).

    Raises:
        InputError: a promise is broken; names it.
    """
    rows = _rows(arm, cohort)
    if arm.head_arm:
        rows += [
            row | {"promise": f"the head alone: {row['promise']}"}
            for row in _rows(arm.head_arm, cohort)
        ]
    return pd.DataFrame(rows)


def _rows(arm: private_step.PrivateArm, cohort: cohorts.Cohort) -> list[dict]:
    """Try each promise of one part of a run."""
    rows = []
    arm.model.train()
    for promise, attempt in (
        ("no patient is in two splits", lambda: _splits(cohort)),
        ("the clipped sum is that of one unit at a time", lambda: _Probe(arm, cohort).agreement()),
        ("a unit moves the sum by at most the clipping norm", lambda: _Probe(arm, cohort).bound()),
        ("a broken image removes its own unit only", lambda: _Probe(arm, cohort).removal()),
        ("units enter by chance, each by itself, with few enough images", lambda: _sampler(arm)),
        ("no two units, and no two steps, are drawn together", lambda: self_test_steps.pairs(arm)),
        (
            "units are drawn at the rate that is promised and accounted for",
            lambda: self_test_steps.rate(arm),
        ),
        ("noise has its scale, also where nobody was drawn", lambda: _noise(arm)),
        (
            "every value of a step has its own noise, once",
            lambda: self_test_steps.every_value(arm, cohort),
        ),
        (
            "private mode asks the operating system alone",
            lambda: self_test_steps.fresh(arm, cohort),
        ),
    ):
        try:
            is_kept, text = attempt()
        except RuntimeError as error:
            is_kept, text = False, f"an error: {str(error).splitlines()[0]}"
        if not is_kept:
            errors.refuse(
                f"the self-test to find that {promise}",
                text,
                "Do not train: this promise would be broken.",
            )
        rows.append({"promise": promise, "tried": text})
    return rows


class _Probe:
    """Four units of drawn noise, and the arm's network and loss on them, scaled so that some of
    their gradients exceed the clipping norm that is promised.

    Sums are compared in float64: rounding in float32 can differ by a thousandth between batches of
    other sizes.
    """

    def __init__(self, arm: private_step.PrivateArm, cohort: cohorts.Cohort) -> None:
        size, n_findings = cohort.images.shape[1:], len(cohort.findings)
        rng = np.random.default_rng()
        self.arm, self.clipped, self.device = arm, arm.clipped, next(arm.model.parameters()).device
        n = sum(SIZES)
        images = torch.from_numpy(rng.integers(0, 256, (n, *size), dtype=np.uint8))
        self.images = arm.input_of(images.to(self.device))
        self.labels = torch.from_numpy(rng.integers(0, 2, (n, n_findings)).astype(np.float32)).to(
            self.device
        )
        self.index = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES)).to(
            self.device
        )
        self.clip_norm, self.loss_scale = arm.promise.clip_norm, 1.0
        with in_float64(arm.model):
            # so that some units are clipped
            self.loss_scale = self.clip_norm / float(self._sum(range(len(SIZES)))[1].median())

    def _sum(
        self,
        units: Collection[int],
        images: torch.Tensor | None = None,
        precision: str = "float32",
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the clipped sum over some units as one vector, and the units' norms."""
        here = torch.isin(self.index, torch.tensor(list(units), device=self.device))
        index = torch.unique(self.index[here], return_inverse=True)[1]
        images = (self.images if images is None else images)[here].to(
            next(self.arm.model.parameters()).dtype
        )
        try:
            with image_loss.autocast(self.device, precision):
                losses = image_loss.image_losses(
                    self.clipped.logits(images), self.labels[here], self.arm.pos_weight
                )
            norms = self.clipped.add(self.loss_scale * losses, index, len(units))
        finally:
            total = torch.cat([part.flatten() for part in self.clipped.take()]).double()
        return total, norms

    def _alone(self, unit: int) -> torch.Tensor:
        """Return the gradient of one unit alone by ordinary differentiation, as one vector."""
        here = self.index == unit
        losses = image_loss.image_losses(
            self.arm.model(self.images[here].double()), self.labels[here], self.arm.pos_weight
        )
        gradients = torch.autograd.grad(
            self.loss_scale * losses.mean(),
            self.clipped.parameters,
            materialize_grads=True,
            allow_unused=True,
        )
        return torch.cat([gradient.flatten() for gradient in gradients])

    def agreement(self) -> tuple[bool, str]:
        """Compare the sum with ordinary differentiation, one unit at a time."""
        with in_float64(self.arm.model):
            alone = [self._alone(unit) for unit in range(len(SIZES))]
            total = self._sum(range(len(SIZES)))[0]
        expected = sum(g * min(1.0, self.clip_norm / max(float(g.norm()), 1e-30)) for g in alone)
        wrong = float((total - expected).norm() / expected.norm())
        return (
            wrong < 1e-5,
            f"relative difference {wrong:.1e} on units of {', '.join(map(str, SIZES))} images",
        )

    def bound(self) -> tuple[bool, str]:
        """Let each unit leave in turn; and take each alone, in the run's own precision."""
        everybody = range(len(SIZES))
        with in_float64(self.arm.model):
            whole = self._sum(everybody)[0]
            moved = [
                float((whole - self._sum([u for u in everybody if u != unit])[0]).norm())
                for unit in everybody
            ]
        alone = [
            float(self._sum([unit], precision=self.arm.precision)[0].norm()) for unit in everybody
        ]
        most = max(moved + alone) / self.clip_norm
        return most <= 1 + 1e-5, f"at most {most:.6f} clipping norms when one leaves or is alone"

    def removal(self) -> tuple[bool, str]:
        """Break an image of the second unit."""
        broken = self.images.clone()
        broken[SIZES[0]] = math.nan
        with in_float64(self.arm.model):
            total, norms = self._sum(range(len(SIZES)), broken)
            expected = self._sum([0, 2, 3])[0]
        is_gone = not math.isfinite(float(norms[1])) and bool(
            torch.isfinite(norms[[0, 2, 3]]).all()
        )
        wrong = float((total - expected).norm() / expected.norm())
        return is_gone and wrong < 1e-5, f"the others' sum differs by {wrong:.1e}"


def _splits(cohort: cohorts.Cohort) -> tuple[bool, str]:
    """Look for patients in several splits."""
    n_splits = cohort.table.groupby("patient_id")["split"].nunique()
    return (
        bool((n_splits == 1).all()),
        f"{int((n_splits > 1).sum())} of {len(n_splits):,} patients in several splits",
    )


def _sampler(arm: private_step.PrivateArm, n_draws: int = 300) -> tuple[bool, str]:
    """Draw as the arm does.

    How many enter in all and for how often each, how batch sizes spread, who enters together.
    """
    n, q, most = arm.promise.n_units, arm.sample_rate, arm.promise.max_images_per_unit
    n_draws = n_draws if q < 1 else 5
    with in_place(arm, randomness=sampling_and_noise.Randomness("private", 0, steps=1)):
        drawn = [arm.draw() for _ in range(n_draws)]
    entered = np.zeros((n_draws, n), dtype=bool)
    for step, units in enumerate(drawn):
        entered[step, list(units)] = True
    sizes, times = entered.sum(1), entered.sum(0)
    text = f"{n_draws} draws of {n:,} at rate {q:.4g}: mean {sizes.mean():.2f} for {n * q:.2f}"
    if max((len(images) for units in drawn for images in units.values()), default=0) > most:
        return False, f"{text}; a unit with more than {most} images"
    if q == 1:
        return bool(entered.all()), text
    variance = n * q * (1 - q)
    # Of the sample variance of binomial numbers, by their fourth moment; a few joint entries more
    # than chance allows.
    spread = math.sqrt(variance * (1 + (3 * n - 6) * q * (1 - q)) - variance**2) / math.sqrt(
        n_draws
    )
    together, expected = int((entered[:, 1:] & entered[:, :-1]).sum()), n_draws * (n - 1) * q**2
    is_right = (
        chance_of(sizes.sum(), n_draws * n, q) > ALARM
        and min(chance_of(k, n_draws, q) for k in set(times)) > ALARM / n
        and -6 * spread < sizes.var() - variance < 20 * spread
        and together < expected + 12 * math.sqrt(expected) + 12
    )
    return (
        is_right,
        (
            f"{text}, variance {sizes.var():.2f} for {variance:.2f}, neighbours together {together}"
            f" for {expected:.1f}"
        ),
    )


def _noise(arm: private_step.PrivateArm) -> tuple[bool, str]:
    """Take the gradient of a step in which nobody was drawn, and test it against the noise
    promised.
    """
    deviation = (
        arm.promise.noise_multiplier * arm.promise.clip_norm / arm.promise.expected_batch_size
    )
    with in_place(arm, randomness=sampling_and_noise.Randomness("private", 0, steps=1)):
        arm.clipped.take()
        arm.add_units({}, step=0)
        arm.set_noisy_mean()
        noise = torch.cat([p.grad.flatten() for p in arm.clipped.parameters]).cpu().double().numpy()
    if deviation == 0:
        return bool((noise == 0).all()), "no noise, as asked for: nothing is promised"
    p_value = stats.kstest(noise / deviation, "norm").pvalue
    ratio = noise.std() / deviation
    is_right = p_value > ALARM and abs(ratio - 1) < 6 / math.sqrt(2 * len(noise))
    return (
        bool(is_right),
        f"{len(noise):,} values, standard deviation {ratio:.4f} of the promised one",
    )
