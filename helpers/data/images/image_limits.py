"""What no decoder accepts: the sizes that an image may have, and the exception that names a reason.

In: nothing. Out: constants and `UnusableImage`. Raises nothing itself.
"""

MAX_PIXELS = 64_000_000  # a radiograph has at most about 25 million; more is a decompression bomb
MAX_BYTES = 256 * 2**20


class UnusableImage(Exception):
    """An image that cannot enter a cohort; the text is the reason."""
