"""One clip as an MP4: H.264 pictures as they come, AAC sound at the end. The same input gives the same bytes."""

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.video.frame import VideoFrame

from ...manifests.records import FRAME_RATE, SAMPLE_RATE_HZ
from ..media.mp4 import BIT_EXACT, TICK, add_sound

X264 = {"preset": "fast", "threads": "1", "profile": "high", "x264-params": "mbtree=0"}
"""One thread, because workers share the cores and another number makes another stream. Without a macroblock tree: with
one, ten encodes of the same 25 pictures of 64 px gave 8 streams, and of 224 and 288 px 2 and 4; without, always one."""
KEYFRAME_EVERY = 25
"""Trainers read short windows at random: a second is the most that a seek decodes for nothing."""


class Film:
    """A film that is being made; holds its pictures compressed, some megabytes for ten seconds.

    Args:
        size: side of the picture, px, even.
        crf: x264's constant rate factor; 18 is taken for visually lossless, lower is better and larger.
    """

    def __init__(self, size: int, crf: int) -> None:
        self._file = BytesIO()
        self._container = av.open(self._file, "w", format="mp4", options=BIT_EXACT)
        stream = self._container.add_stream("libx264", rate=FRAME_RATE, options={**X264, "crf": str(crf)})
        stream.height = stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = KEYFRAME_EVERY
        stream.time_base = stream.codec_context.time_base = TICK
        stream.codec_context.flags |= Flags.bitexact
        self._stream, self._num_frames = stream, 0

    def add(self, rgb: np.ndarray) -> None:
        """Add a picture [size, size, 3] uint8 RGB, shown for 1/25 s."""
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = int(Fraction(self._num_frames, FRAME_RATE) / TICK), TICK
        self._container.mux(self._stream.encode(frame))
        self._num_frames += 1

    def finish(self, pcm: np.ndarray, path: Path) -> None:
        """Write the file with sound: int16 [640 * pictures] at 16 kHz."""
        assert len(pcm) == 640 * self._num_frames
        self._container.mux(self._stream.encode(None))
        self._container.close()
        add_sound(self._file.getvalue(), pcm, path, sample_rate_hz=SAMPLE_RATE_HZ, num_channels=1)
