"""Canaries: units made so that a leak shows, each trained on by the toss of a coin.

In: a plan of private steps. Out: a score of each canary, and which were in; for
`audited_epsilon.lower_bound`. Raises `InputError` for plans that cannot be.

*Dirac canaries* sit in gradient space: the gradient of each is one coordinate that nobody else
touches, longer than the clipping norm. They pass through the very sampling, clipping, noise and
count of steps of a private run; the attacker sees every noisy sum. *Mislabelled patients*
(`audit_models.Audit.mislabelled`) are those of the cohort with all labels reversed, which no other
patient teaches; the attacker sees the scores of the trained model and of the public one.

Source: Nasr et al. (2023), "Tight auditing of differentially private machine learning", for Dirac
canaries; Steinke, Nasr and Jagielski (2023) for many of them in one run.
"""

import dataclasses
import math

import numpy as np
import torch
from torch import nn

from helpers.core import errors, random_streams
from helpers.privacy import accounting, promise
from helpers.training import private_step, training_set

STRENGTH = 20.0  # length of a canary's gradient before it is clipped, in clipping norms
OUTPUTS = 128  # of the layer in whose weights canaries sit
AT_A_TIME = 4096


class DiracCanaries(training_set.TrainingSet):
    """A training set of units whose gradients are single coordinates; those that are out are zeroed
    out: no label is known.
    """

    def batch(
        self, positions: np.ndarray, moves: np.ndarray, channels: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return one-hot input (batch, inputs), scaled, and labels (batch, OUTPUTS)."""
        places = torch.from_numpy(self.rows[positions])
        inputs = torch.zeros(len(places), len(self.images))
        # at weight 0 the gradient of the loss is half of the input
        inputs[torch.arange(len(places)), places // OUTPUTS] = float(2 * STRENGTH)
        labels = torch.full((len(places), OUTPUTS), torch.nan)
        is_in = self.labels[places, 0] == 1
        labels[torch.arange(len(places))[is_in], (places % OUTPUTS)[is_in]] = 1.0
        return inputs.to(device), labels.to(device)

    def moves(self, n_images: int, stream: np.random.Generator) -> np.ndarray:
        """Return that nothing is moved."""
        return np.zeros((n_images, 0), dtype=int)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Canaries of one run.

    Attributes:
        scores: (canaries,), larger for those in the training set.
        is_in: (canaries,) bool.
        promised: epsilon of the run, by its own accountant; infinity for one without privacy.
        runs: what was promised, for `attack_bounds`; () for one without privacy.
        is_gaussian: whether every unit is in each step and the attacker sees each sum, so that the
            run is a Gaussian mechanism.
    """

    scores: np.ndarray
    is_in: np.ndarray
    promised: float
    runs: tuple[accounting.Run, ...]
    is_gaussian: bool = False

    @classmethod
    def of(
        cls, scores: np.ndarray, is_in: np.ndarray, runs: tuple[accounting.Run, ...], delta: float
    ) -> "Scores":
        """Return canaries of a run of any mechanism.

        Args:
            scores, is_in, runs: see `Scores`.
            delta: of the promise.
        """
        promised = accounting.epsilon_of_all(runs, delta) if runs else math.inf
        return cls(scores, is_in, promised, runs)


def dirac(
    epsilon: float, delta: float, passes: int, sample_rate: float, n_canaries: int, seed: int
) -> Scores:
    """Return scores of Dirac canaries after the private steps of a run.

    Args:
        epsilon, delta: the promise.
        passes: expected passes through the units, a step each where sample_rate is 1.
        sample_rate: chance of each unit to be in a step; 1 where the head alone is trained.
        n_canaries: a multiple of 128.
        seed: names coins and noise: this is a demo, never a private run.

    Raises:
        InputError: another number of canaries, or a promise that cannot be kept.
    """
    if n_canaries % OUTPUTS:
        errors.refuse(f"a multiple of {OUTPUTS} as N_CANARIES", n_canaries, "Round it.")
    places = np.arange(n_canaries)
    is_in = random_streams.random_stream(seed, "audit coins").random(n_canaries) < 0.5
    data = DiracCanaries(
        np.zeros((n_canaries // OUTPUTS, 1), dtype=np.uint8),
        places,
        torch.from_numpy(is_in.astype(np.float32))[:, None],
        list(places[:, None]),
        places.astype(str),
        "patient",
        1,
    )
    model = nn.Sequential(nn.Linear(len(data.images), OUTPUTS, bias=False))
    nn.init.zeros_(model[0].weight)
    arm = private_step.PrivateArm(
        data,
        model,
        promise.PrivacyBudget(epsilon, delta, 1.0, allow_weak_delta=True),
        promise.Batching(
            max(1, round(sample_rate * n_canaries)), passes, 1, physical_batch_size=AT_A_TIME
        ),
        mode="demo",
        seed=seed,
    )
    total = torch.zeros_like(model[0].weight)
    for _ in range(arm.steps):
        arm.set_gradients()
        total -= model[0].weight.grad  # the attacker adds up what is released
    inputs, outputs = np.divmod(places, OUTPUTS)
    return Scores(
        total[outputs, inputs].numpy(),
        is_in,
        arm.epsilon_spent(),
        arm.promise.runs(),
        sample_rate == 1,
    )
