"""What goes into a network: its input, and weights, its own or public ones to start from.

In: images; weights in a safetensors file. Out: standardised input; a network that starts from what public data know.
Refuses: weight files that are absent, damaged or do not fit.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from helpers import checks, files, networks


def to_input(images: np.ndarray | torch.Tensor, channels: int = 1) -> torch.Tensor:
    """Return a network's input, each image or volume standardised by its own mean and standard deviation.

    Guarantees: an image's input depends on that image alone, never on other patients.

    Args:
        images: (batch, height, width) or (batch, depth, height, width) uint8.
        channels: 1, or 3 equal ones.

    Returns:
        (batch, channels, *size) float32; a constant image becomes 0.
    """
    pixels = torch.as_tensor(images).to(torch.float32)
    every = tuple(range(1, pixels.ndim))
    mean = pixels.mean(every, keepdim=True)
    spread = pixels.std(every, keepdim=True).clamp(min=1.0)  # in grey levels
    return ((pixels - mean) / spread)[:, None].expand(-1, channels, *pixels.shape[1:]).contiguous()


def weights_hash(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of weights by name, type, shape and value, in no order: files of equal weights may differ byte by byte."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_weights(model: nn.Module, path: Path, canonical: list[str], lineage: list[dict] | None = None) -> None:
    """Write a model's weights as safetensors, with the canonical names of its outputs.

    Args:
        model: whose weights.
        path: of the file.
        canonical: a name for each output.
        lineage: what trained the weights, see `lineage`; None where nobody knows, which is then not said either.
    """
    about = {"canonical": json.dumps(canonical)} | ({} if lineage is None else {"lineage": json.dumps(lineage)})
    with files.atomic_path(path) as part:
        save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, part, metadata=about)


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the weights in a safetensors file and the canonical names of the outputs ([] where not stored).

    Raises:
        InputError: absent, or not a safetensors file.
    """
    with _opened(path) as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}
        return weights, json.loads((stored.metadata() or {}).get("canonical", "[]"))


def hash_of_file(path: Path) -> str | None:
    """Return `weights_hash` of a safetensors file; None where it is absent or damaged."""
    try:
        return weights_hash(load_weights(path)[0])
    except checks.InputError:
        return None


def lineage_of(path: Path) -> list[dict] | None:
    """Return what trained the weights in a safetensors file; None where the file does not say.

    Raises:
        InputError: absent, not a safetensors file, or a lineage in another form.
    """
    with _opened(path) as stored:
        said = (stored.metadata() or {}).get("lineage")
    try:
        found = None if said is None else json.loads(said)
        is_right = found is None or isinstance(found, list) and all(isinstance(ancestor, dict) for ancestor in found)
    except ValueError:
        is_right = False
    if not is_right:
        checks.refuse(f"a list of ancestors as the lineage in {path}", repr(said[:60]), "Write the file with `models.save_weights`.")
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """Yield an open safetensors file."""
    checks.file_exists(path, "Run notebook 02 with this cohort first, or correct PRETRAIN.")
    try:
        with safe_open(path, framework="pt") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        checks.refuse(f"safetensors weights in {path}", str(error), "Write the file again.")


def start_from(model: networks.ResNet9, weights: dict[str, torch.Tensor], known: list[str], canonical: list[str]) -> list[str]:
    """Give a model public weights; each finding's output starts from the public one of the same canonical name.

    An output that the public data know without a side starts, in a sided head, from the public evidence on its side of
    the film: the mean over that half instead of the whole. The patient's right is the viewer's left, cells 0 and 2 of
    the four (0, 2, 4 and 6 of a volume's eight). One without a side that the public data know by side starts from the mean of both. A finding that the
    public data do not know starts at zero: logit 0, score 0.5.

    Args:
        model: changed in place; one output for each entry of `canonical`.
        weights: state of a network of the same width and channels, with either head; for volumes also one of images.
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
        n_features = model.head.in_features // model.n_cells
        public = weights["head.weight"].to(head["head.weight"].device).unflatten(1, (n_features, -1))
        for output, name in enumerate(canonical):
            rows = alike(name, known)
            if not rows:
                missing.append(name)
                continue
            gains_side = ":" in name and known[rows[0]] != name
            head["head.bias"][output] = weights["head.bias"][rows].mean()
            head["head.weight"][output] = _spread(public[rows].mean(0), model.n_cells, name if gains_side else "").flatten()
        model.load_state_dict(networks.in_planes(weights, model) | head)
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
        n_cells: 1, 4 or (volumes) 8, of the new head.
        side_of: name of an output with a side that the public one does not have; "" for none.
    """
    if evidence.shape[1] == n_cells and not side_of:
        return evidence
    share = torch.full((n_cells,), 1 / n_cells, device=evidence.device)
    if n_cells > 1 and side_of:  # cells go from the patient's right to the left fastest
        share = torch.tensor([1.0, 0] if side_of.endswith(":right") else [0, 1.0], device=evidence.device).repeat(n_cells // 2) * 2 / n_cells
    return evidence.sum(1, keepdim=True) * share
