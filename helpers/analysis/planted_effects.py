"""What the generator of a drawn cohort planted, beside the contrasts that were estimated.

In: the cohort's record, summarised contrasts. Out: a row an effect and arm; none for other cohorts.
"""

import pandas as pd


def planted_beside_estimates(cohort_record: dict, contrasts: pd.DataFrame) -> pd.DataFrame:
    """Return what the generator planted beside the estimated contrasts.

    Empty for a cohort that it did not draw.

    Args:
        cohort_record: of the cohort.
        contrasts: summarised AUROC contrasts, mean over findings.
    """
    if not cohort_record.get("planted_truth"):
        return pd.DataFrame(
            columns=[
                "attribute",
                "group",
                "effect",
                "range",
                "arm_label",
                "estimate",
                "low",
                "high",
            ]
        )
    parts = []
    for effect in pd.DataFrame(cohort_record["planted_truth"]).itertuples():
        is_age = effect.attribute == "age_years"
        attribute = "age" if is_age else effect.attribute
        group = ">= 80 - rest" if is_age else f"{effect.group} - {effect.comparison}"
        rows = contrasts[
            (contrasts["attribute"] == attribute)
            & (contrasts["group"] == group)
            & (contrasts["recipe"] == "default")
        ]
        near_one = rows["epsilon"].between(0.5, 2) & (rows["unit"] == "patient")
        expected = dict.fromkeys(
            rows.loc[near_one, "arm_label"],
            f"{effect.private_contrast_low:+.2f} to {effect.private_contrast_high:+.2f}",
        ) | {"no privacy": f"{effect.contrast_low:+.2f} to {effect.contrast_high:+.2f}"}
        parts.append(
            rows[["attribute", "group", "arm_label", "low", "high"]].assign(
                effect=effect.effect.replace("_", " "),
                estimate=rows["estimate"],
                range=rows["arm_label"].map(expected).fillna(""),
            )
        )
    return pd.concat(parts)[
        ["attribute", "group", "effect", "range", "arm_label", "estimate", "low", "high"]
    ]
