"""An ordinary training step: shuffled images, the gradient of their mean loss. No privacy.

In: a training set, a network. Out: gradients in `parameter.grad`, step by step.
"""

import numpy as np
import torch
from torch import nn

from helpers.core import errors, random_streams
from helpers.privacy import units
from helpers.training import image_augmentation, image_loss, ranks, training_set


class BaselineArm:
    """Ordinary training: every epoch goes once through the images in random order.

    AUGMENTATION "shift" moves images by up to a sixteenth, as the private arm does; "strong" varies
    them as `image_augmentation.vary` does. Of public films a share may be shown inverted, drawn
    anew in each epoch, see `image_augmentation.invert`.
    """

    shows_diagnostics, is_private = True, False

    def __init__(
        self,
        data: training_set.TrainingSet,
        model: nn.Module,
        *,
        channels: int,
        batch_size: int,
        seed: int,
        precision: str = "float32",
        augmentation: str = "shift",
        physical_batch_size: int = 256,
        inverted: float = 0.0,
    ) -> None:
        self.physical_batch_size = physical_batch_size
        self.data, self.model, self.channels, self.seed, self.precision = (
            data,
            model,
            channels,
            seed,
            precision,
        )
        self.augmentation = errors.one_of("AUGMENTATION", augmentation, ("shift", "strong"))
        self.inverted = errors.number("PRETRAIN_INVERTED", inverted, 0, 1)
        self.batch_size = min(batch_size, len(data.rows))
        self.steps_per_epoch, self.steps_done = len(data.rows) // self.batch_size, 0

    def go_on_after(self, steps: int) -> None:
        """Go on after the steps of an earlier session."""
        self.steps_done = steps

    def draw(self, step: int) -> np.ndarray:
        """Return the positions of this step's images."""
        epoch, part = divmod(step, self.steps_per_epoch)
        order = random_streams.random_stream(self.seed, "order", epoch).permutation(
            len(self.data.rows)
        )
        return order[part * self.batch_size : (part + 1) * self.batch_size]

    @property
    def trained(self) -> list[nn.Parameter]:
        """Return the weights that are trained."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def set_gradients(self) -> tuple[float, int]:
        """Set the gradients of the next step's mean loss.

        Return the sum of losses and the number of images.
        """
        loss_sum = self._add_share(*ranks.told((self.steps_done,), self.trained))
        self.steps_done += 1
        return loss_sum, self.batch_size

    def help(self, step: int) -> None:
        """Send the gradients of this rank's share of a step to the first rank, see `ranks`."""
        self._add_share(step)

    def _add_share(self, step: int) -> float:
        """Set the gradients of this rank's share of a step's mean loss; return its sum of losses.

        On the first rank those of all ranks. Of a piece that is in memory at a time, each rank has
        a part; the random numbers are those of the whole piece.
        """
        positions, device = self.draw(step), next(self.model.parameters()).device
        stream = random_streams.random_stream(self.seed, "augmentation", step)
        inversion = random_streams.random_stream(self.seed, "inversion", step)
        moves, loss_sum = self.data.moves(len(positions), stream), 0.0
        self.model.zero_grad()
        for piece in units.pieces([1] * len(positions), self.physical_batch_size):
            own, numbers, is_inverted = positions[piece][ranks.share()], None, None
            if self.augmentation == "strong":
                numbers = image_augmentation.numbers(len(positions[piece]), moves.shape[1], stream)
            if self.inverted:
                is_inverted = inversion.random(len(positions[piece])) < self.inverted
            if not len(own):
                continue
            images, labels = self.data.batch(
                own, moves[piece][ranks.share()], self.channels, device
            )
            if numbers is not None:
                images = image_augmentation.vary(images, numbers[:, ranks.share()])
            if is_inverted is not None:
                images = image_augmentation.invert(images, is_inverted[ranks.share()])
            with image_loss.autocast(device, self.precision):
                losses = image_loss.image_losses(self.model(images), labels)
            (losses.sum() / len(positions)).backward()
            loss_sum += float(losses.detach().sum())
            del images, losses  # before the next ones are read
        return self._add_up(loss_sum)

    def _add_up(self, loss_sum: float) -> float:
        """Add gradients and losses of all ranks up on the first one; return the sum of losses."""
        if ranks.number() == 1:
            return loss_sum
        for parameter in self.trained:
            if parameter.grad is None:  # no image was this rank's
                parameter.grad = torch.zeros_like(parameter)
        ranks.add_up([parameter.grad for parameter in self.trained])
        return float(ranks.add_up([torch.tensor([loss_sum], dtype=torch.float64)])[0])
