"""Findings of an ablation, as a page with one figure and as a table on the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.table import Table

from .render import whole_page

BANDS = {"all": "all noise", "0": "t 0-249", "1": "250-499", "2": "500-749", "3": "750-999"}
"""Noise levels by their key in `ablation.json`; of 1000 timesteps, the last one is noise alone."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A way to train that an ablation compares with others."""

    policy: str
    masked: bool
    """Whether temporal attention sees the mouth's region alone."""

    def __str__(self) -> str:
        return f"{self.policy} {'masked' if self.masked else 'unmasked'}"


@dataclass(frozen=True, kw_only=True)
class GapEstimate:
    """Mean gap, and 95 % intervals over clips and over seeds; None where there are fewer than two."""

    mean: float
    over_clips: tuple[float, float] | None
    over_seeds: tuple[float, float] | None
    num_clips: int
    num_seeds: int


Bands = Mapping[str, GapEstimate | None]
"""Estimates by the keys of `BANDS`; None where nothing was measured."""


@dataclass(frozen=True, kw_only=True)
class ConditionSummary:
    """Loss and gaps under one condition, over all seeds."""

    condition: Condition
    loss: float
    gap: Bands

    def to_json(self) -> dict[str, object]:
        """Return it as `ablation.json` has it."""
        return {**asdict(self.condition), "loss": self.loss, "gap": self.gap}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Gaps of one condition less those of another, pair by pair."""

    one: Condition
    other: Condition
    gap: Bands

    def to_json(self) -> dict[str, object]:
        """Return it as `ablation.json` has it."""
        return {"of": self.one, "from": self.other, "gap": self.gap}


@dataclass(frozen=True, kw_only=True)
class AblationFacts:
    """Content of `ablation.json`."""

    settings: Mapping[str, object]
    """Settings that all arms have in common."""
    seeds: Sequence[int]
    arms: Sequence[ConditionSummary]
    differences: Sequence[Difference]
    """Policies less the first one, and masked less unmasked."""


def ablation_page(facts: AblationFacts) -> str:
    """Return the page of an ablation."""
    return whole_page(
        "ablation.html.j2",
        scripts=("assets/echarts.common.min.js", "assets/ablation.js"),
        styles=("assets/page.css",),
        facts=facts,
        bands=BANDS,
        told=told,
    )


def ablation_table(facts: AblationFacts) -> Table:
    """Return gaps by condition and noise level, then differences; ± is half a 95 % interval over clips."""
    table = Table(title=None, box=None, pad_edge=False)
    table.add_column("audio gap", no_wrap=True)
    table.add_column("loss", justify="right")
    for title in BANDS.values():
        table.add_column(title, justify="right")
    for arm in facts.arms:
        table.add_row(str(arm.condition), f"{arm.loss:.4f}", *(told(arm.gap.get(band)) for band in BANDS))
    table.add_section()
    for row in facts.differences:
        table.add_row(f"{row.one} less {row.other}", "", *(told(row.gap.get(band)) for band in BANDS))
    return table


def told(gap: GapEstimate | None, over: Literal["over_clips", "over_seeds"] = "over_clips") -> str:
    """Write a mean and its interval; a dash for what was not measured."""
    if gap is None:
        return "–"
    interval: tuple[float, float] | None = getattr(gap, over)
    if interval is None:
        return f"{gap.mean:+.4f}"
    return f"{gap.mean:+.4f} ±{(interval[1] - interval[0]) / 2:.4f}"
