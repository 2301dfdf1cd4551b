"""The test images that several runs predicted, the same ones with the same labels.

In: predictions of several runs, the cohort's table. Out: the table's rows of these images. Raises
`InputError` where runs differ in images, findings or labels, or images have no row in the table.
"""

import pandas as pd

from helpers.core import errors


def of_test(predictions: dict[str, pd.DataFrame], table: pd.DataFrame) -> pd.DataFrame:
    """Return the table's rows of the test images that all runs predicted.

    Args:
        predictions: run -> table of `run_records.PREDICTION_COLUMNS`.
        table: the cohort's table.

    Raises:
        InputError: runs differ in images, findings or labels; an image has no row in the table.
    """
    predicted = known = None
    for run, rows in predictions.items():
        test = rows[rows["split"] == "test"]
        ids, labels = (
            set(test["image_id"]),
            test.set_index(["image_id", "finding"])["label"].dropna(),
        )
        if predicted is not None and ids != predicted:
            errors.refuse(
                "the same test images in every run",
                f"{len(ids ^ predicted)} that differ in {run}",
                "Predict the same images with every model; runs of a study: notebooks 02 and 03"
                " again on the present cohort.",
            )
        if known is not None and set(known.index.unique("finding")) != set(
            labels.index.unique("finding")
        ):
            errors.refuse(
                "the same findings in every run"
                f" ({', '.join(sorted(known.index.unique('finding')))})",
                f"{', '.join(sorted(labels.index.unique('finding')))} in {run}",
                "Leave out what not all runs predict.",
            )
        if (
            known is not None
            and (differ := known.ne(labels.reindex(known.index))).any()
            or known is not None
            and len(labels) != len(known)
        ):
            example = errors.examples(
                [*known.index[differ], *labels.index.difference(known.index)], 1
            )
            errors.refuse(
                "the same labels in every run",
                f"others, or rows left out, in {run} or the run before it, e.g. of {example}",
                "Labels are the truth, not the model's: use one table of them.",
            )
        predicted, known = ids, labels
    strangers = predicted - set(table["image_id"])
    if strangers or not predicted:
        errors.refuse(
            "test images that have a row in the cohort's table",
            f"{errors.examples(sorted(strangers))} without one" if strangers else "no test image",
            "Pass the table that belongs to these predictions.",
        )
    return table[table["image_id"].isin(predicted)].set_index("image_id", drop=False)
