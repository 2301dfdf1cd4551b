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

from helpers import checks, files, runs


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

    At width 64 with 3 channels and 8 findings it has the paper's 4,909,896 parameters.

    Source: Tayebi Arasteh et al. (2024), Methods; He et al. (2016) for the blocks; Klause et al. (2022) for ResNet9.
    """

    def __init__(self, n_findings: int, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 7, 2, 3, bias=False), _group_norm(width), nn.Mish(),
                                  nn.MaxPool2d(3, 2, 1))
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*[ResidualBlock(n_in, n_out, stride=1 if n == 0 else 2)
                                      for n, (n_in, n_out) in enumerate(zip(widths, widths[1:]))])
        self.head = nn.Linear(8 * width, n_findings)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, height, width) to logits (batch, n_findings)."""
        return self.head(self.blocks(self.stem(images)).mean((2, 3)))


def _group_norm(channels: int) -> nn.GroupNorm:
    """Return GroupNorm with the paper's 32 groups, or as many as half the channels allow."""
    return nn.GroupNorm(math.gcd(32, channels // 2), channels)


def resnet9(n_findings: int, channels: int = 1, width: int = 16, seed: int = 0) -> ResNet9:
    """Return a ResNet9 with random weights drawn from the study's stream "initial weights".

    Args:
        n_findings: number of outputs, >= 1.
        channels: of the input, 1 or 3 (three equal ones, as in the paper).
        width: channels after the stem, a multiple of 8; paper: 64.
        seed: of the stream.

    Raises:
        InputError: channels or width out of range.
    """
    checks.one_of("CHANNELS", channels, (1, 3))
    if width < 8 or width % 8:
        checks.refuse("WIDTH to be a multiple of 8", repr(width), "Use 16 for the demo, 64 for the paper's network.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(runs.random_stream(seed, "initial weights").integers(2**31)))
        model = ResNet9(n_findings, channels, width)
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

    A finding that the public data do not know starts at zero: logit 0, score 0.5.

    Args:
        model: changed in place; one output for each entry of `canonical`.
        weights: state of a network of the same width and channels.
        known: the canonical names of the outputs in `weights`.
        canonical: the canonical name of each finding, in the order of the model's outputs. Right and left share one.

    Returns:
        The canonical names that start at zero.

    Raises:
        InputError: the weights do not fit the network.
    """
    head = {f"head.{part}": torch.zeros_like(value) for part, value in model.head.state_dict().items()}
    try:
        for row, name in enumerate(canonical):
            if name in known:
                for part in head:
                    head[part][row] = weights[part][known.index(name)]
        model.load_state_dict(weights | head)
    except (RuntimeError, KeyError, IndexError):
        checks.refuse("public weights that fit this network", "other names or shapes",
                      "Use the WIDTH and CHANNELS with which they were trained.")
    return sorted(set(canonical) - set(known))
