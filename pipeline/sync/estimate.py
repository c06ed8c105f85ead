"""Sync: how early the sound is; the settings, what a measurement says, and what a network for it must offer."""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np

from ...manifests.records import FRAME_RATE
from ...manifests.settings import Range, check_ranges

MIN_FRAMES = 2 * FRAME_RATE
"""Shorter clips are not measured: at a lead of 15 frames little would overlap (USERS.md P24)."""


@dataclass(frozen=True, kw_only=True)
class SyncConfig:
    """Measurement of the audio lead, and its correction."""

    backend: Literal["correlation", "syncnet"] = "correlation"
    """`correlation`: mouth opening against sound, no weights, low trust; `syncnet`: SyncNet v2, high trust."""
    max_shift_frames: Annotated[int, Range(1, 25)] = 15
    """Leads are looked for this far either way; SyncNet's own range."""
    window_s: Annotated[float, Range(3, 600)] = 5.0
    """Length of the windows in which the lead is measured along the clip."""
    step_s: Annotated[float, Range(0.04, 600)] = 1.0
    """Distance of these windows."""
    correct: bool = False
    """Whether the stored sound is shifted by the measured lead. Off: the correlation is good to about 2 frames."""
    min_confidence: Annotated[float, Range(-1, 1000)] = 0.3
    """A lead measured with less is not corrected. Correlation, 0-1: at .3 every piece of 5 s and more was within a
    frame. SyncNet's scale is another: 3."""
    dead_band_frames: Annotated[float, Range(0, 1000)] = 1.0
    """Leads up to this are left alone when `correct` is on."""
    max_residual_ms: Annotated[float, Range(1, 10000)] = 40.0
    """A corrected clip may be off by this much when it is measured again; for SyncNet 20."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weights that the estimate needs."""
        return ["syncnet"] if self.backend == "syncnet" else []


@dataclass(frozen=True, kw_only=True)
class SyncEstimate:
    """The offset of a clip, frames of 40 ms. Positive: the sound is early, and delaying it mends it."""

    audio_lead_frames: float
    """Over the whole clip; 0 with confidence 0 where there is nothing to measure (silence, a still mouth, < 2 s)."""
    confidence: float
    """Distinctness of that lead. Correlation: of mouth and sound at it, 0-1. SyncNet: its own scale, about 0-12."""
    curve: np.ndarray
    """[N] float32 lead of each window along the clip; empty for clips shorter than a window and a step."""
    spread_frames: float | None
    """Standard deviation of the window leads, from their median absolute deviation; None with under two windows."""
    trust: Literal["low", "high"]
    """`low`: never a reason to drop a clip; a network that was trained for it gives `high`."""
    speech_s: float | None = None
    """Speech that the lead rests on; 0: too little, nothing was measured. None where speech is not asked for."""
    lse_c: float | None = None
    """SyncNet's confidence over the whole clip, as in evaluations (LSE-C)."""
    lse_d: float | None = None
    """SyncNet's least mean distance over the whole clip, as in evaluations (LSE-D)."""


class SyncNetwork(Protocol):
    """Lips and sound as vectors of one space, close to each other where they belong together."""

    def embed_lips(self, crops: np.ndarray) -> np.ndarray:
        """Turn [T, 224, 224, 3] uint8 RGB crops into [max(0, T - 4), D] float32: vector k sees frames k to k + 4."""
        ...

    def embed_sound(self, pcm: np.ndarray) -> np.ndarray:
        """Turn [640 T] int16 at 16 kHz into [max(0, T - 5), D] float32: vector k hears frames k to k + 4 and 15 ms."""
        ...


def spread(curve: np.ndarray) -> float | None:
    """Return the standard deviation of window leads [N] by their median absolute deviation; None under two."""
    return float(1.4826 * np.median(np.abs(curve - np.median(curve)))) if len(curve) > 1 else None
