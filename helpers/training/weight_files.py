"""Weights in safetensors files: written with what they mean and what trained them, read, compared
by value. Weights of torchvision in its own files are read, too.

In: a network or a file. Out: a file or weights. Raises `InputError` for files that are absent or
damaged.
"""

import contextlib
import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from helpers.core import errors, files


def weights_hash(weights: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of weights by name, type, shape and value, in no order.

    Files of equal weights may differ byte by byte.
    """
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(
            f"{name} {value.dtype} {tuple(value.shape)}".encode()
            + value.detach().cpu().contiguous().numpy().tobytes()
        )
    return digest.hexdigest()


def save_weights(
    model: nn.Module, path: Path, canonical: list[str], lineage: list[dict] | None = None
) -> None:
    """Write a model's weights as safetensors, with the canonical names of its outputs.

    Args:
        model: whose weights.
        path: of the file.
        canonical: a name for each output.
        lineage: what trained the weights, see `lineage`; None where nobody knows, which is then not
            said either.
    """
    about = {"canonical": json.dumps(canonical)} | (
        {} if lineage is None else {"lineage": json.dumps(lineage)}
    )
    with files.atomic_path(path) as part:
        save_file(
            {name: value.cpu().contiguous() for name, value in model.state_dict().items()},
            part,
            metadata=about,
        )


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the weights in a file and the canonical names of the outputs ([] where not stored).

    Args:
        path: of a safetensors file, or of a state dict of torchvision (*.pth).

    Raises:
        InputError: absent, or not such a file.
    """
    if str(path).endswith(".pth"):
        return _state_dict(path), []
    with _opened(path) as stored:
        weights = {name: stored.get_tensor(name) for name in list(stored.keys())}
        return weights, json.loads((stored.metadata() or {}).get("canonical", "[]"))


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a file of `torch.save`; code in it is never run."""
    errors.file_exists(path, "Correct PRETRAIN.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        weights = str(error).splitlines()[0][:80]
    if not isinstance(weights, Mapping) or not all(map(torch.is_tensor, weights.values())):
        errors.refuse(
            f"a state dict, names and tensors, in {path}",
            weights if isinstance(weights, str) else f"a {type(weights).__name__} of other things",
            "Save it with torch.save(model.state_dict(), path).",
        )
    return dict(weights)


def hash_of_file(path: Path) -> str | None:
    """Return `weights_hash` of a safetensors file; None where it is absent or damaged."""
    try:
        return weights_hash(load_weights(path)[0])
    except errors.InputError:
        return None


def lineage_of(path: Path) -> list[dict] | None:
    """Return what trained the weights in a file; None where the file does not say.

    Raises:
        InputError: absent, not a safetensors file, or a lineage in another form.
    """
    if str(path).endswith(".pth"):
        return None
    with _opened(path) as stored:
        said = (stored.metadata() or {}).get("lineage")
    try:
        lineage = None if said is None else json.loads(said)
        is_right = (
            lineage is None
            or isinstance(lineage, list)
            and all(isinstance(ancestor, dict) for ancestor in lineage)
        )
    except ValueError:
        is_right = False
    if not is_right:
        errors.refuse(
            f"a list of ancestors as the lineage in {path}",
            repr(said[:60]),
            "Write the file with `weight_files.save_weights`.",
        )
    return lineage


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """Yield an open safetensors file."""
    errors.file_exists(path, "Run notebook 02 with this cohort first, or correct PRETRAIN.")
    try:
        with safe_open(path, framework="pt") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        errors.refuse(f"safetensors weights in {path}", str(error), "Write the file again.")
