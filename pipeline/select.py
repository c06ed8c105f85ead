"""Select: scores and rules in, verdicts out. No decoding, no model: moving a threshold takes seconds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa

from ..manifests.schema import VERDICT_FIELDS
from ..manifests.settings import Range, check_ranges
from .failures import Failures
from .score.columns import ScoreColumns
from .score.metric import ClipKind, Rule, measured
from .score.registry import RULES, LimitSettings
from .splits import assign


@dataclass(frozen=True, kw_only=True)
class SelectConfig(LimitSettings):
    """Limits that a clip must keep to."""

    # The limits of single metrics stand where those are declared: `score/metrics/`.
    min_speech_share: Annotated[float, Range(0, 1)] = 0.25
    """Share of frames with speech; less, and the clip counts as silent."""
    silent_share: Annotated[float, Range(0, 0.999)] = 0.05
    """Target share of silent clips among the kept: they teach the model to keep the mouth shut."""
    sync_rules: Literal["trusted", "always", "never"] = "trusted"
    """`trusted`: drop by lead and confidence only where a network measured them; `always`; `never`."""
    val_share: Annotated[float, Range(0, 0.999)] = 0.05
    """Share of identities (of videos, where nobody is named) whose clips are held out as `val`."""
    test_share: Annotated[float, Range(0, 0.999)] = 0.0
    """Share whose clips are held out as `test`."""
    official_splits: bool = True
    """Whether the splits that a source's authors fix come before the shares."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.test_share >= 1 - self.val_share:
            raise ValueError(f"test_share: {self.test_share:g} leaves nothing beside val_share to train on; give less")


def select(scores: pa.Table, config: SelectConfig, policy: str, judged_as: str | None = None) -> pa.Table:
    """Judge every candidate clip.

    Args:
        scores: rows of `SCORE_SCHEMA`, whatever their order; what is bulky may be missing.
        config: the limits.
        policy: the crop policy that the clips will be cut with.
        judged_as: the crop policy whose limits decide, where that is another one.

    Returns:
        A table in the order of `scores` with `verdict`, `reason`, `value`, `threshold`, `failures`, `clip_class`,
        `split`, `crop_policy` and `leakage`.
    """
    clips = ScoreColumns(scores)
    judge, failures = Judge(clips, config, judged_as or policy), Failures(len(scores))
    failures.add("no_face", ~clips.has_face, np.zeros(len(scores)), 1.0)
    for rule in RULES:
        threshold = judge.threshold(rule)
        if threshold is not None:
            failures.add(rule.reason, judge.fails(rule, threshold), judge.values(rule), threshold)
    for word, reason in (("identity", "identity_jump"), ("gap", "face_gap")):
        # A clip that is too short because the face went away, or another came, is told so.
        failures.rename("too_short", clips.equals("start_kind", word) | clips.equals("end_kind", word), reason)
    over = judge.silent_over_quota(~failures.any)
    failures.add("no_speech", over, clips.numbers("speech_share"), config.min_speech_share)
    columns = {
        **failures.columns(),
        "clip_class": np.where(judge.kinds["silent"], "silent", "speech"),
        "split": assign(
            scores, val_share=config.val_share, test_share=config.test_share, official=config.official_splits
        ),
        "crop_policy": [policy] * len(scores),
        "leakage": scores[measured("leakage_{policy}", policy)].combine_chunks(),
    }
    fields = [field for field in VERDICT_FIELDS if field.name in columns]
    return pa.table([pa.array(columns[f.name], f.type) for f in fields], schema=pa.schema(fields))


def judges_sync(config: SelectConfig, trust: str | None) -> bool:
    """Tell whether a lead of such trust may drop a speaking clip."""
    return trust == "high" if config.sync_rules == "trusted" else config.sync_rules == "always"


class Judge:
    """The limits, applied to columns: the one place that tells which clips a limit drops.

    Args:
        clips: all candidates.
        limits: the limits in use.
        policy: the crop policy whose measurements are judged.
    """

    def __init__(self, clips: ScoreColumns, limits: SelectConfig, policy: str) -> None:
        self._clips, self._policy, self.limits = clips, policy, limits
        has_face = clips.has_face
        silent = has_face & (clips.numbers("speech_share") < limits.min_speech_share)
        self.kinds: dict[ClipKind, np.ndarray] = {
            "all": has_face,
            "speech": has_face & ~silent,
            "silent": silent,
            "synced": has_face & ~silent & self._trusted(),
            "unnamed": has_face & ~(clips.numbers("annotated_faces") == 1),
        }
        """[N] bool: the clips that a rule of each kind judges."""

    def threshold(self, rule: Rule) -> float | None:
        """Return the limit in use; None when the rule is off."""
        value = float(getattr(self.limits, rule.limit))
        return None if rule.off_at_zero and value == 0 else value

    def values(self, rule: Rule) -> np.ndarray:
        """Return what a rule looks at, [N]; NaN where it was not measured."""
        column = rule.measured(self._policy)
        return np.full(len(self._clips), np.nan) if column is None else self._clips.numbers(column)

    def sizes(self, rule: Rule) -> np.ndarray:
        """Return what a rule compares with its limit, [N]; NaN where it was not measured."""
        values = self.values(rule)
        return np.abs(values) if rule.side == "max_either_way" else values

    def fails(self, rule: Rule, threshold: float | None) -> np.ndarray:
        """Tell which clips a rule drops at a threshold, [N] bool; None drops none."""
        if threshold is None:
            return np.zeros(len(self._clips), bool)
        sizes = self.sizes(rule)
        beyond = sizes < threshold if rule.side == "min" else sizes > threshold
        return beyond & self.kinds[rule.clips]  # a value that was not measured (NaN) compares false

    def silent_over_quota(self, good: np.ndarray) -> np.ndarray:
        """Tell which silent clips come after their target share is full, [N] bool.

        They are picked by their ids, so the choice is stable as data are added.

        Args:
            good: [N] bool, the clips that no limit drops.
        """
        silent = self.kinds["silent"]
        quota = round(int((good & ~silent).sum()) * self.limits.silent_share / (1 - self.limits.silent_share))
        over = np.zeros(len(self._clips), bool)
        over[self._silent[good[self._silent]][quota:]] = True
        return over

    @cached_property
    def _silent(self) -> np.ndarray:
        return self._clips.by_id(np.flatnonzero(self.kinds["silent"]))

    def _trusted(self) -> np.ndarray:
        codes, words = self._clips.codes("sync_trust")
        return np.array([judges_sync(self.limits, trust) for trust in (*words, None)], bool)[codes]  # -1: the last
