"""Trials of the ladder on the tuning cohort, and its runs on the frozen one.

In: the arms. Out: settings, those that say most first. Tuned arms take the best of their trials,
ours its rule. Raises `InputError` where an arm's trials are not finished.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import ladder_arms
import ladder_runs
from ladder_arms import (
    DELTA,
    EPSILONS,
    N_PATIENTS,
    NO_NOISE,
    SEEDS,
    Settings,
    ceiling,
    ours,
    paper,
)

from helpers.core import errors
from helpers.data.synthetic import chest_cohort

RESULTS = Path(__file__).resolve().parent / "results"
SAME = {
    "generator_version": chest_cohort.GENERATOR_VERSION,
    "n_patients": N_PATIENTS,
    "delta": DELTA,
}  # rows of other ones are run again
_EPSILONS = (1.06, 7.89, 0.29)  # in the order of trials
# passes of all weights at the largest budget, before the head, and patients in a step
LONGER = ((6, 512), (16, 1024), (16, 2048))


def trials() -> list[Settings]:
    """Return five trials for each tuned arm and budget, two from random weights, then one each of
    what was explored besides.

    Ours at image level takes the rule, and is tried once.
    """
    return [
        *(
            ceiling("ceiling", learning_rate=rate, epochs=epochs)
            for rate, epochs in ((8e-3, 6), (4e-3, 6), (1.6e-2, 6), (8e-3, 10), (8e-3, 20))
        ),
        *(trial for epsilon in _EPSILONS for trial in _of_rule(epsilon)),
        *(trial for epsilon in _EPSILONS for trial in _of_paper(epsilon)),
        *_from_random_weights(),
        *explored(),
        *(ours("ours, image", epsilon) for epsilon in EPSILONS),
    ]


def _of_rule(epsilon: float) -> list[Settings]:
    """Return the rule and four neighbours, each of which changes one setting."""
    rule = ours("ours, patient", epsilon)
    changes = [
        {},
        {"head_learning_rate": rule.head_learning_rate * 2},
        {"head_learning_rate": rule.head_learning_rate / 2},
    ]
    if rule.trained == "all_then_head":
        changes += [{"head_share": 0.3}, {"learning_rate": rule.learning_rate / 2}]
    else:
        changes += [{"head_steps": rule.head_steps * 2}, {"head_clip_norm": 0.2}]
    return [dataclasses.replace(rule, **change) for change in changes]


def _of_paper(epsilon: float) -> list[Settings]:
    """Return trials of the paper's recipe; published rate and epochs are among them."""
    rate = 5e-4 if epsilon < 1 else 1e-3
    return [
        paper("paper, our start", epsilon, learning_rate=rate * times, epochs=epochs)
        for times, epochs in ((1, 4), (0.5, 4), (2, 4), (1, 2), (1, 8))
    ]


def _from_random_weights() -> list[Settings]:
    """Return two trials a budget, and of ordinary training, without a public start."""
    private_trials = []
    for epsilon in _EPSILONS:
        rule = _random("ours, random weights", epsilon)
        private_trials += [
            dataclasses.replace(rule, learning_rate=rule.learning_rate * times) for times in (1, 2)
        ]
    return private_trials + [
        ceiling("ceiling, random weights", learning_rate=rate, epochs=epochs)
        for rate, epochs in ((8e-3, 10), (4e-3, 10))
    ]


def explored() -> list[Settings]:
    """Return what was tried besides, one trial each: all weights before the head; public models of
    fewer passes, and one that saw inverted films.
    """
    longer = [
        ours(
            f"explored: {epochs} passes, {batch:,} a step",
            7.89,
            TRAINED="all_then_head",
            EPOCHS=epochs,
            EXPECTED_BATCH_SIZE=batch,
        )
        for epochs, batch in LONGER
    ]
    starts = {
        "20 public passes": "20_passes",
        "20 public passes, a quarter of the films inverted": "20_passes_inverted",
        "40 public passes": "40_passes",
        "80 public passes, a quarter of the films inverted": ladder_arms.INVERTED_START,
    }
    return [
        Settings("zero-shot"),
        *(
            settings
            for name, start in starts.items()
            for settings in (
                Settings(f"zero-shot, explored: {name}", start=start),
                ours(f"explored: {name}", 1.06, start=start),
            )
        ),
        *longer,
    ]


def best_trial(arm: str, epsilon: float | None = None) -> dict:
    """Return learning rate and epochs of an arm's best trial at a budget.

    Raises:
        InputError: not all of them have been made.
    """
    path = RESULTS / "ladder_trials.json"
    errors.file_exists(path, "Run --tune first.")
    made = {
        ladder_runs.settings_of(row, Settings): row["auroc"]
        for row in ladder_runs.rows_of(path, SAME)
    }
    wanted = [
        settings for settings in trials() if (settings.arm, settings.epsilon) == (arm, epsilon)
    ]
    missing = [settings for settings in wanted if settings not in made]
    if missing:
        errors.refuse(
            f"{len(wanted)} trials of {arm!r} at epsilon {epsilon}",
            f"{len(wanted) - len(missing)}",
            "Run --tune to its end.",
        )
    best = max(wanted, key=made.get)
    return {"learning_rate": best.learning_rate, "epochs": best.epochs}


def ladder() -> list[Settings]:
    """Return all runs of the ladder, those that say most first: all arms of a seed, seed by seed;
    each piece of ours alone, and what splits the price, with one seed; other starts.

    Tuned arms are left out, and named in print, as long as their trials are not finished.
    """
    compared = [
        *(ours("ours, patient", epsilon) for epsilon in EPSILONS),
        *_tuned(ceiling, "ceiling"),
        *(line for epsilon in EPSILONS for line in _tuned(paper, "paper, our start", epsilon)),
        *(paper("paper, as published", epsilon) for epsilon in EPSILONS),
        *(ours("ours, image", epsilon) for epsilon in EPSILONS),
    ]
    without_noise = dataclasses.replace(
        ours("same recipe, clipped", EPSILONS[-1]), epsilon=NO_NOISE
    )
    pieces = [
        *(
            ours(arm, epsilon, TRAINED=trained)
            for arm, trained in ladder_arms.OTHER_PARTS.items()
            for epsilon in EPSILONS
        ),
        without_noise,
        dataclasses.replace(without_noise, arm="same recipe", clip_norm=1e6, head_clip_norm=1e6),
    ]
    from_inverted = [
        _inverted(line) for line in compared if line.arm in ("ours, patient", "paper, our start")
    ]
    from_random = [
        *(
            line
            for epsilon in EPSILONS
            for line in _tuned(_random, "ours, random weights", epsilon)
        ),
        *_tuned(ceiling, "ceiling, random weights"),
    ]
    return [
        Settings("zero-shot"),
        _inverted(Settings("zero-shot")),
        *(dataclasses.replace(line, seed=seed) for seed in SEEDS for line in compared),
        *pieces,
        *(
            dataclasses.replace(line, seed=seed)
            for seed in SEEDS
            for line in from_inverted + from_random
        ),
    ]


def _inverted(line: Settings) -> Settings:
    """Return an arm from the public model that saw inverted films."""
    return dataclasses.replace(
        line, arm=line.arm + ladder_arms.INVERTED, start=ladder_arms.INVERTED_START
    )


def _random(arm: str, epsilon: float, **tuned: object) -> Settings:
    """Return our recipe without a public start."""
    return dataclasses.replace(ours(arm, epsilon, start="none"), **tuned)


def _tuned(make: Callable[..., Settings], arm: str, *epsilon: float) -> list[Settings]:
    """Return an arm with its best trial; none, said in print, before its trials are finished."""
    try:
        return [make(arm, *epsilon, **best_trial(arm, *epsilon))]
    except errors.InputError as unfinished:
        print(f"Left out: {unfinished}")
        return []
