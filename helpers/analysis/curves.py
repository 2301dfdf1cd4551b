"""ROC, calibration and decision curves by group of patients.

In: predictions of several runs, the cohort's table. Out: tables of points for `curve_figures`. A
group without enough patients has no curve.
"""

from collections.abc import Collection

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from helpers.analysis import bootstrap, metrics
from helpers.core import random_streams
from helpers.data import groups

FALSE_ALARMS = np.linspace(0, 1, 51)  # at which curves of several findings are averaged
N_BINS = 8  # of scores, equally filled
CHANCES = np.linspace(0.02, 0.5, 25).round(2)  # of a finding, from which on it is acted upon


def roc(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attribute: str,
    findings: Collection[str],
    min_patients: int = 10,
) -> pd.DataFrame:
    """Return ROC curves by group, averaged over findings at equal false-alarm rates.

    No interval: AUROC, the area under each, has one in the table of metrics. A group for which one
    of the findings is not estimable has no curve.

    Args:
        predictions: run -> table of `run_records.PREDICTION_COLUMNS`.
        table: the cohort's table.
        attribute: see `groups.add_groups`.
        findings: that curves are means over, see `group_contrasts.averaged`.
        min_patients: see `metrics.is_estimable`.

    Returns:
        run, group, false_alarm_rate, sensitivity (mean over findings), n_findings.
    """
    rows = []
    for (run, group), part in _by_group(predictions, table, attribute):
        of_findings = _estimable(part, findings, min_patients)
        curves = [
            np.interp(FALSE_ALARMS, *roc_curve(one["label"], one["score"])[:2])
            for one in of_findings
        ]
        if curves:
            rows.append(
                pd.DataFrame(
                    {
                        "run": run,
                        "group": group,
                        "false_alarm_rate": FALSE_ALARMS,
                        "sensitivity": np.mean(curves, axis=0),
                        "n_findings": len(curves),
                    }
                )
            )
    return (
        pd.concat(rows, ignore_index=True)
        if rows
        else pd.DataFrame(columns=["run", "group", "false_alarm_rate", "sensitivity", "n_findings"])
    )


def calibration(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attribute: str,
    min_patients: int = 10,
    n_bootstrap: int = 300,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often a finding is present among scores of equal size, by group, all findings
    together.

    Args:
        predictions, table, attribute: as in `roc`.
        min_patients: fewest patients of a group, and of a bin that has a point.
        n_bootstrap: resamples of patients for the interval.
        seed: of the stream "calibration".

    Returns:
        run, group, mean_score, share (of positive labels), low, high (95 %, over patients), n
        (image-finding pairs).
    """
    rows = []
    for (run, group), part in _by_group(predictions, table, attribute):
        if part["patient_id"].nunique() < min_patients:
            continue
        edges = np.unique(np.quantile(part["score"], np.linspace(0, 1, N_BINS + 1)))
        bin_of_score = np.clip(
            np.searchsorted(edges, part["score"], side="right") - 1, 0, max(0, len(edges) - 2)
        )
        draws = bootstrap.Draws.of(
            part["patient_id"].to_numpy(),
            n_bootstrap,
            random_streams.random_stream(seed, "calibration"),
        )
        n_patients = part.groupby(bin_of_score)["patient_id"].nunique()
        kept = n_patients.index[n_patients >= min_patients]
        if kept.empty:
            continue
        in_bin = np.array([bin_of_score == number for number in kept], dtype=float)
        n = draws.sums(in_bin)
        shares = np.divide(
            draws.sums(in_bin * part["label"].to_numpy()),
            n,
            out=np.full(n.shape, np.nan),
            where=n > 0,
        )
        low, high = np.nanpercentile(shares[:, 1:], [2.5, 97.5], axis=1)
        rows.append(
            pd.DataFrame(
                {
                    "run": run,
                    "group": group,
                    "mean_score": in_bin @ part["score"].to_numpy() / n[:, 0],
                    "share": shares[:, 0],
                    "low": low,
                    "high": high,
                    "n": n[:, 0].astype(int),
                }
            )
        )
    return (
        pd.concat(rows, ignore_index=True)
        if rows
        else pd.DataFrame(columns=["run", "group", "mean_score", "share", "low", "high", "n"])
    )


def net_benefit(
    predictions: dict[str, pd.DataFrame],
    table: pd.DataFrame,
    attribute: str,
    findings: Collection[str],
    min_patients: int = 10,
) -> pd.DataFrame:
    """Return decision curves by group, means over findings: what acting on scores is worth.

    Net benefit is the share of images rightly called minus that wrongly called, a wrong call
    counting p / (1 - p) where one acts from a chance p on: who acts at 10 % accepts nine false
    calls for a right one (Vickers and Elkin 2006, Med Decis Making 26:565-574). It is of use above
    both calling everybody and calling nobody (0). Scores count as chances, so that it also falls
    where they are not calibrated. No interval.

    Args:
        predictions, table, attribute, findings, min_patients: as in `roc`.

    Returns:
        run, group, chance, net_benefit, everybody (called), n_findings.
    """
    rows = []
    odds = CHANCES / (1 - CHANCES)
    for (run, group), part in _by_group(predictions, table, attribute):
        benefits, everybody = [], []
        for one in _estimable(part, findings, min_patients):
            labels, scores = one["label"].to_numpy(), one["score"].to_numpy()
            called = scores[:, None] >= CHANCES
            right, wrong = called[labels == 1].sum(axis=0), called[labels == 0].sum(axis=0)
            benefits.append((right - odds * wrong) / len(labels))
            everybody.append(labels.mean() - odds * (1 - labels.mean()))
        if benefits:
            rows.append(
                pd.DataFrame(
                    {
                        "run": run,
                        "group": group,
                        "chance": CHANCES,
                        "net_benefit": np.mean(benefits, axis=0),
                        "everybody": np.mean(everybody, axis=0),
                        "n_findings": len(benefits),
                    }
                )
            )
    columns = ["run", "group", "chance", "net_benefit", "everybody", "n_findings"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def _estimable(
    rows: pd.DataFrame, findings: Collection[str], min_patients: int
) -> list[pd.DataFrame]:
    """Return the rows of each finding, none where one of them is not estimable."""
    parts = [rows[rows["finding"] == finding] for finding in findings]
    is_whole = all(
        metrics.is_estimable(part["label"].to_numpy(), part["patient_id"].to_numpy(), min_patients)
        for part in parts
    )
    return parts if is_whole else []


def _by_group(
    predictions: dict[str, pd.DataFrame], table: pd.DataFrame, attribute: str
) -> list[tuple]:
    """Return ((run, group), test predictions with known labels), unknown groups left out."""
    grouped = groups.add_groups(table, [attribute]).set_index("image_id")[f"group_{attribute}"]
    parts = []
    for run, predicted in predictions.items():
        test = predicted[(predicted["split"] == "test") & predicted["label"].notna()]
        for group, part in test.groupby(test["image_id"].map(grouped)):
            if not groups.is_unknown([group])[0]:
                parts.append(((run, group), part))
    return parts
