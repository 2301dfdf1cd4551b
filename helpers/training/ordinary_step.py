"""An ordinary training step: shuffled images, the gradient of their mean loss. No privacy.

In: a training set, a network. Out: gradients in `parameter.grad`, step by step.
"""

import numpy as np
from torch import nn

from helpers.core import errors, random_streams
from helpers.privacy import units
from helpers.training import image_augmentation, image_loss, training_set


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

    def set_gradients(self) -> tuple[float, int]:
        """Set the gradients of the next step's mean loss.

        Return the sum of losses and the number of images.
        """
        positions, device = self.draw(self.steps_done), next(self.model.parameters()).device
        stream = random_streams.random_stream(self.seed, "augmentation", self.steps_done)
        inversion = random_streams.random_stream(self.seed, "inversion", self.steps_done)
        moves, loss_sum = self.data.moves(len(positions), stream), 0.0
        self.model.zero_grad()
        for piece in units.pieces([1] * len(positions), self.physical_batch_size):
            images, labels = self.data.batch(positions[piece], moves[piece], self.channels, device)
            if self.augmentation == "strong":
                images = image_augmentation.vary(images, stream)
            if self.inverted:
                images = image_augmentation.invert(images, self.inverted, inversion)
            with image_loss.autocast(device, self.precision):
                losses = image_loss.image_losses(self.model(images), labels)
            (losses.sum() / len(positions)).backward()
            loss_sum += float(losses.detach().sum())
            del images, losses  # before the next ones are read
        self.steps_done += 1
        return loss_sum, len(positions)
