"""Transfer of public weights to a network of other findings, heads or dimensions.

In: weights of a public model and the canonical names of its outputs. Out: a network that starts
from them. Raises `InputError` for weights that do not fit.
"""

import math
from collections.abc import Collection

import torch

from helpers.core import errors
from helpers.training import head_reading, networks

_NO_SIDE = math.log(math.sqrt(2) - 1)  # logit of either half, so that "right or left" is even


def start_from(
    model: head_reading.Network,
    weights: dict[str, torch.Tensor],
    known: list[str],
    canonical: list[str],
) -> list[str]:
    """Give a model public weights; each finding's output starts from the public one of the same
    canonical name.

    Where films are halved, right and left share the public output of the finding: the public model
    has learnt sides by itself. In a "sided" head, an output that the public data know without a
    side starts from the public evidence on its side of the film: the mean over that half instead of
    the whole. The patient's right is the viewer's left, cells 0 and 2 of the four (0, 2, 4 and 6 of
    a volume's eight). An output without a side that the public data know by side starts from the
    mean of both. A finding that the public data do not know starts at zero: logit 0, score 0.5.

    Args:
        model: changed in place; one finding for each entry of `canonical`.
        weights: state of a network of the same name, width and channels; of the same head, or of
            one that reads the last feature map only. For volumes also one of images; of
            torchvision's networks also torchvision's own.
        known: the canonical names of the outputs in `weights`, with ":right" or ":left" where they
            have a side.
        canonical: the same for each finding, in the order of the model's outputs.

    Returns:
        The canonical names that start at zero.

    Raises:
        InputError: the weights do not fit the network.
    """
    head = {
        f"head.{part}": torch.zeros_like(value) for part, value in model.head.state_dict().items()
    }
    missing = []
    try:
        weights = model.fitted(weights)
        public = weights["head.weight"].to(head["head.weight"].device)
        constants = {name: value.detach() for name, value in model.named_parameters(recurse=False)}
        is_same_head = bool(constants) and _shapes(constants) == _shapes(weights, constants)
        bias = weights["head.bias"]
        if "scale" in weights and not is_same_head:
            public, bias = _last_map_of_levels(weights, model.n_channels)
        if len(public) < len(known):  # of halved films: an output for both sides
            known = list(dict.fromkeys(name.partition(":")[0] for name in known))
        for output, name in enumerate(
            model.reading.bases if model.reading.rows_per_image > 1 else canonical
        ):
            rows = alike(name, known)
            if not rows:
                missing.append(name)
                if ("either", output) in zip(model.reading.sides, model.reading.column):
                    head["head.bias"][output] = _NO_SIDE
                continue
            head["head.bias"][output] = bias[rows].mean()
            head["head.weight"][output] = (
                public[rows].mean(0)
                if is_same_head
                else _of_last_map(model, public[rows].mean(0), name, known[rows[0]])
            )
        trunk = {name: value for name, value in weights.items() if name not in ("centre", "scale")}
        if is_same_head:
            constants = {name: weights[name] for name in constants}
        model.load_state_dict(networks.in_planes(trunk, model) | constants | head)
    except (RuntimeError, KeyError, IndexError):
        errors.refuse(
            "public weights that fit this network",
            "other names or shapes",
            "Use the NETWORK, WIDTH, CHANNELS and HEAD with which they were trained.",
        )
    return sorted(set(missing))


def _shapes(weights: dict, names: Collection[str] = ()) -> list:
    """Return the shapes of the constants of a head among weights; None where one is absent."""
    return [getattr(weights.get(name), "shape", None) for name in names or weights]


def _last_map_of_levels(
    weights: dict[str, torch.Tensor], n_channels: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weights and bias of outputs over cells of the last map alone, of a head of levels;
    what the other levels say is taken at its public mean.

    Raises:
        KeyError: weights of halves of films, which are not those of whole images.
    """
    if weights["scale"].ndim == 1:
        raise KeyError("halves")
    dimensions = weights["stem.0.weight"].ndim - 2 if "stem.0.weight" in weights else 3
    n_last = n_channels * math.prod(head_reading.of("levels", [], dimensions).cells[-1])
    scaled = (weights["head.weight"] * weights["scale"])[:, -n_last:]
    return scaled, weights["head.bias"] - scaled @ weights["centre"].flatten()[-n_last:]


def alike(name: str, known: list[str]) -> list[int]:
    """Return the places in `known` of a canonical name.

    Itself, else without its side, else with either side.
    """
    base = name.partition(":")[0]
    for wanted in ({name}, {base}, {f"{name}:right", f"{name}:left"}):
        if columns := [column for column, known_name in enumerate(known) if known_name in wanted][
            : len(wanted)
        ]:
            return columns
    return []


def _of_last_map(
    model: head_reading.Network, evidence: torch.Tensor, name: str, known_as: str
) -> torch.Tensor:
    """Return (n_features,) weights of an output from public ones over cells of the last map.

    Features of other levels start at zero.
    """
    gains_side = ":" in name and known_as != name
    last = _spread(
        evidence.unflatten(0, (model.n_channels, -1)),
        math.prod(model.reading.cells[-1]),
        name if gains_side else "",
    ).flatten()
    return torch.cat([last.new_zeros(model.head.in_features - len(last)), last])


def _spread(evidence: torch.Tensor, n_cells: int, side_of: str) -> torch.Tensor:
    """Return (features, cells) weights of an output from (features, public cells) ones.

    Args:
        evidence: the public output's weights.
        n_cells: of the new head; 4 or (volumes) 8 where it is sided.
        side_of: name of an output with a side that the public one does not have; "" for none.
    """
    if evidence.shape[1] == n_cells and not side_of:
        return evidence
    share = torch.full((n_cells,), 1 / n_cells, device=evidence.device)
    if n_cells > 2 and side_of:  # cells go from the patient's right to the left fastest
        share = (
            torch.tensor(
                [1.0, 0] if side_of.endswith(":right") else [0, 1.0], device=evidence.device
            ).repeat(n_cells // 2)
            * 2
            / n_cells
        )
    return evidence.sum(1, keepdim=True) * share
