"""A random order of n things without a table: a keyed Feistel network, so that place k is computed."""

from functools import lru_cache

from .draws import Stream, words

ROUNDS = 6
"""Four of random functions make a pseudo-random permutation (Luby and Rackoff 1988); ours mix less than those."""
WORD = (1 << 64) - 1


class Permutation:
    """Reorder 0 .. n-1: every number comes once, and the same key gives the same order.

    The network permutes a square of at least n cells; numbers that land outside 0 .. n-1 are sent through again, which
    takes less than four turns on average.

    Args:
        size: n, at least 1.
        keys: one 64-bit number a round.
    """

    def __init__(self, size: int, keys: tuple[int, ...]) -> None:
        self._size = size
        self._keys = keys
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._low = (1 << self._half) - 1

    def __call__(self, place: int) -> int:
        """Return which number stands at a place in 0 .. n-1."""
        number = self._turn(place)
        while number >= self._size:
            number = self._turn(number)
        return number

    def _turn(self, number: int) -> int:
        half, low = self._half, self._low
        left, right = number >> half, number & low
        for key in self._keys:
            # The finalizer of MurmurHash3, one multiplication short.
            mixed = (right ^ key) * 0xFF51AFD7ED558CCD & WORD
            mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & WORD
            left, right = right, left ^ (mixed >> 33 & low)
        return left << half | right


@lru_cache(maxsize=64)
def epoch_order(seed: int, part: int, epoch: int, size: int) -> Permutation:
    """Return the order of the clips of one dataset in one epoch; `part` is the dataset's place in a mixture."""
    row = words(seed, Stream.ORDER, first=epoch << 16 | part, count=1)[0]
    return Permutation(size, tuple(row[:ROUNDS].tolist()))
