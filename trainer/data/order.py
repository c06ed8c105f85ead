"""The random choices behind sample k, each computed and none remembered: its numbers, its dataset, its clip."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from functools import lru_cache

import numpy as np

from ...manifests.errors import ConfigError

WORDS_PER_SAMPLE = 16
"""64-bit words that one sample may use; a recipe takes about six."""
COUNTER_WORDS = 4
"""Words that Philox4x64 makes of one value of its counter."""
BLOCK_SAMPLES = 256
"""Samples whose words are made at once: starting a generator takes 15 us, as long as the words of 100 samples."""


class Stream(IntEnum):
    """Uses of random numbers; another stream is another half of the generator's key and shares nothing."""

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
    # Counter-based: the words of sample k need none of those before it.
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
        number, index = divmod(sample, BLOCK_SAMPLES)
        self._row = _block(seed, number)[index]
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


ROUNDS = 6
"""Four of random functions make a pseudo-random permutation (Luby and Rackoff 1988); ours mix less than those."""
WORD = (1 << 64) - 1


class Permutation:
    """Reorder 0 .. n-1: every number comes once, and the same key gives the same order.

    It is a Feistel network: an order of a million clips is neither drawn nor kept, and a resumed run, or another rank,
    asks for any sample without those before it. The network permutes a square of at least n cells; numbers that land
    outside 0 .. n-1 are sent through again, which takes less than four turns on average.

    Args:
        size: n, at least 1.
        keys: one 64-bit number a round.
    """

    def __init__(self, size: int, keys: tuple[int, ...]) -> None:
        self._size = size
        self._keys = keys
        # Half the bits of the smallest power of two that holds n and is a square: both halves are equally wide.
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        self._low = (1 << self._half) - 1

    def __call__(self, index: int) -> int:
        """Return which number stands at an index in 0 .. n-1."""
        number = self._turn(index)
        # Walking the cycle until it is back inside keeps the order a permutation; a remainder would not.
        while number >= self._size:
            number = self._turn(number)
        return number

    def _turn(self, number: int) -> int:
        half, low = self._half, self._low
        left, right = number >> half, number & low
        # A round can be undone whatever it mixes, since `right` goes through unchanged: so no two numbers meet.
        for key in self._keys:
            # The finalizer of MurmurHash3, one multiplication short.
            mixed = (right ^ key) * 0xFF51AFD7ED558CCD & WORD
            mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & WORD
            left, right = right, left ^ (mixed >> 33 & low)
        return left << half | right


@lru_cache(maxsize=64)
def epoch_order(seed: int, part: int, epoch: int, size: int) -> Permutation:
    """Return the order of the clips of one dataset in one epoch; `part` is the dataset's index in a mixture."""
    row = words(seed, Stream.ORDER, first=epoch << 16 | part, count=1)[0]
    return Permutation(size, tuple(row[:ROUNDS].tolist()))


MAX_PERIOD = 100_000
"""Weights with up to four decimals stay below it."""


@dataclass(frozen=True, kw_only=True)
class WeightedDataset:
    """One dataset of a mixture as the user named it."""

    location: str
    """A folder or a URI."""
    weight: Fraction
    """Its part of all samples, relative to the others' weights."""


def parse_datasets(texts: Sequence[str]) -> list[WeightedDataset]:
    """Read `["A=0.7", "B=0.3"]`, or `["A"]` alone.

    Raises:
        ConfigError: none, one twice, or several of which one has no weight that is a positive number.
    """
    if not texts:
        raise ConfigError("data.datasets: no dataset; name the folder of a finished build")
    datasets = [_parse(text, is_only=len(texts) == 1) for text in texts]
    if len({dataset.location for dataset in datasets}) < len(datasets):
        raise ConfigError(f"data.datasets: {', '.join(texts)} names one twice; add the weights up")
    return datasets


def _parse(text: str, *, is_only: bool) -> WeightedDataset:
    location, equals, number = text.strip().rpartition("=")
    try:
        weight = Fraction(number) if equals else None
    except (ValueError, ZeroDivisionError):
        location, weight = "", None  # the = belongs to the name
    if weight is None:
        if not is_only:
            raise ConfigError(f"data.datasets: {text} has no weight; write A=0.7,B=0.3")
        return WeightedDataset(location=text.strip(), weight=Fraction(1))
    if weight <= 0 or not location:
        raise ConfigError(f"data.datasets: {text} is no name with a positive weight; write A=0.7,B=0.3")
    return WeightedDataset(location=location, weight=weight)


class Mixture:
    """Decide which dataset sample k comes from and how many of its samples came before, both without counting.

    Weights become whole shares of a period, inside which the datasets are interleaved: they hold exactly over every
    period, 10 samples for 0.7 and 0.3, and not only in expectation.

    Args:
        weights: one a dataset, positive.

    Raises:
        ConfigError: weights with so many digits that the period would pass 100,000.
    """

    def __init__(self, weights: Sequence[Fraction]) -> None:
        # Fractions, not floats: 0.7 and 0.3 as floats have no common period short enough to be interleaved.
        parts = [weight / sum(weights) for weight in weights]
        self.period = math.lcm(*(part.denominator for part in parts))
        if self.period > MAX_PERIOD:
            raise ConfigError(f"data.datasets: weights repeat after {self.period} samples only; round them")
        self.shares = [int(part * self.period) for part in parts]
        self._slots = _interleave(self.shares, self.period)

    def locate(self, sample: int) -> tuple[int, int]:
        """Return the dataset of sample k, and the number of this sample within that dataset, from 0."""
        turn, slot = divmod(sample, self.period)
        dataset, rank = self._slots[slot]
        return dataset, turn * self.shares[dataset] + rank


def _interleave(shares: Sequence[int], period: int) -> list[tuple[int, int]]:
    """Return (dataset, earlier slots of that dataset) of every slot; the one furthest behind its share goes first."""
    # Not in blocks and not by chance: a run that is short, or stopped anywhere, has seen nearly the mixture asked for.
    given = [0] * len(shares)
    slots = []
    for slot in range(period):
        # Due by now less given, times the period, so that it stays a whole number.
        behind = [share * (slot + 1) - period * had for share, had in zip(shares, given, strict=True)]
        dataset = behind.index(max(behind))
        slots.append((dataset, given[dataset]))
        given[dataset] += 1
    return slots
