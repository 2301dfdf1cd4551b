"""A row of the table of planted effects, of either generator.

In: one effect. Out: a dict with the columns that `planted_truth` documents.
"""


def row(
    attribute: str,
    group: str,
    comparison: str,
    *,
    effect: str,
    factor: float,
    share: float,
    contrast: tuple[float, float],
    private_contrast: tuple[float, float],
) -> dict:
    """Return one planted effect.

    Args:
        attribute: column of the cohort's table.
        group: where the effect is.
        comparison: whom it is compared with.
        effect: "harder", "null" or "harder_when_private".
        factor: on what is drawn of a finding in the group.
        share: expected fraction of patients in the group.
        contrast: range expected of mean AUROC, group minus comparison, of a non-private model.
        private_contrast: the same of a private one.
    """
    return {
        "attribute": attribute,
        "group": group,
        "comparison": comparison,
        "effect": effect,
        "severity_factor": factor,
        "share": share,
        "findings": "all",
        "contrast_low": contrast[0],
        "contrast_high": contrast[1],
        "private_contrast_low": private_contrast[0],
        "private_contrast_high": private_contrast[1],
    }
