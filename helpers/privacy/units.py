"""Which images of a batch belong to which unit (patient or image).

In: images of units, one unit after the other. Out: values added up or computed by unit; a batch cut
into whole units.
"""

import dataclasses
from collections.abc import Callable

import torch

from helpers.core import thread_workers


@dataclasses.dataclass
class Units:
    """Which images of a batch belong to which unit; the images of a unit lie one after the other.

    Attributes:
        index: (batch,) int64, ascending, the unit of each image.
        sizes: images of each unit, each >= 1.
    """

    index: torch.Tensor
    sizes: list[int]

    def of_rows(self, rows_per_image: int) -> "Units":
        """Return the units of a batch in which each image is so many rows, one after the other."""
        if rows_per_image == 1:
            return self
        return Units(
            self.index.repeat_interleave(rows_per_image),
            [rows_per_image * size for size in self.sizes],
        )

    def by_size(self) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
        """Return for each size n the units of that size and their images.

        (m,) and (m * n,) int64, n.
        """
        sizes = torch.tensor(self.sizes, device=self.index.device)
        images = sizes[self.index]
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
        """Return (units, ...) results of `values(a, b)`, called for the units of one size with (m,
        n, ...) tensors.
        """
        if len(set(self.sizes)) == 1:
            return values(*(x.unflatten(0, (len(self.sizes), self.sizes[0])) for x in (a, b)))
        parts = [
            (units, values(*(x[images].unflatten(0, (len(units), n)) for x in (a, b))))
            for units, images, n in self.by_size()
        ]
        whole = parts[0][1].new_empty((len(self.sizes), *parts[0][1].shape[1:]))
        for units, part in parts:
            whole[units] = part
        return whole

    def one_by_one(
        self,
        values: Callable[..., torch.Tensor],
        a: torch.Tensor,
        b: torch.Tensor,
        shape: torch.Size,
    ) -> torch.Tensor:
        """Return (units, *shape) results of `values(a, b)`, called for each unit.

        On a CPU the cores share the units.
        """
        pairs = list(zip(a.split(self.sizes), b.split(self.sizes)))
        cores = 1 if a.is_cuda else torch.get_num_threads()
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


def pieces(images_per_unit: list[int], physical_batch_size: int) -> list[slice]:
    """Cut a logical batch into runs of whole units that hold at most `physical_batch_size` images.

    Guarantees: the slices cover every unit once; a unit is never split. A unit larger than the
    limit is a piece alone.

    Args:
        images_per_unit: images of each drawn unit, each >= 1.
        physical_batch_size: images that fit into memory, >= 1.
    """
    cuts, start, held = [], 0, 0
    for unit, n_images in enumerate(images_per_unit):
        if held and held + n_images > physical_batch_size:
            cuts.append(slice(start, unit))
            start, held = unit, 0
        held += n_images
    if held:
        cuts.append(slice(start, len(images_per_unit)))
    return cuts
