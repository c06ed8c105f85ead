"""Several datasets with weights: which of them sample k comes from, as a table that repeats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ...manifests.errors import ConfigError

MAX_PERIOD = 100_000
"""Weights with up to four decimals stay below it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One dataset of a mixture as the user named it."""

    place: str
    """A folder or a URI."""
    weight: Fraction
    """Its part of all samples, relative to the others' weights."""


def parse_sources(texts: Sequence[str]) -> list[Source]:
    """Read `["A=0.7", "B=0.3"]`, or `["A"]` alone.

    Raises:
        ConfigError: none, one twice, or several of which one has no weight that is a positive number.
    """
    if not texts:
        raise ConfigError("data.datasets: no dataset; name the folder of a finished build")
    sources = [_parse(text, is_only=len(texts) == 1) for text in texts]
    if len({source.place for source in sources}) < len(sources):
        raise ConfigError(f"data.datasets: {', '.join(texts)} names one twice; add the weights up")
    return sources


def _parse(text: str, *, is_only: bool) -> Source:
    place, equals, number = text.strip().rpartition("=")
    try:
        weight = Fraction(number) if equals else None
    except (ValueError, ZeroDivisionError):
        place, weight = "", None  # the = belongs to the name
    if weight is None:
        if not is_only:
            raise ConfigError(f"data.datasets: {text} has no weight; write A=0.7,B=0.3")
        return Source(place=text.strip(), weight=Fraction(1))
    if weight <= 0 or not place:
        raise ConfigError(f"data.datasets: {text} is no name with a positive weight; write A=0.7,B=0.3")
    return Source(place=place, weight=weight)


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
    given = [0] * len(shares)
    slots = []
    for slot in range(period):
        behind = [share * (slot + 1) - period * had for share, had in zip(shares, given, strict=True)]
        dataset = behind.index(max(behind))
        slots.append((dataset, given[dataset]))
        given[dataset] += 1
    return slots
