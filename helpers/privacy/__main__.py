"""Epsilon of a run on the command line, to plan a budget before touching data:

python -m helpers.privacy --sample-rate 128/150188 --noise-multiplier 0.5496 --steps 109089
--delta 6e-6

Steps of the head after those of all weights, under the same budget, and full batches alone:

python -m helpers.privacy --sample-rate 2048/35000 --steps 136 --delta 1e-6 --target-epsilon 7.89
--head-steps 20 --head-share 0.3
python -m helpers.privacy --sample-rate 1 --steps 20 --delta 1e-6 --target-epsilon 1.06
"""

import argparse
import sys
from fractions import Fraction

import pandas as pd

from helpers.core import errors
from helpers.privacy import accounting, calibration, privacy_ledger, run_parts

_OPTIONS = {
    "--sample-rate": "expected batch / number of units, 128/150188; 1 for full batches",
    "--steps": "optimizer steps; of a run of two parts, those of all weights",
    "--delta": "far below 1 / number of units",
    "--noise-multiplier": "standard deviation of the noise / clipping norm",
    "--target-epsilon": "calibrate the noise to this epsilon, of both parts together",
    "--images-per-patient": "add such a patient, in a run whose unit is the image",
    "--head-steps": "a second part: so many full-batch steps of the head",
    "--head-noise-multiplier": "of these steps",
    "--head-share": "calibrate the head's noise to this share of the target, as if alone",
}
_USAGE = (
    "%(prog)s --sample-rate Q --steps N --delta D (--noise-multiplier S | --target-epsilon E)"
    " [--head-steps N (--head-noise-multiplier S | --head-share F)] [--images-per-patient M]"
)


def main(arguments: list[str]) -> int:
    """Print the epsilon of a run by each accountant.

    Return 0, or 2 for what cannot be accounted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m helpers.privacy", description="Print the epsilon of a run.", usage=_USAGE
    )
    noise = parser.add_mutually_exclusive_group(required=True)
    for name, what in _OPTIONS.items():
        group = noise if name in ("--noise-multiplier", "--target-epsilon") else parser
        is_count = name in ("--steps", "--head-steps", "--images-per-patient")
        required = {"required": True} if name in ("--sample-rate", "--steps", "--delta") else {}
        group.add_argument(name, type=int if is_count else _fraction, help=what, **required)
    options = parser.parse_args(arguments)
    of_head = "noise_multiplier" if options.target_epsilon is None else "share"
    given = [name for name in ("noise_multiplier", "share") if vars(options)[f"head_{name}"]]
    if given != ([of_head] if options.head_steps else []):
        parser.error(
            "--head-steps goes with --head-share (and --target-epsilon) or with"
            " --head-noise-multiplier (and --noise-multiplier)"
        )
    try:
        runs = _runs(options)
        rows = {
            name: accounting.epsilon_of_all(runs, options.delta, name)
            for name in accounting.ACCOUNTANTS
        }
        if (n := options.images_per_patient) is not None:
            rows[f"PLD, patient with {n} images"] = accounting.epsilon_of_all(
                [run._replace(n_images=n) for run in runs], options.delta
            )
    except errors.InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    for run, trained in zip(runs, run_parts.TRAINED if len(runs) > 1 else ("",)):
        print(f"noise multiplier {run.noise_multiplier:.6g}" + (trained and f", {trained}"))
    words = map(privacy_ledger.number_in_words, rows.values())
    print(pd.DataFrame({"accountant": list(rows), "epsilon": words}).to_string(index=False))
    return 0


def _runs(options: argparse.Namespace) -> tuple[accounting.Run, ...]:
    """Return the parts as runs, with the noise that was given or that keeps the target."""
    sigma, sigma_of_head = options.noise_multiplier, options.head_noise_multiplier
    budget = options.target_epsilon, options.delta, options.sample_rate, options.steps
    if sigma is None and options.head_steps:
        sigma, sigma_of_head = calibration.noise_multipliers_for(
            *budget, options.head_steps, options.head_share
        )
    elif sigma is None:
        sigma = calibration.noise_multiplier_for(*budget)
    first = accounting.Run(sigma, options.sample_rate, options.steps)
    if not options.head_steps:
        return (first,)
    return first, accounting.Run(sigma_of_head, 1.0, options.head_steps)


def _fraction(text: str) -> float:
    """Return a number written as one, or as a fraction."""
    try:
        return float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"expected a number or a fraction such as 128/150188; got {text!r}"
        ) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
