"""What if: the yield without each rule, with each limit moved, over sync confidence and lead; exact, from scores."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..select import RULES, Judge, Rule, SelectConfig
from .clip_columns import ClipColumns

NUM_STEPS = 25
"""Thresholds tried for each rule."""
LEADS_FRAMES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0)
NETWORK_CONFIDENCES = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
"""SyncNet's scale; LatentSync keeps from 3."""
CORRELATION_CONFIDENCES = (0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6)
"""The scale of the estimate without a network."""
ENCODING_REASONS = ("sync_fix_failed", "latent_nan")
SYNC_COLUMNS = ("sync_confidence", "sync_spread_frames", "audio_lead_frames")


@dataclass(frozen=True, kw_only=True)
class Yield:
    """Clips and hours that would be kept."""

    clips: int
    hours: float


class WhatIf(Judge):
    """The rules of `select` on the clips of a dataset, each with what it drops at hand.

    Args:
        clips: all candidates.
        limits: the limits in use.
        policy: the crop policy in use.
    """

    def __init__(self, clips: ClipColumns, limits: SelectConfig, policy: str) -> None:
        super().__init__(clips, limits, policy)
        self._clips = clips
        self._sizes = {rule: super(WhatIf, self).sizes(rule) for rule in RULES}
        self._fails = {rule: self.fails(rule, self.threshold(rule)) for rule in RULES}
        self.num_fails = np.sum(list(self._fails.values()), axis=0, dtype=np.uint8)
        """[N] rules that each clip fails."""

    def sizes(self, rule: Rule) -> np.ndarray:
        """Return what a rule compares with its limit, [N]; kept, since many thresholds are tried."""
        return self._sizes[rule]

    def failed(self, rule: Rule) -> np.ndarray:
        """Tell which clips a rule drops at the limit in use, [N] bool."""
        return self._fails[rule]

    def judged(self, rule: Rule) -> np.ndarray:
        """Tell which clips a rule judges: it is on, it is for such clips, and its value was measured, [N] bool."""
        if self.threshold(rule) is None:
            return np.zeros(len(self._clips), bool)
        return self.kinds[rule.clips] & np.isfinite(self.sizes(rule))

    def state(self, rule: Rule) -> str:
        """Say whether a limit is in force: `judged`, or why it is not."""
        if self.threshold(rule) is None:
            return "off"
        if self.judged(rule).any():
            return "judged"
        is_measured = bool((self._clips.has_face & np.isfinite(self.sizes(rule))).any())
        if not is_measured:
            return "not measured"
        return "measured only" if rule.clips == "synced" else "no such clip"

    def lines(self) -> dict[str, list[float]]:
        """Return the limits in force by the column that they are drawn over.

        One of silent clips alone is not drawn: nearly all clips of the figure are not judged by it.
        """
        lines: dict[str, list[float]] = {}
        for rule in RULES:
            value = self.threshold(rule)
            if value and rule.clips != "silent" and self.judged(rule).any():  # a limit of 0 judges nothing
                both = [-value, value] if rule.side == "max_either_way" else [value]
                lines.setdefault(rule.column.split("_{")[0], []).extend(both)
        return lines

    def passes_others(self, *rules: Rule) -> np.ndarray:
        """Tell which clips no rule but these drops, [N] bool."""
        mine = np.sum([self._fails[rule] for rule in rules], axis=0, dtype=np.uint8)
        return self._clips.has_face & (self.num_fails == mine)

    def count(self, good: np.ndarray) -> Yield:
        """Count clips that no rule drops, as `select` would keep them: silent ones up to their target share."""
        kept = good & ~self.silent_over_quota(good) & ~self._failed_encoding
        return Yield(clips=int(kept.sum()), hours=float(self._clips.hours @ kept))

    def as_set(self) -> Yield:
        """Return the yield under the limits in use."""
        return self.count(self.passes_others())

    @cached_property
    def _failed_encoding(self) -> np.ndarray:
        codes, words = self._clips.codes("reason")
        failed = np.isin(codes, [index for index, word in enumerate(words) if word in ENCODING_REASONS])
        return failed | self._clips.equals("verdict", "error")


@dataclass(frozen=True, kw_only=True)
class MovedLimit:
    """Thresholds of a rule and what each would yield."""

    thresholds: list[float] = field(default_factory=list)
    hours: list[float] = field(default_factory=list)
    clips: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """A rule: its limit, how many clips it drops, and the yield without it."""

    reason: str
    setting: str
    column: str
    side: str
    threshold: float | None
    state: str
    """As `WhatIf.state` says it."""
    judged: int
    failed: int
    clips_without: int
    hours_without: float
    hours_gained: float
    """More than now, without the rule."""
    moved: MovedLimit


@dataclass(frozen=True, kw_only=True)
class SyncGrid:
    """Hours of speaking clips with at least a confidence and at most a lead, the sync rules set aside."""

    confidences: list[float]
    leads: list[float]
    hours: list[list[float]]
    """A row for each confidence, a column for each lead."""
    total_hours: float
    limits: tuple[float | None, float | None]
    """Of confidence and lead, where they are in force."""
    trusted: bool
    """Whether a network measured them."""


def rule_table(what_if: WhatIf) -> list[RuleRow]:
    """Return a row per rule, in their order."""
    now = what_if.as_set()
    return [_rule_row(what_if, rule, now) for rule in RULES]


def _rule_row(what_if: WhatIf, rule: Rule, now: Yield) -> RuleRow:
    without = what_if.count(what_if.passes_others(rule))
    return RuleRow(
        reason=rule.reason,
        setting=f"select.{rule.limit}",
        column=rule.column,
        side=rule.side,
        threshold=what_if.threshold(rule),
        state=what_if.state(rule),
        judged=int(what_if.judged(rule).sum()),
        failed=int(what_if.failed(rule).sum()),
        clips_without=without.clips,
        hours_without=round(without.hours, 5),
        hours_gained=round(without.hours - now.hours, 5),
        moved=_moved(what_if, rule),
    )


def _moved(what_if: WhatIf, rule: Rule) -> MovedLimit:
    """Return thresholds and the hours that each would yield."""
    others = what_if.passes_others(rule)
    sizes = what_if.sizes(rule)[others & what_if.kinds[rule.clips]]
    sizes = sizes[np.isfinite(sizes)].astype(np.float64)
    if len(sizes) == 0:
        return MovedLimit()
    tried = np.unique(sizes) if len(np.unique(sizes)) <= NUM_STEPS else np.quantile(sizes, np.linspace(0, 1, NUM_STEPS))
    limit = what_if.threshold(rule)
    tried = np.unique([*tried, *([] if limit is None else [limit])])
    found = [what_if.count(others & ~what_if.fails(rule, float(threshold))) for threshold in tried]
    return MovedLimit(
        thresholds=[float(f"{threshold:.5g}") for threshold in tried],
        hours=[round(each.hours, 5) for each in found],
        clips=[each.clips for each in found],
    )


def sync_table(clips: ClipColumns, what_if: WhatIf) -> SyncGrid | None:
    """Return hours over confidence and lead; None when no clip has a measured lead."""
    rules = [rule for rule in RULES if rule.column in SYNC_COLUMNS]
    confidence, lead = clips.numbers("sync_confidence"), np.abs(clips.numbers("audio_lead_frames"))
    good = what_if.passes_others(*rules) & what_if.kinds["speech"] & np.isfinite(confidence) & np.isfinite(lead)
    if not good.any():
        return None
    confidence, lead, hours = confidence[good], lead[good], clips.hours[good]
    is_network = bool(clips.equals("sync_trust", "high")[good].any())
    limits = {rule.column: what_if.threshold(rule) if what_if.judged(rule).any() else None for rule in rules}
    scale = NETWORK_CONFIDENCES if is_network else CORRELATION_CONFIDENCES
    rows, columns = _with(scale, limits["sync_confidence"]), _with(LEADS_FRAMES, limits["audio_lead_frames"])
    cells = [[float(hours[(confidence >= low) & (lead <= high)].sum()) for high in columns] for low in rows]
    return SyncGrid(
        confidences=rows,
        leads=columns,
        hours=[[round(cell, 5) for cell in row] for row in cells],
        total_hours=round(float(hours.sum()), 5),
        limits=(limits["sync_confidence"], limits["audio_lead_frames"]),
        trusted=is_network,
    )


def _with(scale: tuple[float, ...], limit: float | None) -> list[float]:
    """Return a scale with the limit in force among its steps."""
    return sorted({*scale, *([] if limit is None else [limit])})
