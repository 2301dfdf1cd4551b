"""A privacy ledger in words and as a table.

In: a ledger, see `privacy_ledger.ledger`. Out: three sentences for a clinician, a table for a
reviewer.
"""

import math

import pandas as pd

from helpers.privacy import privacy_ledger

WITHOUT_NOISE = (
    "There is no privacy guarantee for this model: it was trained without noise, and nothing bounds"
    " what can be learnt from it about those it was trained on. Do not pass on a model trained like"
    " this on real patients."
)


def privacy_statement(entries: dict | None) -> str:
    """Return a ledger's promise in three sentences for a clinician.

    A weak one is called weak, none is called none; None, of a run without noise, has none.
    """
    if entries is None:
        return WITHOUT_NOISE
    unit, bounds, several = (
        entries["unit"],
        entries["attack_bounds"],
        entries.get("epsilon_of_patient", {}),
    )
    share = bounds["true_positive_rate"]
    attack = (
        "an attacker who sees the model and falsely accuses"
        f" {100 * bounds['false_positive_rate']:g} % of the {unit}s it was not trained on finds at"
        f" most {_percent(share)} of those it was trained on, and is then at most"
        f" {_percent(bounds['posterior'])} sure of an accused {unit}, having started at 50 %"
    )
    if not privacy_ledger.is_valid(entries):
        why = (
            "its class weights were computed from private labels"
            if "pos_weight" in entries["guarantee"]
            else (
                f"its delta would allow publishing one {unit} whole"
                if "delta" in entries["guarantee"]
                else (
                    "it had no noise"
                    if "no noise" in entries["guarantee"]
                    else "like every demo's, its noise can be recomputed"
                )
            )
        )
        return (
            f"There is no privacy guarantee for this model: {why}. By the arithmetic alone, which"
            f" promises nothing here, {attack}. Do not pass on a model trained like this on real"
            f" {unit}s."
        )
    words = (
        "a strong promise"
        if share <= 0.03
        else (
            "a moderate promise"
            if share <= 0.1
            else (
                f"a weak promise: some {unit}s can be picked out with confidence"
                if share <= 0.9
                else "hardly a promise"
            )
        )
    )
    more = ", ".join(
        f"{privacy_ledger.number_in_words(epsilon)} for {n} images"
        for n, epsilon in several.items()
    )
    whom = (
        f"each image by itself, while a patient with several is protected less (epsilon {more})"
        + (
            "; nobody knows who has several, as the data do not say whose an image is"
            if privacy_ledger.SEVERAL_IMAGES in entries.get("not_covered", {})
            else ""
        )
        if several
        else f"all images of a patient together, up to {entries['max_images_per_unit']} in a step"
    )
    condition = (
        ""
        if entries["guarantee"] == "valid"
        else (
            ", holds only if the weights it started from never saw these patients"
            f" ({entries['start']})"
        )
    )
    return (
        f"Whatever the method, {attack}. This is {words} (epsilon"
        f" {privacy_ledger.number_in_words(entries['epsilon_spent']['PLD'])} at delta"
        f" {entries['delta']:g}, per {unit}{_of_parts(entries)}), and it protects"
        f" {whom}{condition}. It does not cover the patients of validation and test, the choice of"
        " parameters, or other models trained on the same patients."
    )


def _of_parts(entries: dict) -> str:
    """Return in words that epsilon is of both parts, "" for a run of one."""
    if "parts" not in entries:
        return ""
    first, head = (part["steps_done"] for part in entries["parts"])
    return f", for {first} steps of all weights and {head} of the head together"


def _percent(share: float) -> str:
    """Return a bound as a percentage, rounded up."""
    return f"{math.ceil(1000 * share - 1e-9) / 10:g} %"


def _alone(part: dict) -> str:
    """Return in words what a part would spend by itself."""
    return (
        privacy_ledger.number_in_words(part["epsilon_alone"])
        + " (PLD, as if it were the only part)"
    )


def ledger_table(entries: dict) -> pd.DataFrame:
    """Return a ledger, as `ledger` or a run's record has it, as a reviewer's table.

    Columns entry and value, both text. Of a run of two parts, what differs between them has a row
    for each, "all weights: noise multiplier" and "head: noise multiplier".
    """
    parts = entries.get("parts", [])
    of_parts = {name for part in parts for name in part} - {"steps_planned", "steps_done"}
    rows = {
        name.replace("_", " "): value
        for name, value in entries.items()
        if not isinstance(value, dict) and name != "parts" and name not in of_parts
    }
    rows |= {
        f"{part['trained']}: {name.replace('_', ' ')}": value
        for part in parts
        for name, value in (part | {"epsilon_alone": _alone(part)}).items()
        if name != "trained"
    }
    rows |= {
        f"epsilon spent, {name}": privacy_ledger.number_in_words(value)
        for name, value in entries["epsilon_spent"].items()
    }
    rows |= {
        f"epsilon of a patient with {n} images": privacy_ledger.number_in_words(e)
        for n, e in entries.get("epsilon_of_patient", {}).items()
    }
    rows |= {
        f"any attack, at most: {name.replace('_', ' ')}": _percent(e)
        for name, e in entries["attack_bounds"].items()
    }
    rows |= {f"not covered: {name}": text for name, text in entries["not_covered"].items()}
    values = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in rows.values()]
    return pd.DataFrame({"entry": list(rows), "value": values})
