"""One clip as an MP4: H.264 pictures as they come, AAC sound at the end. The same input gives the same bytes."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ...manifests.records import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from ..media.mp4 import H264, SilentVideo, add_sound

X264 = {"preset": "fast", "threads": "1", "profile": "high", "x264-params": "mbtree=0"}
"""One thread, because workers share the cores and another number makes another stream. Without a macroblock tree: with
one, ten encodes of the same 25 pictures of 64 px gave 8 streams, and of 224 and 288 px 2 and 4; without, always one."""
KEYFRAME_EVERY = 25
"""Trainers read short windows at random: a second is the most that a seek decodes for nothing."""


class ClipFilm:
    """A film of a clip that is being made.

    Args:
        crf: x264's constant rate factor; 18 is taken for visually lossless, lower is better and larger.
    """

    def __init__(self, crf: int) -> None:
        codec = H264(options={**X264, "crf": str(crf)}, keyframe_every=KEYFRAME_EVERY)
        self._video = SilentVideo(Fraction(FRAME_RATE), codec)

    def add(self, rgb: np.ndarray) -> None:
        """Add a picture [size, size, 3] uint8 RGB of even size, shown for 1/25 s."""
        self._video.add(Fraction(self._video.num_frames, FRAME_RATE), rgb)

    def finish(self, pcm: np.ndarray, path: Path) -> None:
        """Write the file with sound: int16 [640 * pictures] at 16 kHz."""
        assert len(pcm) == SAMPLES_PER_FRAME * self._video.num_frames
        add_sound(self._video.finish(), pcm, path, sample_rate_hz=SAMPLE_RATE_HZ, num_channels=1)
