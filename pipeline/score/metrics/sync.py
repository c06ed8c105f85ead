"""Metrics of sync: the lead of the sound, positive where it is early, and how far to trust it."""

from collections.abc import Mapping

import pyarrow as pa

from ....manifests.records import FRAME_RATE
from ....manifests.schema import BULKY_FIELDS
from ....manifests.settings import Range
from ...sync.estimate import SyncEstimate
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Return the audio lead of a clip and its trust."""
    return measure_sync(clip.sync)


def measure_sync(found: SyncEstimate) -> dict[str, Value]:
    """Return the audio lead of a clip, positive where the sound is early, and how far to trust it.

    Lead and confidence are null where a network found too little speech to measure them.
    """
    row: dict[str, Value] = {
        "sync_speech_s": found.speech_s,
        "sync_spread_frames": found.spread_frames,
        "sync_curve": found.curve,
        "sync_trust": found.trust,
        "lse_c": found.lse_c,
        "lse_d": found.lse_d,
    }
    if found.speech_s == 0:
        return row
    return row | {
        "audio_lead_frames": found.audio_lead_frames,
        "audio_lead_ms": found.audio_lead_frames * 1000 / FRAME_RATE,
        "sync_confidence": found.confidence,
    }


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="audio_lead_frames",
            doc="lead of the sound; positive: it is early",
            order=330,
            unit="frames, + is early",
            title="Audio lead",
            group="Sync",
            figure=110,
            limits=(
                Limit(
                    name="max_lead_frames",
                    default=6.0,
                    range=Range(0, 1000),
                    doc="Largest audio offset, frames of 40 ms, either way (LatentSync's limit).",
                    side="max_either_way",
                    reason="offset_out_of_range",
                    order=220,
                    clips="synced",
                ),
            ),
        ),
        Metric(name="audio_lead_ms", doc="the same", order=340, unit="ms"),
        Metric(
            name="sync_confidence",
            doc="how sure the lead is, on the scale of what measured it",
            order=350,
            title="Sync confidence",
            group="Sync",
            figure=120,
            limits=(
                Limit(
                    name="min_sync_confidence",
                    default=3.0,
                    range=Range(-1, 1000),
                    doc="SyncNet's confidence from which sound and lips belong together (LatentSync's limit).",
                    side="min",
                    reason="low_sync_conf",
                    order=200,
                    clips="synced",
                ),
            ),
        ),
        Metric(
            name="sync_spread_frames",
            doc="change of the lead inside the clip",
            order=360,
            unit="frames",
            range=(0, None),
            title="Spread of the lead",
            group="Sync",
            figure=130,
            limits=(
                Limit(
                    name="max_spread_frames",
                    default=1.0,
                    range=Range(0, 1000),
                    doc="Largest change of the offset inside a clip.",
                    side="max",
                    reason="offset_inconsistent",
                    order=210,
                    clips="synced",
                ),
            ),
        ),
        Metric(name="sync_curve", type=BULKY_FIELDS["sync_curve"], doc="how well each lead fits", order=370),
        Metric(name="sync_trust", type=pa.string(), doc="high or low; low is never judged by default", order=380),
        Metric(
            name="sync_speech_s",
            doc="speech the lead rests on; 0: not measured; null without SyncNet",
            order=390,
            unit="s",
            range=(0, None),
            limits=(
                Limit(
                    name="min_sync_speech_s",
                    default=0.6,
                    range=Range(0, 600),
                    doc="Speech that a network's lead must rest on; less, and nothing is known of the offset. 0: kept "
                    "all the same.",
                    side="min",
                    reason="too_short_for_sync",
                    order=190,
                    clips="synced",
                ),
            ),
        ),
        Metric(name="lse_c", doc="confidence as evaluations report it, of the whole clip; SyncNet only", order=400),
        Metric(name="lse_d", doc="distance as evaluations report it, of the whole clip; SyncNet only", order=410),
    ),
)
