"""Metrics of the sound, and of how much the mouth moves to it."""

from collections.abc import Mapping

import numpy as np

from ....manifests.records import FRAME_RATE
from ....manifests.settings import Range
from ...sync import speech
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Return speech share and level of the clip's samples, and how much of it the audio stream does not cover."""
    start_s, end_s = clip.piece.start_frame / FRAME_RATE, clip.piece.end_frame / FRAME_RATE
    audio_start_s = float(clip.video.audio_start_s)
    audio_end_s = float(clip.video.audio_start_s + clip.video.audio_duration_s)
    covered = max(0.0, min(end_s, audio_end_s) - max(start_s, audio_start_s))
    return {
        "speech_share": float(clip.voiced.mean()),
        "loudness_db": float(speech.loudness_db(clip.pcm[None])[0]),
        "padded_audio_s": end_s - start_s - covered,
        "mouth_activity": float(np.std(clip.opening)),
    }


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="speech_share",
            doc="share of frames with speech",
            order=290,
            range=(0, 1),
            title="Share of speech",
            group="Sound",
            figure=150,
        ),
        Metric(
            name="loudness_db",
            doc="level of the sound",
            order=300,
            unit="dB",
            title="Loudness",
            group="Sound",
            figure=160,
        ),
        Metric(
            name="padded_audio_s",
            doc="stretch of the clip that the audio stream does not cover",
            order=310,
            unit="s",
            range=(0, None),
            limits=(
                Limit(
                    name="max_padded_audio_s",
                    default=0.2,
                    range=Range(0, 600),
                    doc="Stretch of the clip that the audio stream does not cover.",
                    side="max",
                    reason="av_length_mismatch",
                    order=150,
                ),
            ),
        ),
        Metric(
            name="mouth_activity",
            doc="standard deviation of the mouth opening",
            order=320,
            range=(0, None),
            title="Mouth activity",
            group="Sound",
            figure=170,
            limits=(
                Limit(
                    name="min_mouth_activity",
                    default=0.0,
                    range=Range(0, 1000),
                    doc="Mouth activity of a speaking clip; less, and the speaker is off screen. 0: not judged.",
                    side="min",
                    reason="off_screen_speaker",
                    order=170,
                    clips="speech",
                    off_at_zero=True,
                ),
                Limit(
                    name="max_silent_activity",
                    default=0.01,
                    range=Range(0, 1000),
                    doc="Mouth activity of a silent clip; more, and somebody talks unheard. Talkers of the test "
                    "clips: 0.02-0.05.",
                    side="max",
                    reason="no_speech",
                    order=180,
                    clips="silent",
                ),
            ),
        ),
    ),
)
