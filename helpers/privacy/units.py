"""Which images of a batch belong to which unit (patient or image).

In: images of units, one unit after the other. Out: values added up or computed by unit; a batch cut
into whole units.
"""

import dataclasses
import functools
from collections.abc import Callable

import torch

from helpers.core import thread_workers


@dataclasses.dataclass
class Units:
    """Which images of a batch belong to which unit; the images of a unit lie one after the other.

    Attributes:
        index: (batch,) int64, ascending, the unit of each image.
        sizes: images of each unit, each >= 1.
        is_batched: whether all units share each call, however many they are: units of fewer
            images are filled up with zeros. As on GPUs, where calls cost more than zeros.
        most: images of any unit of the run, declared. By it the cheaper way to gradients is chosen:
            were it chosen by the units at hand, one of them would have a say in the rounding of the
            others' norms, which matters where a unit's images nearly cancel.
    """

    index: torch.Tensor
    sizes: list[int]
    is_batched: bool = False
    most: int = 1

    def of_rows(self, rows_per_image: int) -> "Units":
        """Return the units of a batch in which each image is so many rows, one after the other."""
        if rows_per_image == 1:
            return self
        return Units(
            self.index.repeat_interleave(rows_per_image),
            [rows_per_image * size for size in self.sizes],
            self.is_batched,
            rows_per_image * self.most,
        )

    def on(self, device: torch.device) -> "Units":
        """Return the same units with their index on a device; nothing waits for it."""
        return dataclasses.replace(self, index=self.index.to(device, non_blocking=True))

    def by_size(self) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
        """Return for each size n the units of that size and their images.

        (m,) and (m * n,) int64, n.
        """
        sizes = torch.tensor(self.sizes)
        images = sizes.repeat_interleave(sizes)
        return [
            (torch.nonzero(sizes == n)[:, 0], torch.nonzero(images == n)[:, 0], n)
            for n in sorted(set(self.sizes))
        ]

    def add_up(self, per_image: torch.Tensor) -> torch.Tensor:
        """Return (units, ...) sums of (batch, ...) values of the images of each unit."""
        if len(self.sizes) == len(self.index):
            return per_image
        return per_image.new_zeros((len(self.sizes), *per_image.shape[1:])).index_add_(
            0, self.index, per_image
        )

    def each_size(
        self, values: Callable[..., torch.Tensor], a: torch.Tensor, b: torch.Tensor
    ) -> torch.Tensor:
        """Return (units, ...) results of `values(a, b)`, called for the units of one size, or
        filled up to one, with (m, n, ...) tensors; images of zeros must add nothing.
        """
        if len(set(self.sizes)) == 1:
            return values(*(x.unflatten(0, (len(self.sizes), self.sizes[0])) for x in (a, b)))
        if self.is_batched:
            return values(*map(self.filled_up, (a, b)))
        parts = [
            (units, values(*(x[images].unflatten(0, (len(units), n)) for x in (a, b))))
            for units, images, n in self.by_size()
        ]
        whole = parts[0][1].new_empty((len(self.sizes), *parts[0][1].shape[1:]))
        for units, part in parts:
            whole[units] = part
        return whole

    def filled_up(self, x: torch.Tensor) -> torch.Tensor:
        """Return (units, most images, ...) values of (batch, ...) ones, zeros after the last image
        of a unit.
        """
        shape = (len(self.sizes), max(self.sizes))
        filled = x.new_zeros((shape[0] * shape[1], *x.shape[1:]))
        return filled.index_copy_(0, self._slots, x).unflatten(0, shape)

    @functools.cached_property
    def _slots(self) -> torch.Tensor:
        """Return the place of each image in a batch that is filled up, (batch,) int64."""
        most = max(self.sizes)
        places = [unit * most + n for unit, size in enumerate(self.sizes) for n in range(size)]
        return torch.tensor(places).to(self.index.device, non_blocking=True)

    def one_by_one(
        self,
        values: Callable[..., torch.Tensor],
        a: torch.Tensor,
        b: torch.Tensor,
        shape: torch.Size,
    ) -> torch.Tensor:
        """Return (units, *shape) results of `values(a, b)`, called for each unit.

        The cores share the units.
        """
        pairs = list(zip(a.split(self.sizes), b.split(self.sizes)))
        cores = torch.get_num_threads()
        share = -(-len(pairs) // cores)
        results = a.new_empty(len(pairs), *shape)

        @torch.no_grad()
        def work(start: int) -> None:
            for unit in range(start, min(start + share, len(pairs))):
                results[unit] = values(*pairs[unit])

        if cores == 1:
            work(0)
        else:
            # list() lets errors out
            list(thread_workers.workers(cores).map(work, range(0, len(pairs), share)))
        return results


def is_batched_on(device: torch.device) -> bool:
    """Return whether units share calls on a device, see `Units`."""
    return device.type != "cpu"


def pieces(
    images_per_unit: list[int], physical_batch_size: int, is_batched: bool = False
) -> list[slice]:
    """Cut a logical batch into runs of whole units that hold at most `physical_batch_size` images.

    Guarantees: the slices cover every unit once; a unit is never split. A unit larger than the
    limit is a piece alone.

    Args:
        images_per_unit: images of each drawn unit, each >= 1.
        physical_batch_size: images that fit into memory, >= 1.
        is_batched: whether the units of a piece are filled up to its largest, see `Units`; what
            fills up counts as images.
    """
    cuts, start, held, largest = [], 0, 0, 0
    for unit, n_images in enumerate(images_per_unit):
        in_all = held + n_images
        if is_batched:
            in_all = (unit + 1 - start) * max(largest, n_images)
        if held and in_all > physical_batch_size:
            cuts.append(slice(start, unit))
            start, held, largest = unit, 0, 0
        held, largest = held + n_images, max(largest, n_images)
    if held:
        cuts.append(slice(start, len(images_per_unit)))
    return cuts
