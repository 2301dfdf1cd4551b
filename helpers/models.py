"""Networks that can be trained privately, their start from public weights, and their input.

In: sizes, or weights in a safetensors file. Out: a torch module whose every parameter belongs to a Conv2d, GroupNorm or
Linear and is used once in a forward pass, so that gradients of single patients can be bounded.
Refuses: widths that GroupNorm cannot divide, weight files that do not fit.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from helpers import checks, files, runs

HEADS = {"pooled": 1, "sided": 2}  # cells to the side over which the last features are averaged
PARTS = ("all", "norms_and_head", "head")  # of a network that may be trained; the rest is frozen


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; nothing is changed in place, so that hooks see every value."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1 = _group_norm(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = _group_norm(n_out)
        self.activation = nn.Mish()
        self.shortcut = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), _group_norm(n_out))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map (batch, n_in, height, width) to (batch, n_out, height / stride, width / stride)."""
        changed = self.activation(self.norm1(self.conv1(features)))
        return self.activation(self.norm2(self.conv2(changed)) + self.shortcut(features))


class ResNet9(nn.Module):
    """The paper's chest-radiograph network: a residual network of four blocks with GroupNorm and Mish.

    At width 64 with 3 channels and 8 findings it has the paper's 4,909,896 parameters. The paper's head is "pooled": it
    sees the mean over the whole film. A "sided" head sees the means over its four quarters, so that an output can look
    at one side.

    Source: Tayebi Arasteh et al. (2024), Methods; He et al. (2016) for the blocks; Klause et al. (2022) for ResNet9.
    """

    def __init__(self, n_findings: int, channels: int, width: int, head: str) -> None:
        super().__init__()
        self.cells = HEADS[head]
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 7, 2, 3, bias=False), _group_norm(width), nn.Mish(),
                                  nn.MaxPool2d(3, 2, 1))
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*[ResidualBlock(n_in, n_out, stride=1 if n == 0 else 2)
                                      for n, (n_in, n_out) in enumerate(zip(widths, widths[1:]))])
        self.head = nn.Linear(8 * width * self.cells**2, n_findings)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to logits (batch, n_findings)."""
        return self.head(functional.adaptive_avg_pool2d(self.blocks(self.stem(images)), self.cells).flatten(1))


def _group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with the paper's 32 groups, or as many as half the channels allow."""
    return nn.GroupNorm(math.gcd(32, channels // 2), channels)


def resnet9(n_findings: int, channels: int = 1, width: int = 16, seed: int = 0, head: str = "pooled") -> ResNet9:
    """Return a ResNet9 with random weights drawn from the study's stream "initial weights".

    Args:
        n_findings: number of outputs, >= 1.
        channels: of the input, 1 or 3 (three equal ones, as in the paper).
        width: channels after the stem, a multiple of 8; paper: 64.
        seed: of the stream.
        head: "pooled" (paper) or "sided".

    Raises:
        InputError: channels or width out of range, or an unknown head.
    """
    checks.one_of("CHANNELS", channels, (1, 3))
    checks.one_of("HEAD", head, tuple(HEADS))
    if width < 8 or width % 8:
        checks.refuse("WIDTH to be a multiple of 8", repr(width), "Use 16 for the demo, 64 for the paper's network.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(runs.random_stream(seed, "initial weights").integers(2**31)))
        model = ResNet9(n_findings, channels, width, head)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def to_input(images: np.ndarray | torch.Tensor, channels: int = 1) -> torch.Tensor:
    """Return a network's input, each image standardised by its own mean and standard deviation.

    Guarantees: an image's input depends on that image alone, never on other patients.

    Args:
        images: (batch, height, width) uint8.
        channels: 1, or 3 equal ones.

    Returns:
        (batch, channels, height, width) float32; a constant image becomes 0.
    """
    pixels = torch.as_tensor(images).to(torch.float32)
    mean = pixels.mean((1, 2), keepdim=True)
    spread = pixels.std((1, 2), keepdim=True).clamp(min=1.0)  # in grey levels
    return ((pixels - mean) / spread)[:, None].expand(-1, channels, -1, -1).contiguous()


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights and their names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()


def save_weights(model: nn.Module, path: Path, canonical: list[str], trained_on: str = "") -> None:
    """Write a model's weights as safetensors, with the canonical names of its outputs.

    Args:
        model: whose weights.
        path: of the file.
        canonical: a name for each output.
        trained_on: name of the private cohort that the weights were trained on; "" for none.
    """
    with files.atomic_path(path) as part:
        save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, part,
                  metadata={"canonical": json.dumps(canonical), "trained_on": trained_on})


def load_weights(path: Path, not_from: str = "") -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the weights in a safetensors file and the canonical names of the outputs ([] where not stored).

    Args:
        path: of the file.
        not_from: name of a cohort on which the weights must not have been trained.

    Raises:
        InputError: absent, not a safetensors file, or trained on that cohort.
    """
    checks.file_exists(path, "Run notebook 02 with this cohort first, or correct PRETRAIN.")
    try:
        with safe_open(path, framework="pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}
            about = stored.metadata() or {}
    except (SafetensorError, OSError) as error:
        checks.refuse(f"safetensors weights in {path}", str(error), "Write the file again.")
    if not_from and about.get("trained_on") == not_from:
        checks.refuse(f"PRETRAIN that has not seen {not_from}", "weights trained on it",
                      "Start from public weights: what private patients taught before has no guarantee.")
    return weights, json.loads(about.get("canonical", "[]"))


def start_from(model: ResNet9, weights: dict[str, torch.Tensor], known: list[str], canonical: list[str]) -> list[str]:
    """Give a model public weights; each finding's output starts from the public one of the same canonical name.

    An output that the public data know without a side starts, in a sided head, from the public evidence on its side of
    the film: the mean over that half instead of the whole. The patient's right is the viewer's left, cells 0 and 2 of
    the four. One without a side that the public data know by side starts from the mean of both. A finding that the
    public data do not know starts at zero: logit 0, score 0.5.

    Args:
        model: changed in place; one output for each entry of `canonical`.
        weights: state of a network of the same width and channels, with either head.
        known: the canonical names of the outputs in `weights`, with ":right" or ":left" where they have a side.
        canonical: the same for each finding, in the order of the model's outputs.

    Returns:
        The canonical names that start at zero.

    Raises:
        InputError: the weights do not fit the network.
    """
    head = {f"head.{part}": torch.zeros_like(value) for part, value in model.head.state_dict().items()}
    missing = []
    try:
        n_features = model.head.in_features // model.cells**2
        public = weights["head.weight"].to(head["head.weight"].device).unflatten(1, (n_features, -1))
        for output, name in enumerate(canonical):
            rows = alike(name, known)
            if not rows:
                missing.append(name)
                continue
            gains_side = ":" in name and known[rows[0]] != name
            head["head.bias"][output] = weights["head.bias"][rows].mean()
            head["head.weight"][output] = _spread(public[rows].mean(0), model.cells**2, name if gains_side else "").flatten()
        model.load_state_dict(weights | head)
    except (RuntimeError, KeyError, IndexError):
        checks.refuse("public weights that fit this network", "other names or shapes",
                      "Use the WIDTH and CHANNELS with which they were trained.")
    return sorted(set(missing))


def alike(name: str, known: list[str]) -> list[int]:
    """Return the places in `known` of a canonical name: itself, else without its side, else with either side."""
    base = name.partition(":")[0]
    for wanted in ({name}, {base}, {f"{name}:right", f"{name}:left"}):
        if places := [place for place, each in enumerate(known) if each in wanted][:len(wanted)]:
            return places
    return []


def _spread(evidence: torch.Tensor, n_cells: int, side_of: str) -> torch.Tensor:
    """Return (features, cells) weights of an output from (features, public cells) ones.

    Args:
        evidence: the public output's weights.
        n_cells: 1 or 4, of the new head.
        side_of: name of an output with a side that the public one does not have; "" for none.
    """
    if evidence.shape[1] == n_cells and not side_of:
        return evidence
    share = torch.full((n_cells,), 1 / n_cells, device=evidence.device)
    if n_cells == 4 and side_of:
        share = torch.tensor([1.0, 0, 1, 0] if side_of.endswith(":right") else [0.0, 1, 0, 1], device=evidence.device) / 2
    return evidence.sum(1, keepdim=True) * share


def train_only(model: nn.Module, part: str) -> None:
    """Freeze all of a network but one of `PARTS`; what is frozen needs neither clipping nor noise.

    Raises:
        InputError: an unknown part.
    """
    checks.one_of("TRAINED", part, PARTS)
    for name, module in model.named_modules():
        is_trained = part == "all" or name == "head" or part == "norms_and_head" and isinstance(module, nn.GroupNorm)
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(is_trained)
