"""Kept clips on their way into a shard: what is to be stored of each, and which of them are decoded in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.records import FRAME_RATE, SAMPLES_PER_FRAME, Video
from ..media.source_file import FileFacts


def audio_shift_samples(audio_lead_frames: float | None) -> int:
    """Return by how many samples the sound is delayed to correct a lead."""
    return 0 if audio_lead_frames is None else round(audio_lead_frames * SAMPLES_PER_FRAME)


def encode_id(clip_id: str, audio_lead_frames: float | None) -> str:
    """Return the identity of what is stored of a clip: another correction makes another sound."""
    return f"{clip_id}{audio_shift_samples(audio_lead_frames):+d}"


@dataclass(frozen=True, kw_only=True)
class MadeClip:
    """A clip as an earlier attempt made it: it is taken over, byte for byte, instead of being encoded again."""

    receipt: dict[str, Any]
    shard: Path | None = None
    """Where its row group lies; None where it ended without one."""
    sha256: str = ""
    """Hash of the shard."""


@dataclass(frozen=True, kw_only=True)
class EncodeItem:
    """A kept clip, with what its scores say of where the face is."""

    clip_id: str
    path: str
    video: Video
    start_frame: int
    num_frames: int
    boxes: np.ndarray
    """[T, 4] float32."""
    landmarks: np.ndarray | None
    """[T, 5, 2] float32."""
    mouth_opening: np.ndarray
    """[T] float32."""
    audio_lead_frames: float | None
    """Audio lead to correct; None leaves the sound as it is."""
    video_id: str = ""
    """Content that the clip was found in."""
    facts: FileFacts | None = None
    """Facts of the file when it was probed; None: whatever lies at the path is taken."""
    made: MadeClip | None = None

    @property
    def item_id(self) -> str:
        """Identity of what is stored: the clip, and by how much its sound is moved."""
        return encode_id(self.clip_id, self.audio_lead_frames)

    @property
    def end_frame(self) -> int:
        """The frame after the last one."""
        return self.start_frame + self.num_frames

    @property
    def audio_shift_samples(self) -> int:
        """By how much the sound is delayed."""
        return audio_shift_samples(self.audio_lead_frames)


@dataclass(frozen=True, kw_only=True)
class DecodeRun:
    """A stretch of one video that is decoded in one go, and the clips that lie in it."""

    start_frame: int
    end_frame: int
    items: list[EncodeItem]


def decode_runs(items: Sequence[EncodeItem]) -> list[DecodeRun]:
    """Group the clips of one video so that each source frame is decoded once: a run ends where the next can seek to.

    Between two clips of one run frames are decoded for nothing; between two runs none are.
    """
    runs: list[DecodeRun] = []
    for item in sorted(items, key=lambda item: (item.start_frame, item.end_frame)):
        start_s = Fraction(item.start_frame, FRAME_RATE)
        key_s = max((time for time in item.video.keyframes_s if time <= start_s), default=Fraction(0))
        # Seeking lands on a key frame: where the next clip's lies inside this run, decoding on is cheaper than again.
        # One frame beyond a range is decoded, to know until when its last one is shown.
        if runs and key_s * FRAME_RATE <= runs[-1].end_frame + 1:
            last = runs.pop()
            end = max(last.end_frame, item.end_frame)
            runs.append(DecodeRun(start_frame=last.start_frame, end_frame=end, items=[*last.items, item]))
        else:
            runs.append(DecodeRun(start_frame=item.start_frame, end_frame=item.end_frame, items=[item]))
    return runs
