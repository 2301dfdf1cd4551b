"""Poisson sampling and Gaussian noise of private training, and the count of what was released.

In: mode, seed, planned steps. Out: which units enter a step, Gaussian noise, the number of noisy
sums so far. Raises `InputError` for noise beyond the planned steps, and for copies, pickles and use
in another process, whose noise would repeat.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from helpers.core import errors, random_streams

# of the noise, each with its own generator: fixed, so that demo mode repeats whatever the number of
# cores
CHUNKS = 8
KEYS = "keys of noise on a device"  # the stream that draws them


class Unrepeatable:
    """What must exist once: a copy would draw the same noise, or count its releases apart.

    Guarantees: `copy`, `deepcopy` and `pickle` (hence also spawned processes and `torch.save`) are
    refused.
    """

    def __reduce_ex__(self, protocol: int) -> tuple:
        errors.refuse(
            f"one {type(self).__name__} for one private run",
            "an attempt to copy or pickle it",
            "Its noise would repeat, or its steps be counted apart: make another one for another"
            " run.",
        )


class Randomness(Unrepeatable):
    """Sampling and noise of each step, and their count: step t is the one after t releases.

    `demo`: keyed by (seed, stream, step), so that a resumed run repeats the uninterrupted one; not
    a guarantee, since whoever knows the seed can subtract the noise. `none`: keyed like it, and no
    noise. `private`: generators with 128 bits of operating-system entropy each, never stored; a
    resumed run goes on with fresh entropy.

    On a GPU the noise is drawn there: Philox 4x32-10, counter-based, whose two keys of 64 bits are
    drawn anew for each step by a stream as above.

    Guarantees: mode `none` has no noise, and no other mode leaves it out; no two streams, chunks of
    the noise or steps share their numbers; no global seed has a say in private mode; no noise is
    given out uncounted, beyond the planned steps, or in a forked process.
    """

    def __init__(self, mode: str, seed: int, steps: int, is_registered: bool = True) -> None:
        """Begin at step 0.

        Args:
            mode: "demo", "private" or "none".
            seed: of the keyed streams; without effect in private mode.
            steps: planned noisy sums, >= 1.
            is_registered: whether the run stands in the privacy register; until then private mode
                gives no noise.
        """
        self.mode, self.seed, self.steps = (
            errors.one_of("MODE", mode, ("demo", "private", "none")),
            seed,
            steps,
        )
        self.is_registered = is_registered
        self._released, self._process = 0, os.getpid()
        self._chunks = [f"noise {chunk}" for chunk in range(CHUNKS)]
        if mode == "private":
            self._fresh = {
                name: np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence()))
                for name in ("sampling", "images", "augmentation", KEYS, *self._chunks)
            }

    @property
    def released(self) -> int:
        """Return the number of noisy sums given out, those of earlier sessions included."""
        return self._released

    def go_on_after(self, released: int) -> None:
        """Count the releases of earlier sessions of the same run. The count never falls.

        Raises:
            InputError: fewer than counted already, or more than planned.
        """
        if not self._released <= released <= self.steps:
            errors.refuse(
                f"{self._released} to {self.steps} steps released before",
                released,
                "A count of releases never falls.",
            )
        self._released = released

    def check_step_left(self) -> None:
        """Accept one more release.

        Raises:
            InputError: all planned steps are released, this is another process than the one that
                made it, or a private run does not stand in the register.
        """
        if os.getpid() != self._process:
            errors.refuse(
                "private steps in the process that made their randomness",
                "a forked one, whose noise would repeat",
                "Make network and arm in the process that trains.",
            )
        if self.mode == "private" and not self.is_registered:
            errors.refuse(
                "a session that has entered the run in the privacy register",
                "none",
                "Make a `training_session.Session` first.",
            )
        if self._released >= self.steps:
            errors.refuse(
                f"at most the {self.steps} planned steps",
                f"one more after {self._released}",
                "The noise was calibrated for these: plan another run with more EPOCHS under"
                " another RECIPE.",
            )

    def draw_units(self, n_units: int, sample_rate: float) -> np.ndarray:
        """Return the units that enter the next step, each independently with probability
        `sample_rate` (Poisson).
        """
        return np.flatnonzero(self._stream("sampling").random(n_units) < sample_rate)

    def choose_images(self, images: list[np.ndarray], most: int) -> list[np.ndarray]:
        """Return for each drawn unit at most `most` of its images, drawn at random without
        replacement.
        """
        stream = self._stream("images")
        return [
            rows if len(rows) <= most else np.sort(stream.choice(rows, most, replace=False))
            for rows in images
        ]

    def augmentation(self, unit: str, step: int) -> np.random.Generator:
        """Return the generator that moves a unit's images.

        Keyed by the unit in demo mode, so that nobody else has a say in it.
        """
        return (
            self._fresh["augmentation"]
            if self.mode == "private"
            else random_streams.random_stream(self.seed, f"augmentation {unit}", step)
        )

    def noise(
        self, parameters: list[torch.Tensor], standard_deviation: float
    ) -> list[torch.Tensor]:
        """Return independent Gaussian noise, one tensor a parameter, once for a logical batch;
        drawn in threads, or on the parameters' GPU. In mode "none" zeros, and nothing is drawn.

        Guarantees: counted before it is drawn, so that a sum that gets noise is never left
        uncounted.

        Raises:
            InputError: see `check_step_left`.
        """
        self.check_step_left()
        sizes, device = [p.numel() for p in parameters], parameters[0].device
        is_on_cpu = device.type == "cpu"
        streams = [self._stream(name) for name in (self._chunks if is_on_cpu else [KEYS])]
        self._released += 1
        if self.mode == "none":
            return [torch.zeros_like(p) for p in parameters]
        if is_on_cpu:
            flat = _of_threads(streams, sum(sizes), standard_deviation)
        else:
            flat = of_device(streams[0], sum(sizes), standard_deviation, device)
        return [part.view_as(p) for part, p in zip(flat.split(sizes), parameters)]

    def _stream(self, name: str) -> np.random.Generator:
        """Return the generator of a stream at the present step."""
        return (
            self._fresh[name]
            if self.mode == "private"
            else random_streams.random_stream(self.seed, name, self._released)
        )


def _of_threads(
    streams: list[np.random.Generator], n: int, standard_deviation: float
) -> torch.Tensor:
    """Return (n,) Gaussian noise on the CPU: a chunk from each stream, drawn in threads."""
    flat = np.empty(n, dtype=np.float32)

    def fill(stream: np.random.Generator, chunk: np.ndarray) -> None:
        stream.standard_normal(out=chunk, dtype=np.float32)
        np.multiply(chunk, np.float32(standard_deviation), out=chunk)

    n_threads = min(CHUNKS, torch.get_num_threads()) if n > 2**17 else 1
    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(fill, streams, np.array_split(flat, CHUNKS)))  # list() lets errors out
    return torch.from_numpy(flat)


def of_device(
    keys: np.random.Generator, n: int, standard_deviation: float, device: torch.device
) -> torch.Tensor:
    """Return (n,) Gaussian noise drawn on a device by torch's generator, which is Philox 4x32-10 on
    a GPU.

    A key of torch has 64 bits. Two independent draws are added, each of half the variance: to try
    one key after the other is then no way to the noise; to meet in the middle takes 2^64 draws and
    their storage.

    Args:
        keys: draws the two keys.
        n: number of values, >= 0.
        standard_deviation: of the sum.
        device: where the noise is wanted.
    """
    first, second = (
        torch.randn(n, device=device, generator=torch.Generator(device).manual_seed(int(key)))
        for key in keys.integers(2**64, size=2, dtype=np.uint64)
    )
    return first.add_(second).mul_(standard_deviation / 2**0.5)
