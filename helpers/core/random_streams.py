"""Named random streams: each use of randomness in a study has a generator of its own.

In: seed, name, step. Out: a numpy generator.
"""

import hashlib

import numpy as np


def random_stream(seed: int, name: str, step: int = 0) -> np.random.Generator:
    """Return the generator of a named stream at a step.

    Args:
        seed: of the study, >= 0.
        name: what the numbers are for, e.g. "noise".
        step: counter within the stream, >= 0.

    Guarantees: the same (seed, name, step) gives the same numbers on every machine, another name or
        step independent ones; so a resumed run needs no stored generator.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence([seed, key, step])))
