"""Worth of the sound to the networks of an ablation: gaps by noise level, with intervals over clips and seeds."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..manifests.errors import DatasetError
from ..pipeline.report.ablation import Bands, Condition, ConditionSummary, Difference, GapEstimate
from .validation import LEVELS, Pair, interval

Gaps = Mapping[tuple[int, str], float]
"""Mean gap of the samples of a clip under a seed, by both."""
BANDS = ("all", *range(LEVELS))
"""Noise levels that are told apart, and all of them together."""


@dataclass(frozen=True, kw_only=True)
class ArmPairs:
    """The losses of an arm."""

    condition: Condition
    seed: int
    pairs: Sequence[Pair]


def summarise_arms(arms: Sequence[ArmPairs]) -> tuple[list[ConditionSummary], list[Difference]]:
    """Average arms over seeds, and compare them pair by pair: the same clip, window, noise and seed.

    Returns:
        Loss and gaps of each condition, and the differences of policies from the first one and of masked from unmasked.

    Raises:
        DatasetError: two arms were not judged on the same samples.
    """
    check_same_samples(arms)
    by_condition: dict[Condition, list[ArmPairs]] = defaultdict(list)
    for arm in arms:
        by_condition[arm.condition].append(arm)
    tables = {condition: {band: gaps(found, band) for band in BANDS} for condition, found in by_condition.items()}
    summaries = [
        ConditionSummary(condition=condition, loss=_loss(by_condition[condition]), gap=_estimates(table))
        for condition, table in tables.items()
    ]
    differences = [
        Difference(one=one, other=other, gap=_estimates(_subtract(tables[one], tables[other])))
        for one, other in _comparisons(list(tables))
    ]
    return summaries, differences


def check_same_samples(arms: Sequence[ArmPairs]) -> None:
    """Raise `DatasetError` unless all arms were judged on the same samples in the same order."""
    judged = [[(pair.clip_id, pair.level, pair.swapped is None) for pair in arm.pairs] for arm in arms]
    for arm, found in zip(arms, judged, strict=True):
        if found != judged[0]:
            raise DatasetError(
                f"{arm.condition}, seed {arm.seed}: was judged on other samples than {arms[0].condition}; "
                "name another --output folder"
            )


def gaps(arms: Sequence[ArmPairs], band: str | int) -> Gaps:
    """Return the mean gap of every clip under every seed, of samples of one noise level or of all."""
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for arm in arms:
        for pair in arm.pairs:
            if pair.swapped is not None and band in ("all", pair.level):
                found[arm.seed, pair.clip_id].append(pair.swapped - pair.own)
    return {key: float(np.mean(values)) for key, values in found.items()}


def estimate(found: Gaps) -> GapEstimate | None:
    """Return the mean over clips and seeds, and a 95 % interval over either, the other averaged first.

    `over_clips` says what other clips would change, `over_seeds` what other trainings would.
    """
    if not found:
        return None
    return GapEstimate(
        mean=float(np.mean(list(found.values()))),
        over_clips=_interval(found, 1),
        over_seeds=_interval(found, 0),
        num_clips=len({clip for _, clip in found}),
        num_seeds=len({seed for seed, _ in found}),
    )


def _interval(found: Gaps, axis: int) -> tuple[float, float] | None:
    groups: dict[int | str, list[float]] = defaultdict(list)
    for key, value in found.items():
        groups[key[axis]].append(value)
    numbers = interval([float(np.mean(values)) for values in groups.values()])
    return None if numbers is None else (numbers.low, numbers.high)


def _estimates(table: Mapping[str | int, Gaps]) -> Bands:
    return {str(band): estimate(found) for band, found in table.items()}


def _subtract(one: Mapping[str | int, Gaps], other: Mapping[str | int, Gaps]) -> dict[str | int, Gaps]:
    return {band: {key: one[band][key] - value for key, value in other[band].items()} for band in other}


def _comparisons(conditions: Sequence[Condition]) -> list[tuple[Condition, Condition]]:
    first = conditions[0].policy
    policies = [(c, Condition(policy=first, masked=c.masked)) for c in conditions if c.policy != first]
    masks = [(c, Condition(policy=c.policy, masked=False)) for c in conditions if c.masked]
    return [(one, other) for one, other in [*policies, *masks] if other in conditions]


def _loss(arms: Sequence[ArmPairs]) -> float:
    return float(np.mean([pair.own for arm in arms for pair in arm.pairs]))
