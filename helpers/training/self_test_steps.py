"""Single steps of a private arm to the last value: noise, draws by pairs, sampling rate.

In: a private arm, its cohort. Out: for each promise whether it is kept, and what was tried.

Statistical tests see neither a single parameter nor a rare step. Here the noise of a step is known
before: in demo mode by its keys, in private mode from generators of known state in the place of the
operating system's. No private image is read.
"""

import numpy as np
import torch
from scipy import stats

from helpers.core import random_streams
from helpers.data import cohorts
from helpers.privacy import accounting, sampling_and_noise
from helpers.training import private_step, training_set
from helpers.training.known_randomness import ALARM, SIZES, Known, in_float64, in_place

_MOST_VALUES = 25 * 10**6  # of noise, compared in one mode: a second or two


def drawn_data(arm: private_step.PrivateArm, cohort: cohorts.Cohort) -> training_set.TrainingSet:
    """Return four units of drawn noise in the place of an arm's data."""
    rng, n = np.random.default_rng(), sum(SIZES)
    drawn = training_set.TrainingSet(
        images=rng.integers(0, 256, (n, *cohort.images.shape[1:]), dtype=np.uint8),
        rows=np.arange(n),
        unit=arm.data.unit,
        most_images=max(SIZES),
        labels=torch.from_numpy(rng.integers(0, 2, (n, len(cohort.findings))).astype(np.float32)),
        units=np.split(np.arange(n), np.cumsum(SIZES)[:-1]),
        names=np.array([f"drawn {unit}" for unit in range(len(SIZES))]),
    )
    return arm.data_of(drawn)


def every_value(
    arm: private_step.PrivateArm, cohort: cohorts.Cohort, mode: str = "demo"
) -> tuple[bool, str]:
    """Make whole steps: gradient x expected number - sum must be the noise known before, in every
    value, drawn once a step.

    Four units enter the first step, nobody the others. In demo mode their sum is compared with that
    of one unit at a time.
    """
    parameters, batch, n = (
        arm.clipped.parameters,
        arm.promise.expected_batch_size,
        sum(p.numel() for p in arm.clipped.parameters),
    )
    source, deviation = (
        Known(mode, arm.steps),
        arm.promise.noise_multiplier * arm.promise.clip_norm,
    )
    most, worst = int(np.clip(_MOST_VALUES // n, 4, 300)), 0.0
    steps = sorted(
        {0, arm.steps - 1, *np.random.default_rng().permutation(arm.steps)[:most].tolist()}
    )
    with (
        in_float64(arm.model),
        in_place(
            arm,
            randomness=source,
            data=drawn_data(arm, cohort),
            precision="float32",
            physical_batch_size=4,
        ),
    ):
        for step in steps:
            source.go_on_after(step)
            source.sums, source.draws_everybody = [], step == 0
            alone = _one_at_a_time(arm) if mode == "demo" else None
            arm.set_gradients()
            if len(source.sums) != 1 or source.released != step + 1:
                return False, f"noise was drawn {len(source.sums)} times in step {step}"
            total, expected = _flat(source.sums[0]), source.expected_noise(step, n, deviation)
            added = batch * _flat([p.grad for p in parameters]) - total
            worst = max(worst, float((added - expected.to(added)).abs().max()))
            if mode == "demo" and (total - alone).norm() > 1e-5 * max(
                alone.norm(), 1e-3 * arm.promise.clip_norm
            ):
                return False, f"the sum of step {step} is not that of one unit at a time"
    text = (
        f"{n:,} values in {len(steps)} of {arm.steps} steps, at most {worst:.1e} from the noise"
        " known before"
    )
    return worst <= 1e-6 * deviation + 1e-9 * arm.promise.clip_norm, text


def _flat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors as one vector."""
    return torch.cat([part.flatten() for part in parts])


def _one_at_a_time(arm: private_step.PrivateArm) -> torch.Tensor:
    """Return the sum of what each unit of the next step adds alone, as one vector."""
    total, views = 0.0, arm.promise.views_per_image
    for unit, images in arm.draw().items():
        arm.add_units({unit: np.repeat(images, views)}, arm.steps_done)
        total = total + _flat(arm.clipped.take())
    return total if torch.is_tensor(total) else _flat(arm.clipped.take())


def fresh(arm: private_step.PrivateArm, cohort: cohorts.Cohort) -> tuple[bool, str]:
    """Make steps in private mode while keyed streams raise.

    Let two sources with one seed, made under one global state, differ.
    """

    def refuse(seed: int, name: str, step: int = 0) -> None:
        raise RuntimeError(f"the keyed stream {name!r} was asked for in private mode")

    keyed, random_streams.random_stream = random_streams.random_stream, refuse
    try:
        before = _global_states()
        sources = [sampling_and_noise.Randomness("private", 0, steps=1) for _ in range(2)]
        drawn = [
            (
                source.draw_units(1000, 0.5).tobytes(),
                source.noise([torch.zeros(100)], 1.0)[0].numpy().tobytes(),
            )
            for source in sources
        ]
        with in_place(arm, randomness=sources[0]):
            arm.draw()
        is_exact, text = every_value(arm, cohort, "private")
        is_untouched = _global_states() == before
    finally:
        random_streams.random_stream = keyed
    differ = all(one != other for one, other in zip(*drawn))
    return is_exact and is_untouched and differ, (
        text
        if not is_exact
        else f"{text}; none keyed, "
        + (
            "a global generator used"
            if not is_untouched
            else "two sources differ"
            if differ
            else "two sources alike"
        )
    )


def _global_states() -> tuple:
    """Return the states of torch's and numpy's global generators."""
    return (
        torch.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(),
        np.random.get_state()[2],
    )


def pairs(arm: private_step.PrivateArm, most_units: int = 1500) -> tuple[bool, str]:
    """Draw as the arm does, and count for every two units how often they entered one step, or two
    successive ones.

    Of more units some are taken at random. Each count is binomial; all together give a false alarm
    less often than once in 10^7.
    """
    n, q = arm.promise.n_units, arm.sample_rate
    if q == 1:
        return True, "everybody enters every step"
    n_steps, units = (
        2 * int(np.clip(3e5 / (n * q), 100, 500)),
        np.random.default_rng().permutation(n)[:most_units],
    )
    entered, column = np.zeros((n_steps, len(units)), dtype=np.float32), np.full(n, -1)
    column[units] = np.arange(len(units))
    with in_place(arm, randomness=sampling_and_noise.Randomness("private", 0, steps=1)):
        for step in range(n_steps):
            drawn = column[list(arm.draw())]
            entered[step, drawn[drawn >= 0]] = 1
    is_right, words = True, []
    for name, first, second in (
        ("one step", entered, entered),
        ("successive ones", entered[::2], entered[1::2]),
    ):
        together = (torch.from_numpy(first.T.copy()) @ torch.from_numpy(second.copy())).numpy()
        counts = together[np.triu_indices(len(units), 1)] if first is second else together.flatten()
        chance = ALARM / max(1, len(counts))
        low, high = (
            stats.binom.ppf(chance, len(first), q * q),
            stats.binom.isf(chance, len(first), q * q),
        )
        is_right &= bool((low <= counts).all() and (counts <= high).all())
        words.append(
            f"{len(counts):,} pairs in {name}: together {counts.min(initial=n_steps):.0f} to"
            f" {counts.max(initial=0):.0f} times, allowed {low:.0f} to {high:.0f}"
        )
    again = int(together.diagonal().sum())  # who entered comes again no less and no more often
    is_right &= chance_of(again, len(first) * len(units), q * q) > ALARM
    return bool(is_right), "; ".join(words)


def chance_of(count: int, n: int, q: float) -> float:
    """Return the chance that a binomial number is as far out as `count`, on its side."""
    return min(stats.binom.cdf(count, n, q), stats.binom.sf(count - 1, n, q))


def rate(arm: private_step.PrivateArm) -> tuple[bool, str]:
    """Compare units and rate with which the arm draws with the promise, the ledger, and what
    epsilon is computed from.
    """
    source = sampling_and_noise.Randomness("private", 0, arm.promise.total_steps)
    promise, asked = arm.promise, []
    source.draw_units = lambda n_units, sample_rate: (
        asked.append((n_units, sample_rate)) or np.arange(0)
    )
    with in_place(arm, randomness=source):
        arm.draw()
        ledger = arm.ledger()
        source.go_on_after(promise.total_steps)
        spent = arm.epsilon_spent()
    wanted = (promise.n_units, promise.expected_batch_size / promise.n_units)
    accounted = accounting.epsilon_of_all(promise.runs(), promise.delta)
    is_kept = spent <= promise.epsilon or promise.mode == "demo"
    is_right = (
        asked == [wanted]
        and (ledger["n_units"], ledger["sample_rate"]) == wanted
        and spent == accounted
        and is_kept
    )
    return (
        is_right,
        (
            f"drawn at {asked[0][1]:.6g} of {asked[0][0]:,}, ledger {ledger['sample_rate']:.6g};"
            f" all {promise.total_steps} steps spend {spent:.4g}"
        ),
    )
