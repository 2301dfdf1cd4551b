"""What share of wrong labels in a group would explain its contrast.

In: AUROCs and prevalences of a group and of those it is compared with. Out: a share, or NaN where
no share does. It is no estimate of how many labels are wrong: it says how many would be enough.
"""

import numpy as np
import pandas as pd
from scipy import optimize

from helpers.analysis import group_contrasts
from helpers.analysis.metric_table import REST

COLUMNS = ["run", "attribute", "group", "estimate", "labels_of", "flipped_share"]


def flipped_share(clean: np.ndarray, seen: float, prevalence: np.ndarray) -> float:
    """Return which share of labels, flipped at random in either direction, lowers AUROCs to a mean.

    With labels that are wrong for a share a of the images called positive and b of those called
    negative, an AUROC of 0.5 + d is seen as 0.5 + d (1 - a - b) (Menon et al. 2015, ICML,
    corollary 3). Where a share f of all labels is flipped and p of the labels seen are positive,
    the true prevalence is (p - f) / (1 - 2 f), and a and b follow by Bayes' rule.

    Args:
        clean: (n_findings,) AUROCs without wrong labels.
        seen: mean AUROC with them.
        prevalence: (n_findings,) of the labels seen.

    Returns:
        A share in [0, 0.5), 0 where nothing is to be explained; NaN where no share below the rarest
        finding's prevalence is enough.
    """
    prevalence = np.asarray(prevalence, dtype=float)

    def mean(share: float) -> float:
        true = (prevalence - share) / (1 - 2 * share)
        wrong_positive = share * (1 - true) / prevalence
        wrong_negative = share * true / (1 - prevalence)
        return float(np.mean(0.5 + (clean - 0.5) * (1 - wrong_positive - wrong_negative)))

    if np.isnan(seen) or np.isnan(clean).any():
        return float("nan")
    most = min(prevalence.min(), (1 - prevalence).min()) - 1e-9
    if mean(0.0) <= seen:
        return 0.0
    if mean(most) > seen:
        return float("nan")
    return float(optimize.brentq(lambda share: mean(share) - seen, 0, most))


def of_contrasts(
    influences: pd.DataFrame, of_means: pd.DataFrame, prevalence: pd.Series
) -> pd.DataFrame:
    """Return of each contrast which share of wrong labels on the side that is served worse would
    explain all of it.

    Args:
        influences: pooled, from `influence_table.of_auroc`, of single findings.
        of_means: from `group_contrasts.averaged`.
        prevalence: share of positive labels by (attribute, group, finding), rests included, see
            `prevalences`.

    Returns:
        `COLUMNS`: run, attribute, group (what is compared), estimate (the contrast), labels_of
        (whose labels), flipped_share.
    """
    findings_of = of_means[of_means["metric"] == "auroc"].set_index("attribute")["findings"]
    aurocs, rows = influences[0].droplevel("metric"), []
    index = influences.index[influences.index.get_level_values("finding") == influences.index[0][2]]
    of_group, of_rest, names = group_contrasts.pairs(index)
    for group, rest, (run, _, _, attribute, name) in zip(index[of_group], index[of_rest], names):
        findings = list(findings_of.get(attribute, ()))
        sides = {
            side: aurocs.reindex(
                [(run, finding, attribute, side) for finding in findings]
            ).to_numpy()
            for side in (group[-1], rest[-1])
        }
        means = {side: values.mean() if len(values) else np.nan for side, values in sides.items()}
        worse, better = sorted(sides, key=lambda side: means[side])
        shares = [prevalence.get((attribute, worse, finding), np.nan) for finding in findings]
        share = flipped_share(sides[better], means[worse], np.array(shares)) if findings else np.nan
        whose = worse.removeprefix(REST) if not worse.startswith(REST) else "those compared with"
        rows.append([run, attribute, name, means[group[-1]] - means[rest[-1]], whose, share])
    return pd.DataFrame(rows, columns=COLUMNS)
