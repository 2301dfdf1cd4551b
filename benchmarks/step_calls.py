"""Calls of torch in one private step, by number of units: what small networks on a GPU wait for.

    python benchmarks/step_calls.py

In: nothing. Out: a table, and `results/step_calls.json`. Counted by torch's profiler on the CPU, in
the way of a GPU (`units.is_batched_on`): forward and backward pass, clipping, NAdam; beside them
those of an ordinary step, the optimizer's included in both. Also without views and the optimizer
("kernels"), nearer to what a GPU is asked to start. Noise on a GPU is six more.
"""

import collections
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.core import files
from helpers.privacy import clipping, units
from helpers.training import image_loss, networks

RESULT = Path(__file__).resolve().parent / "results" / "step_calls.json"
WIDTHS, UNITS = (16, 64), ((16, 1), (64, 1), (256, 1), (64, 4))  # units, images of each
WAYS = ("ordinary", "apart", "batched")  # units apart: as on a CPU
_NO_KERNEL = ("view", "as_strided", "permute", "transpose", "t", "unsqueeze", "expand", "slice")
_NO_KERNEL += ("select", "unfold", "split", "split_with_sizes", "detach", "alias", "squeeze")
_NO_KERNEL += ("_unsafe_view", "diagonal", "squeeze_", "empty", "new_empty", "empty_like")


class Kernels(TorchDispatchMode):
    """Count what is dispatched, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.names = collections.Counter()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.names[function.overloadpacket.__name__] += 1
        return function(*arguments, **(named or {}))

    def total(self) -> int:
        """Return the number of calls that are no views."""
        return sum(n for name, n in self.names.items() if name not in _NO_KERNEL)


def counted(way: str, width: int, n_units: int, images_per_unit: int) -> dict:
    """Return the calls and kernels of one step."""
    units.is_batched_on = lambda device: way == "batched"
    torch.manual_seed(0)
    model = networks.resnet9(8, 1, width, seed=0)
    images = torch.randn(n_units * images_per_unit, 1, 64, 64)
    labels = (torch.rand(len(images), 8) < 0.3).float()
    optimizer = torch.optim.NAdam(model.parameters(), foreach=True)
    clipped = (
        None
        if way == "ordinary"
        else clipping.ClippedSum(model, 1.0, images_per_unit=images_per_unit)
    )
    index = torch.arange(n_units).repeat_interleave(images_per_unit)

    def set_gradients() -> None:
        if clipped is None:
            image_loss.image_losses(model(images), labels).mean().backward()
            return
        clipped.add(image_loss.image_losses(clipped.logits(images), labels), index, n_units)
        for parameter, total in zip(clipped.parameters, clipped.take()):
            parameter.grad = total

    def step() -> None:
        optimizer.zero_grad()
        set_gradients()
        optimizer.step()

    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    with Kernels() as kernels:
        set_gradients()
    calls = sum(e.count for e in profiled.key_averages() if e.key.startswith("aten::"))
    return {"calls": calls, "kernels": kernels.total()}


def main() -> None:
    """Count, print and write."""
    rows = []
    for width in WIDTHS:
        for n_units, images_per_unit in UNITS:
            of_ways = {way: counted(way, width, n_units, images_per_unit) for way in WAYS}
            ordinary = of_ways["ordinary"]
            for way, counts in of_ways.items():
                ratios = {f"{what}_ratio": counts[what] / ordinary[what] for what in counts}
                about = {"width": width, "units": n_units, "images_per_unit": images_per_unit}
                rows.append(about | {"way": way} | counts | ratios)
    print(pd.DataFrame(rows).round(2).to_string(index=False))
    files.write_json(RESULT, {"torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    torch.set_num_threads(1)  # units apart share the cores, whose threads are not profiled
    main()
