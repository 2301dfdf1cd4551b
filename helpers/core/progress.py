"""A plain progress bar.

In: how many pieces there are, and a label. Out: a bar to update.
"""

import sys

from tqdm import tqdm


def progress(total: int, label: str) -> tqdm:
    """Return a plain progress bar on standard output, refreshed at most every 2 s."""
    return tqdm(total=total, desc=label, file=sys.stdout, mininterval=2, ascii=" =", ncols=76)
