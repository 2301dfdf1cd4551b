"""The loss of an image: binary cross-entropy, averaged over its known findings.

In: logits and labels. Out: one loss an image. Unknown labels count nothing.
"""

import torch
from torch.nn import functional


def image_losses(
    logits: torch.Tensor, labels: torch.Tensor, pos_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return one loss per image: the binary cross-entropy, averaged over the image's known
    findings.

    Args:
        logits: (batch, n_findings) float.
        labels: (batch, n_findings) float, 1, 0, or NaN where unknown.
        pos_weight: (n_findings,) factor on the loss of positive labels; None for 1.

    Returns:
        (batch,) float32 or better; 0 for an image of which no finding is known.
    """
    known, logits = ~labels.isnan(), logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = functional.binary_cross_entropy_with_logits(
        logits, labels.nan_to_num(0.0).to(logits.dtype), reduction="none", pos_weight=pos_weight
    )
    return (losses * known).sum(1) / known.sum(1).clamp(min=1)


def pos_weight(labels: torch.Tensor) -> torch.Tensor:
    """Return (n_findings,) negatives / positives of (n, n_findings) labels; 1 for a finding without
    both.

    From private labels this is outside any guarantee: the paper's recipe has it so, and the ledger
    says so.
    """
    positives, negatives = (labels == 1).sum(0), (labels == 0).sum(0)
    return torch.where((positives > 0) & (negatives > 0), negatives / positives.clamp(min=1), 1.0)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network computes.

    PRECISION "float32", or "bfloat16" where torch has it so.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
