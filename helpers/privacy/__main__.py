"""Epsilon of a run on the command line, to plan a budget before touching data:

python -m helpers.privacy --sample-rate 128/150188 --noise-multiplier 0.5496 --steps 109089
--delta 6e-6
"""

import argparse
import sys
from fractions import Fraction

import pandas as pd

from helpers.core import errors
from helpers.privacy import accounting, calibration, privacy_ledger


def main(arguments: list[str]) -> int:
    """Print the epsilon of a run by each accountant.

    Return 0, or 2 for what cannot be accounted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m helpers.privacy",
        description="Print the epsilon of a run.",
        usage=(
            "%(prog)s --sample-rate Q --steps N --delta D (--noise-multiplier S | --target-epsilon"
            " E) [--images-per-patient M]"
        ),
    )
    parser.add_argument(
        "--sample-rate",
        type=_fraction,
        required=True,
        help="expected batch / number of units, 128/150188",
    )
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps")
    parser.add_argument(
        "--delta", type=_fraction, required=True, help="far below 1 / number of units"
    )
    noise = parser.add_mutually_exclusive_group(required=True)
    noise.add_argument(
        "--noise-multiplier", type=_fraction, help="standard deviation of the noise / clipping norm"
    )
    noise.add_argument(
        "--target-epsilon", type=_fraction, help="calibrate the noise multiplier to this epsilon"
    )
    parser.add_argument(
        "--images-per-patient",
        type=int,
        help="add such a patient, in a run whose unit is the image",
    )
    options = parser.parse_args(arguments)
    sigma, n, run = (
        options.noise_multiplier,
        options.images_per_patient,
        (options.sample_rate, options.steps, options.delta),
    )
    try:
        if sigma is None:
            sigma = calibration.noise_multiplier_for(
                options.target_epsilon, options.delta, options.sample_rate, options.steps
            )
        rows = {
            name: accounting.epsilon_spent(sigma, *run, name) for name in accounting.ACCOUNTANTS
        }
        rows |= (
            {}
            if n is None
            else {f"PLD, patient with {n} images": accounting.epsilon_for_patient(sigma, *run, n)}
        )
    except errors.InputError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"noise multiplier {sigma:.6g}")
    print(
        pd.DataFrame(
            {
                "accountant": list(rows),
                "epsilon": map(privacy_ledger.number_in_words, rows.values()),
            }
        ).to_string(index=False)
    )
    return 0


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
