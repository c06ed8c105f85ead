"""How good a network is on held-out clips: its loss, and how much worse it gets with another clip's sound."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from .data.loader import Loader
from .data.samples import Samples
from .recipes.recipe import Network, Recipe, Schedule

LEVELS = 4
"""Bands of timesteps in which losses are told apart; the first one has the least noise."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over clips with its 95 % confidence interval (Student's t)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """Measurements on held-out samples, which are always the same."""

    loss: float
    gap: Interval | None
    """Loss with another clip's sound less that with its own: what the sound is worth to the network. None with fewer
    than two clips."""
    loss_by_level: dict[int, float]
    gap_by_level: dict[int, float]

    def values(self) -> dict[str, float | None]:
        """Return it as a line of the log."""
        line: dict[str, float | None] = {"val_loss": self.loss, "val_gap": None}
        if self.gap is not None:
            line |= {"val_gap": self.gap.mean, "val_gap_low": self.gap.low, "val_gap_high": self.gap.high}
        line |= {f"val_loss_level{level}": value for level, value in self.loss_by_level.items()}
        return line | {f"val_gap_level{level}": value for level, value in self.gap_by_level.items()}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The losses of one sample."""

    clip_id: str
    level: int
    own: float
    swapped: float | None
    """None where the next sample is of the same clip."""


@torch.no_grad()
def compare_sounds(
    network: Network,
    recipe: Recipe,
    samples: Samples,
    schedule: Schedule,
    *,
    num_samples: int,
    batch_size: int,
    device: torch.device,
) -> list[Pair]:
    """Return the losses of samples 0 .. `num_samples` - 1, whose windows, noise and timesteps are always the same.

    Which sound another's is depends on `batch_size`.
    """
    batches = Loader(samples, batch_size=max(2, batch_size)).batches(0, num_samples)
    return [pair for batch in batches for pair in _pairs(network, recipe, samples, schedule, batch.to(device))]


def _pairs(network: Network, recipe: Recipe, samples: Samples, schedule: Schedule, batch) -> Iterator[Pair]:  # noqa: ANN001
    own = recipe.loss(network, batch, schedule).per_sample.tolist()
    swapped = recipe.loss(network, recipe.swap_audio(batch), schedule).per_sample.tolist()
    clips = [samples.clip_id(batch.first + index) for index in range(len(batch))]
    steps = batch["timestep"].tolist()
    for index, clip in enumerate(clips):
        differs = clips[index - 1] != clip
        level = steps[index] * LEVELS // schedule.num_timesteps
        yield Pair(clip_id=clip, level=level, own=own[index], swapped=swapped[index] if differs else None)


def summarise(pairs: list[Pair]) -> ValidationResult:
    """Average pairs by clip first, so that a clip that was drawn often counts once."""
    gaps: dict[str, list[float]] = defaultdict(list)
    by_level: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_level[pair.level].append(pair)
        if pair.swapped is not None:
            gaps[pair.clip_id].append(pair.swapped - pair.own)
    levels = {level: by_level[level] for level in sorted(by_level)}
    swapped = {level: [p.swapped - p.own for p in found if p.swapped is not None] for level, found in levels.items()}
    return ValidationResult(
        loss=float(np.mean([pair.own for pair in pairs])),
        gap=interval([float(np.mean(values)) for values in gaps.values()]),
        loss_by_level={level: float(np.mean([pair.own for pair in found])) for level, found in levels.items()},
        gap_by_level={level: float(np.mean(values)) for level, values in swapped.items() if values},
    )


def interval(values: list[float]) -> Interval | None:
    """Return mean and confidence interval of independent values; None for fewer than two."""
    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean=mean, low=mean - reach, high=mean + reach)
