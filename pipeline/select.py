"""Select: scores and rules in, verdicts out. No decoding, no model: moving a threshold takes seconds."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..manifests.records import MISSING_SHARE
from ..manifests.schema import VERDICT_FIELDS
from ..manifests.settings import Range, check_ranges
from .failures import Failures
from .splits import assign


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """What a clip must be like."""

    min_clip_s: Annotated[float, Range(0, 600)] = 3.0
    """Shortest clip."""
    max_missing_share: Annotated[float, Range(0, MISSING_SHARE)] = MISSING_SHARE
    """Share of the clip's frames that could not be decoded; the picture before is shown instead."""
    min_face_px: Annotated[float, Range(0, 10000)] = 96.0
    """Shortest face in the clip, px (5th percentile of the box height)."""
    max_outside_share: Annotated[float, Range(0, 1)] = 0.25
    """Largest share of the crop that may lie outside the picture."""
    max_height_ratio: Annotated[float, Range(1, 100)] = 1.4
    """Tallest over shortest face; above, one fixed-height crop does not fit (HighSync)."""
    max_yaw_deg: Annotated[float, Range(0, 180)] = 60.0
    """Largest turn of the head (95th percentile; needs landmarks)."""
    max_pitch_deg: Annotated[float, Range(0, 180)] = 45.0
    """Largest nod of the head (95th percentile; needs landmarks)."""
    max_faces: Annotated[int, Range(1, 1000)] = 1
    """People of similar size in the shot; more, and the speaker is not known without a trusted sync network."""
    min_annotated: Annotated[int, Range(0, 1)] = 1
    """1: where a source's box shows which of several faces it means, the others are dropped. 0: they are not."""
    min_sharpness: Annotated[float, Range(0, 1_000_000)] = 15.0
    """Variance of the Laplacian of the face at 192 px."""
    min_brightness: Annotated[float, Range(0, 255)] = 25.0
    """Mean grey level of the face, 0-255."""
    max_brightness: Annotated[float, Range(0, 255)] = 235.0
    """Mean grey level of the face, 0-255."""
    min_iqa: Annotated[float, Range(0, 1)] = 0.0
    """CLIP's rating of the face as a good photo, 0-1 (needs quality.iqa). 0: not judged."""
    min_motion: Annotated[float, Range(0, 255)] = 0.02
    """Mean change of the mouth picture from frame to frame, grey levels; a still picture has 0."""
    max_padded_audio_s: Annotated[float, Range(0, 600)] = 0.2
    """Stretch of the clip that the audio stream does not cover."""
    min_speech_share: Annotated[float, Range(0, 1)] = 0.25
    """Share of frames with speech; less, and the clip counts as silent."""
    silent_share: Annotated[float, Range(0, 0.999)] = 0.05
    """Target share of silent clips among the kept: they teach the model to keep the mouth shut."""
    max_silent_activity: Annotated[float, Range(0, 1000)] = 0.01
    """Mouth activity of a silent clip; more, and somebody talks unheard. Talkers of the test clips: 0.02-0.05."""
    min_mouth_activity: Annotated[float, Range(0, 1000)] = 0.0
    """Mouth activity of a speaking clip; less, and the speaker is off screen. 0: not judged."""
    sync_rules: Literal["trusted", "always", "never"] = "trusted"
    """`trusted`: drop by lead and confidence only where a network measured them; `always`; `never`."""
    max_lead_frames: Annotated[float, Range(0, 1000)] = 6.0
    """Largest audio offset, frames of 40 ms, either way (LatentSync's limit)."""
    max_spread_frames: Annotated[float, Range(0, 1000)] = 1.0
    """Largest change of the offset inside a clip."""
    min_sync_speech_s: Annotated[float, Range(0, 600)] = 0.6
    """Speech that a network's lead must rest on; less, and nothing is known of the offset. 0: kept all the same."""
    min_sync_confidence: Annotated[float, Range(-1, 1000)] = 3.0
    """SyncNet's confidence from which sound and lips belong together (LatentSync's limit)."""
    max_leakage: Annotated[float, Range(0, 1)] = 0.0
    """Largest correlation between crop geometry and mouth opening. 0: not judged."""
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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One limit: a clip fails when the value of `column` lies beyond the setting `limit`."""

    reason: str
    column: str
    """A column of the score table; `{policy}` stands for the crop policy in use."""
    limit: str
    """The setting of `SelectConfig` that holds the threshold."""
    side: Literal["min", "max", "max_either_way"]
    """`min`: smaller values fail. `max`: larger ones. `max_either_way`: those further from 0."""
    clips: Literal["all", "speech", "silent", "synced", "unnamed"] = "all"
    """Which clips it judges: all, those with speech, those without, those with speech whose sync is to be judged, or
    those whose face is not the one that a source's box means."""
    off_at_zero: bool = False
    """Whether a threshold of 0 switches the rule off."""

    def measured(self, policy: str) -> str | None:
        """Return the column that is judged; None where nothing is: all of a whole picture lies inside it."""
        return None if policy == "whole" and self.reason == "face_out_of_frame" else measured(self.column, policy)


def measured(column: str, policy: str) -> str:
    """Return the column that a policy was measured in; a whole picture stands as still as the crop `static` does."""
    return column.format(policy="static" if policy == "whole" else policy)


RULES = (
    Rule(reason="too_short", column="duration_s", limit="min_clip_s", side="min"),
    Rule(reason="frame_count_mismatch", column="missing_share", limit="max_missing_share", side="max"),
    Rule(reason="face_scale_change", column="height_ratio", limit="max_height_ratio", side="max"),
    Rule(reason="face_too_small", column="face_height_p5_px", limit="min_face_px", side="min"),
    Rule(reason="face_out_of_frame", column="outside_share_{policy}", limit="max_outside_share", side="max"),
    Rule(reason="pose_out_of_range", column="yaw_p95_deg", limit="max_yaw_deg", side="max"),
    Rule(reason="pose_out_of_range", column="pitch_p95_deg", limit="max_pitch_deg", side="max"),
    Rule(reason="not_annotated", column="annotated_faces", limit="min_annotated", side="min", off_at_zero=True),
    Rule(reason="multiple_faces", column="num_faces", limit="max_faces", side="max", clips="unnamed"),
    Rule(reason="static_video", column="motion", limit="min_motion", side="min"),
    Rule(reason="low_visual_quality", column="sharpness", limit="min_sharpness", side="min"),
    Rule(reason="low_visual_quality", column="brightness", limit="min_brightness", side="min"),
    Rule(reason="low_visual_quality", column="brightness", limit="max_brightness", side="max"),
    Rule(reason="low_visual_quality", column="iqa", limit="min_iqa", side="min", off_at_zero=True),
    Rule(reason="av_length_mismatch", column="padded_audio_s", limit="max_padded_audio_s", side="max"),
    Rule(reason="crop_leaks", column="leakage_{policy}", limit="max_leakage", side="max", off_at_zero=True),
    Rule(
        reason="off_screen_speaker",
        column="mouth_activity",
        limit="min_mouth_activity",
        side="min",
        clips="speech",
        off_at_zero=True,
    ),
    Rule(reason="no_speech", column="mouth_activity", limit="max_silent_activity", side="max", clips="silent"),
    Rule(reason="too_short_for_sync", column="sync_speech_s", limit="min_sync_speech_s", side="min", clips="synced"),
    Rule(reason="low_sync_conf", column="sync_confidence", limit="min_sync_confidence", side="min", clips="synced"),
    Rule(
        reason="offset_inconsistent", column="sync_spread_frames", limit="max_spread_frames", side="max", clips="synced"
    ),
    Rule(
        reason="offset_out_of_range",
        column="audio_lead_frames",
        limit="max_lead_frames",
        side="max_either_way",
        clips="synced",
    ),
)
"""In the order in which a person would look: what cannot be used at all first, what is out of sync last."""


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
