"""Select: scores and rules in, verdicts out. No decoding, no model: moving a threshold takes seconds."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..manifests.schema import VERDICT_FIELDS
from ..manifests.settings import Range, check_ranges
from .failures import Failures
from .score.metric import Rule, measured
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
    has_face = ~_is_null(scores, "track")
    silent = has_face & (_numbers(scores, "speech_share") < config.min_speech_share)
    kinds = {
        "all": has_face,
        "speech": has_face & ~silent,
        "silent": silent,
        "synced": has_face & ~silent & _judge_sync(scores, config),
        "unnamed": has_face & ~(_numbers(scores, "annotated_faces") == 1),
    }
    failures = Failures(len(scores))
    failures.add("no_face", ~has_face, np.zeros(len(scores)), 1.0)
    for rule in RULES:
        _apply(rule, scores, config, judged_as or policy, kinds[rule.clips], failures)
    _mark_gaps(scores, failures)
    _limit_silent(scores, config, silent, failures)
    columns = {
        **failures.columns(),
        "clip_class": np.where(silent, "silent", "speech"),
        "split": assign(
            scores, val_share=config.val_share, test_share=config.test_share, official=config.official_splits
        ),
        "crop_policy": [policy] * len(scores),
        "leakage": scores[measured("leakage_{policy}", policy)].combine_chunks(),
    }
    fields = [field for field in VERDICT_FIELDS if field.name in columns]
    return pa.table([pa.array(columns[f.name], f.type) for f in fields], schema=pa.schema(fields))


def _judge_sync(scores: pa.Table, config: SelectConfig) -> np.ndarray:
    return np.array([judges_sync(config, trust) for trust in scores["sync_trust"].to_pylist()], bool)


def judges_sync(config: SelectConfig, trust: str | None) -> bool:
    """Tell whether a lead of such trust may drop a speaking clip."""
    return trust == "high" if config.sync_rules == "trusted" else config.sync_rules == "always"


def _apply(
    rule: Rule, scores: pa.Table, config: SelectConfig, policy: str, judged: np.ndarray, failures: Failures
) -> None:
    threshold = float(getattr(config, rule.limit))
    if rule.off_at_zero and threshold == 0:
        return
    column = rule.measured(policy)
    if column is None:
        return
    values = _numbers(scores, column)
    sizes = np.abs(values) if rule.side == "max_either_way" else values
    beyond = sizes < threshold if rule.side == "min" else sizes > threshold
    failures.add(rule.reason, beyond & judged, values, threshold)  # a value that was not measured (NaN) compares false


def _mark_gaps(scores: pa.Table, failures: Failures) -> None:
    """A clip that is too short because the face went away, or another came, is told so."""
    for word, reason in (("identity", "identity_jump"), ("gap", "face_gap")):
        failures.rename("too_short", _equals(scores, "start_kind", word) | _equals(scores, "end_kind", word), reason)


def _limit_silent(scores: pa.Table, config: SelectConfig, silent: np.ndarray, failures: Failures) -> None:
    """Keep silent clips up to their target share, picked by their ids: the choice is stable as data are added."""
    good = ~failures.any
    quota = round(int((good & ~silent).sum()) * config.silent_share / (1 - config.silent_share))
    places = np.flatnonzero(good & silent)
    ids = scores["clip_id"].take(pa.array(places)).to_pylist()
    over = np.zeros(len(scores), bool)
    over[places[sorted(range(len(ids)), key=ids.__getitem__)][quota:]] = True
    failures.add("no_speech", over, _numbers(scores, "speech_share"), config.min_speech_share)


def _equals(table: pa.Table, column: str, word: str) -> np.ndarray:
    return pc.call_function("equal", [table[column], word]).fill_null(False).to_numpy()


def _numbers(table: pa.Table, column: str) -> np.ndarray:
    """Return a column as it was stored: float32 stays float32, so that a value that equals its limit passes."""
    values = table[column]
    return (values if values.type == pa.float32() else values.cast(pa.float64())).to_numpy()


def _is_null(table: pa.Table, column: str) -> np.ndarray:
    return table[column].is_null().to_numpy()
