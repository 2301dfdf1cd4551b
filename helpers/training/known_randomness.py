"""Randomness that the self-test knows beforehand, and temporary parts of an arm.

In: a private arm, its mode. Out: sampling and noise from generators of known state; other parts for
an arm, or float64 for its network, for as long as a `with` block lasts.
"""

import contextlib
import secrets
from collections.abc import Iterator

import numpy as np
import torch

from helpers.core import random_streams
from helpers.privacy import sampling_and_noise
from helpers.training import private_step

SIZES = [1, 2, 3, 5]  # images of the four units that are tried


ALARM = 1e-8  # chance of a false alarm of one statistical test


@contextlib.contextmanager
def in_place(arm: private_step.PrivateArm, **parts: object) -> Iterator[None]:
    """Give an arm other parts for a moment, its randomness for instance.

    Gradients and sums are left as they were.
    """
    parts = {"diagnostics": []} | parts
    before, gradients = (
        {name: getattr(arm, name) for name in parts},
        [p.grad for p in arm.clipped.parameters],
    )
    for name, value in parts.items():
        setattr(arm, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(arm, name, value)
        arm.clipped.take()
        for parameter, gradient in zip(arm.clipped.parameters, gradients):
            parameter.grad = gradient


@contextlib.contextmanager
def in_float64(model: torch.nn.Module) -> Iterator[None]:
    """Let a network compute in float64, whatever its input.

    Its float32 weights come back as they were.
    """
    handle = model.double().register_forward_pre_hook(
        lambda _, inputs: tuple(x.double() for x in inputs)
    )
    try:
        yield
    finally:
        handle.remove()
        model.float()


class Known(sampling_and_noise.Randomness):
    """Randomness whose streams the test knows.

    It draws everybody or nobody, and keeps the sums to which it gave noise.
    """

    def __init__(self, mode: str, steps: int) -> None:
        super().__init__(mode, secrets.randbelow(2**31), steps)
        self.draws_everybody, self.sums = True, []
        if mode == "private":
            seeds = {name: secrets.randbits(128) for name in self._fresh}
            self._fresh, self._twins = (
                {name: np.random.default_rng(seed) for name, seed in seeds.items()}
                for _ in range(2)
            )

    def draw_units(self, n_units: int, sample_rate: float) -> np.ndarray:
        """Return all units, or none."""
        return np.arange(n_units if self.draws_everybody else 0)

    def noise(
        self, parameters: list[torch.Tensor], standard_deviation: float
    ) -> list[torch.Tensor]:
        """Return what any other would, and keep the sums."""
        self.sums.append([p.clone() for p in parameters])
        return super().noise(parameters, standard_deviation)

    def expected_noise(self, step: int, n: int, standard_deviation: float) -> torch.Tensor:
        """Return the n values that a step must have, on the CPU.

        8 chunks in a row, each from its own stream; on a GPU what it draws with keys of one stream.
        """
        device, keys, *streams = (
            self.sums[-1][0].device,
            *(
                (
                    self._twins[name]
                    if self.mode == "private"
                    else random_streams.random_stream(self.seed, name, step)
                )
                for name in (sampling_and_noise.KEYS, *(f"noise {chunk}" for chunk in range(8)))
            ),
        )
        if device.type != "cpu":
            return sampling_and_noise.of_device(keys, n, standard_deviation, device).cpu()
        chunks = np.array_split(np.empty(n, dtype=np.float32), 8)
        return torch.from_numpy(
            np.concatenate(
                [
                    stream.standard_normal(len(chunk), dtype=np.float32)
                    for stream, chunk in zip(streams, chunks)
                ]
            )
            * np.float32(standard_deviation)
        )
