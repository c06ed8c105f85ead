"""The 25 fps grid: output frame k is the source frame on screen at the middle of slot k, (k + 1/2)/25 s."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ...manifests.records import FRAME_RATE


@dataclass(frozen=True)
class Frame:
    """One frame of the normal form."""

    index: int
    """Position on the 25 fps grid, from the first video frame."""
    rgb: np.ndarray
    """[H, W, 3] uint8, C-contiguous, upright. Read-only by contract: two slots can share one array."""
    is_stale: bool = False
    """Whether the picture is older than it should be by more than half a frame, for want of an undamaged one."""


@dataclass(kw_only=True)
class DecodeStats:
    """Counts of one call of `decode.frames`; filled while it runs."""

    num_decoded: int = 0
    """Source frames that came out of the decoder, including those before the range that a seek had to pass."""
    num_errors: int = 0
    """Packets the decoder refused."""
    num_too_large: int = 0
    """Packets, among those, whose picture has more pixels than are decoded."""
    num_damaged: int = 0
    """Source frames not used: the decoder had to invent parts of them, or they build on such a frame."""
    num_missing: int = 0
    """Output frames whose picture is older than it should be by more than half a frame, for want of a newer one."""


def middle_ticks(index: int, time_base: Fraction) -> int:
    """Return the first tick that is not before the middle of slot `index`; a frame is on screen there if it is earlier.

    Exactly half way counts as the next slot's, as in ffmpeg's `fps=25`, which rounds times to the nearest slot. Unlike
    taking the frame at the slot's start, this is unbiased and immune to timestamp jitter below half a slot (20 ms).
    """
    numerator = (2 * index + 1) * time_base.denominator
    return -(-numerator // (2 * FRAME_RATE * time_base.numerator))


def half_frame_ticks(time_base: Fraction) -> int:
    """Return half an output frame in ticks: the second field of an interlaced frame, stored as a packet of its own,
    follows by no more, and a lost frame of up to 50 fps leaves a longer hole.
    """
    return int(Fraction(1, 2 * FRAME_RATE) / time_base)
