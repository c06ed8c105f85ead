"""Which limit, or which two together, would gain the most hours: what a user who wants more should look at."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..select import RULES, Rule
from .clip_columns import ClipColumns
from .funnel import Stage
from .terminal import duration
from .what_if import RuleRow, WhatIf

WORTH_TELLING = 0.3
"""A stage that takes a larger share than this is told of."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """Rules whose dropping gains the most."""

    rules: tuple[Rule, ...]
    """One, or two where the clips that fail both gain more than two single rules could."""
    hours: float
    """What is gained."""
    single_hours: float
    """The most that any one rule gains."""

    def words(self, what_if: WhatIf) -> str:
        """Say what changes and what it gains."""
        named = [f"select.{rule.limit} ({what_if.threshold(rule):g}, {rule.reason})" for rule in self.rules]
        gained = f"{duration(self.hours)} more would be kept"
        if len(named) == 1:
            return f"without {named[0]} {gained}"
        alone = (
            f"without any one limit at most {duration(self.single_hours)}"
            if self.single_hours > 0
            else "neither alone gains any"
        )
        return f"without {named[0]} and {named[1]} together {gained}; {alone}"


def best_change(clips: ClipColumns, what_if: WhatIf, table: Sequence[RuleRow]) -> Change | None:
    """Return the rule or the pair of rules that gains the most hours; None where nothing would be gained.

    Args:
        clips: all candidates.
        what_if: their rules.
        table: what `rule_table` says of them, in the order of `RULES`.
    """
    gains = np.array([row.hours_gained for row in table])
    single = int(np.argmax(gains))
    pairs = list(_pairs(clips, what_if))
    best = max(pairs, key=lambda pair: gains[pair[0]] + gains[pair[1]] + pair[2], default=None)
    if best is not None:
        rules = (RULES[best[0]], RULES[best[1]])
        hours = what_if.count(what_if.passes_others(*rules)).hours - what_if.as_set().hours
        if hours > 2 * max(gains[single], 0.0):  # else one change after the other does it
            return Change(rules=rules, hours=hours, single_hours=float(gains[single]))
    if gains[single] <= 0:
        return None
    return Change(rules=(RULES[single],), hours=float(gains[single]), single_hours=float(gains[single]))


def _pairs(clips: ClipColumns, what_if: WhatIf) -> Iterator[tuple[int, int, float]]:
    """Yield the places of two rules, and the hours of the clips that fail these two and no other."""
    places = np.flatnonzero(clips.has_face & (what_if.num_fails == 2))
    failed = np.array([what_if.failed(rule)[places] for rule in RULES])  # [R, P]
    first = np.argmax(failed, axis=0)
    second = len(RULES) - 1 - np.argmax(failed[::-1], axis=0)
    hours = np.bincount(first * len(RULES) + second, clips.hours[places], len(RULES) ** 2)
    for code in np.flatnonzero(hours):
        yield int(code) // len(RULES), int(code) % len(RULES), float(hours[code])


def large_losses(stages: Sequence[Stage], change: str | None) -> Iterator[str]:
    """Say of each stage that takes much what took it; of the rules, only what changing them would gain.

    Args:
        stages: of the funnel.
        change: what `Change.words` says, if there is a change to make.
    """
    *before, select = stages
    for stage in before:
        # That a source annotates little of its files is no fault of theirs.
        losses = [loss for loss in stage.losses if loss.reason != "outside_annotation"]
        number, hours = sum(loss.number for loss in losses), sum(loss.hours for loss in losses)
        if stage.number_in and number > WORTH_TELLING * stage.number_in:
            top = max(losses, key=lambda loss: loss.number)
            share = f"{100 * number / stage.number_in:.0f} % of the {stage.unit}"
            yield f"{stage.name}: {share} dropped, most as {top.reason} ({top.number})"
        elif hours > WORTH_TELLING * stage.hours_in:
            share = f"{100 * hours / stage.hours_in:.0f} % of the footage"
            yield f"{stage.name}: {share} lost, most as {losses[0].reason} ({duration(losses[0].hours)})"
    gone = select.hours_in - select.hours_out
    if change and gone > WORTH_TELLING * select.hours_in:
        yield f"select: {100 * gone / select.hours_in:.0f} % of the clips' length dropped; {change}"
