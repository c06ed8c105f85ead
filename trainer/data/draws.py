"""Random numbers of sample k: a counter-based generator keyed by (seed, k), so that nothing has to be remembered."""

from enum import IntEnum
from functools import lru_cache

import numpy as np

from ...manifests.errors import ConfigError

WORDS_PER_SAMPLE = 16
"""64-bit words that one sample may use; HighSync takes six."""
COUNTER_WORDS = 4
"""Words that Philox4x64 makes of one value of its counter."""
BLOCK_SAMPLES = 256
"""Samples whose words are made at once: starting a generator takes 15 us, as long as the words of 100 samples."""


class Stream(IntEnum):
    """What numbers are for; another stream is another half of the generator's key and shares nothing."""

    SAMPLE = 1
    ORDER = 2


def check_seed(seed: int) -> None:
    """Raise `ConfigError` unless the seed fits into half of the generator's key."""
    if not 0 <= seed < 1 << 64:
        raise ConfigError(f"seed: {seed} is not in 0 .. 2^64 - 1; give another")


def words(seed: int, stream: Stream, *, first: int, count: int) -> np.ndarray:
    """Return the words of samples `first .. first + count - 1` as [count, 16] uint64.

    Row k depends on (seed, stream, k) alone: it is Philox4x64-10 (Salmon et al. 2011) on four counters.
    """
    counter = first * (WORDS_PER_SAMPLE // COUNTER_WORDS)
    generator = np.random.Philox(key=seed | int(stream) << 64, counter=counter)
    return generator.random_raw(count * WORDS_PER_SAMPLE).reshape(count, WORDS_PER_SAMPLE)


@lru_cache(maxsize=16)
def _block(seed: int, number: int) -> list[list[int]]:
    return words(seed, Stream.SAMPLE, first=number * BLOCK_SAMPLES, count=BLOCK_SAMPLES).tolist()


class Draw:
    """The random numbers of sample k, taken in order; an `IndexError` after the sixteenth is a bug of ours.

    Args:
        seed: of the run.
        sample: k.
    """

    def __init__(self, seed: int, sample: int) -> None:
        number, place = divmod(sample, BLOCK_SAMPLES)
        self._row = _block(seed, number)[place]
        self._taken = -1

    def word(self) -> int:
        """Return the next whole word."""
        self._taken += 1
        return self._row[self._taken]

    def below(self, limit: int) -> int:
        """Return a whole number in 0 .. limit - 1; uneven by less than limit / 2^64."""
        return self.word() * limit >> 64

    def chance(self, share: float) -> bool:
        """Return True in this share of all samples."""
        return self.word() < share * 2.0**64
