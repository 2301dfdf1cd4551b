"""Cost of a private step of each network of NETWORK, beside its own ordinary step and opacus.

    python benchmarks/network_steps.py                      # -> results/network_steps.json
    python benchmarks/network_steps.py --networks resnet18  # this one again; the others stay

In: names of networks. Out: a row a network and variant: milliseconds, ratio to the ordinary step of
the same network in the same repetition (median and quartiles), peak memory in ordinary steps, error
of the clipped sum. A variant that opacus refuses has its message as a remark.

Errors are relative to autograd on one image at a time in float64, of the variant in float64 and, of
ours, in float32. The former is that of the rules; the latter has the network's own rounding in it,
which a ReLU near 0 makes large. Variants take turns as in `private_step.py`.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # before torch loads OpenMP

import pandas as pd
import private_step
import psutil
import torch
import variants

from helpers.core import files
from helpers.training import image_loss, named_networks

OUT = private_step.RESULTS / "network_steps.json"
NETWORKS = ("resnet9", "resnet18", "resnet50", "densenet121", "convnext_tiny", "vit_b_16")
COMPARED = ("non-private", "ours, image", "opacus hooks", "opacus ghost")


@dataclasses.dataclass(frozen=True)
class NetworkSetting(variants.Setting):
    """A network by its name, and a batch as of `variants.Setting`."""

    def model(self) -> torch.nn.Module:
        """Return the network, on the device, without the constants that standardise its head."""
        model = named_networks.network(
            self.name,
            [f"finding {k}" for k in range(variants.N_FINDINGS)],
            (self.image_px,) * 2,
            channels=self.channels,
            width=self.width if self.name == "resnet9" else None,
        )
        model.centre = model.scale = None
        return model


def right_gradient(setting: NetworkSetting) -> tuple[torch.Tensor, float]:
    """Return the mean of clipped gradients by autograd on one image at a time in float64, and the
    clip norm, which is the median norm of three.
    """
    model, (images, labels) = setting.model().double(), setting.data()

    def gradient(n: int) -> torch.Tensor:
        losses = image_loss.image_losses(model(images[n : n + 1].double()), labels[n : n + 1])
        return flat(torch.autograd.grad(losses.mean(), list(model.parameters())))

    clip_norm = float(torch.stack([gradient(n).norm() for n in range(3)]).median())
    total = sum(
        g * min(1.0, clip_norm / float(g.norm())) for g in map(gradient, range(setting.batch))
    )
    return total / setting.batch, clip_norm


def flat(parts: list[torch.Tensor]) -> torch.Tensor:
    """Return tensors as one vector in float64."""
    return torch.cat([part.detach().flatten().double() for part in parts])


def error_of(
    name: str, setting: NetworkSetting, right: tuple[torch.Tensor, float], dtype: torch.dtype
) -> float:
    """Return the error of a variant's gradient without noise, relative to the right one."""
    gradient, clip_norm = right
    variant = variants.VARIANTS[name](setting, "contiguous", False, clip_norm)
    variant.model.to(dtype)
    variant.images = variant.images.to(dtype)
    variant.set_gradients(0.0)
    got = flat([parameter.grad for parameter in variant.model.parameters()])
    return float((got - gradient).norm() / gradient.norm())


def measured(task: dict) -> list[dict]:
    """Return a row a variant of a network, without memory; called in a fresh process."""
    setting = NetworkSetting(**task["setting"])
    right, rows, steps = right_gradient(setting), {}, {}
    for name in COMPARED:
        rows[name] = row = {"network": setting.name, "variant": name}
        try:
            if name != "non-private":
                row["relative_error"] = error_of(name, setting, right, torch.float64)
                if row["relative_error"] > private_step.LARGEST_ERROR:
                    row["remark"] = "its gradient is wrong"
            if name.startswith("ours"):
                row["error_float32"] = error_of(name, setting, right, torch.float32)
            variant = variants.VARIANTS[name](setting, "contiguous", False, right[1])
            variant.step()
            steps[name] = variant.step
        except Exception as error:  # opacus raises what it likes; what it says is the result
            if not name.startswith("opacus"):
                raise
            row["remark"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    times = private_step.take_turns(steps, task["repeats"])
    for name in steps:
        ratios = times[name] / times["non-private"]
        rows[name] |= {
            "milliseconds": times[name].median(),
            "ratio": ratios.median(),
            "ratio_low": ratios.quantile(0.25),
            "ratio_high": ratios.quantile(0.75),
        }
    return list(rows.values())


def peak_bytes(task: dict) -> int:
    """Return the most memory of a step beyond imports, data and model; in a fresh process."""
    setting = NetworkSetting(**task["setting"])
    variant = variants.VARIANTS[task["variant"]](setting, "contiguous", False, 1.0)
    is_gpu = variants.DEVICE.type == "cuda"
    held = torch.cuda.memory_allocated() if is_gpu else psutil.Process().memory_info().rss
    variant.step()
    return private_step.peak_bytes() - held


def in_child(task: dict) -> object:
    """Return what a fresh process finds out."""
    words = [sys.executable, __file__, "--threads", str(torch.get_num_threads())]
    words += ["--child", json.dumps(task)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def rows_of(network: str, options: argparse.Namespace) -> list[dict]:
    """Return the rows of a network."""
    setting = NetworkSetting(network, 1, options.image_px, options.batch)
    task = {"setting": dataclasses.asdict(setting), "repeats": options.repeats}
    rows = in_child(task)
    for row in rows:
        if "remark" not in row:
            row["peak_bytes"] = in_child(task | {"variant": row["variant"]})
            row["peak_ratio"] = row["peak_bytes"] / rows[0]["peak_bytes"]
    size = {"image_px": options.image_px, "batch": options.batch}
    return [size | {"parameters": sum(p.numel() for p in setting.model().parameters())} | row
            for row in rows]  # fmt: skip


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--image-px", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps((peak_bytes if "variant" in options.child else measured)(options.child)))
        return
    before = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    rows = [row for row in before if row["network"] not in options.networks]
    for network in options.networks:
        rows += rows_of(network, options)
        rows.sort(key=lambda row: NETWORKS.index(row["network"]))
        # after each, so that a long run can be stopped
        remark = f"{options.repeats} repetitions of each variant in the last run"
        files.write_json(OUT, private_step.about() | {"remark": remark, "rows": rows})
    shown = pd.DataFrame(rows).drop(columns=["peak_bytes", "image_px", "batch"])
    print(shown.to_string(index=False, na_rep="", float_format="%.3g"))


if __name__ == "__main__":
    main()
