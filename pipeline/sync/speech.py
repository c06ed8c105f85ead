"""Speech: which frames of a stretch of audio carry a voice, by WebRTC's voice activity detector."""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import numpy as np

from ...manifests.records import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from ...manifests.settings import Range, check_ranges

STEP_SAMPLES = SAMPLES_PER_FRAME // 2
"""20 ms, a length WebRTC's detector takes; two steps make one video frame."""
FULL_SCALE = 32768.0
SILENCE_DB = -100.0


@dataclass(frozen=True, kw_only=True)
class SpeechConfig:
    """Limits by which speech is told from the rest."""

    aggressiveness: Annotated[int, Range(0, 3)] = 2
    """WebRTC's mode, 0 (takes much for speech) to 3 (takes little)."""
    min_loudness_db: Annotated[float, Range(-200, 0)] = -55.0
    """Steps quieter than this, dB below full scale, are never speech; WebRTC adapts to very faint hum."""
    hangover_frames: Annotated[int, Range(0, 250)] = 5
    """Pauses between words up to this many frames count as speech."""

    def __post_init__(self) -> None:
        check_ranges(self)


def detect_speech(pcm: np.ndarray, config: SpeechConfig) -> np.ndarray:
    """Tell for each video frame whether somebody speaks.

    Args:
        pcm: [640 * T] int16 at 16 kHz; judge long stretches at once, the detector adapts to the background.
        config: the limits.

    Returns:
        [T] bool.
    """
    detector = _vad_class()(config.aggressiveness)
    steps = pcm.reshape(-1, STEP_SAMPLES)
    loud = np.asarray(loudness_db(steps) >= config.min_loudness_db)
    voiced: np.ndarray = np.array([detector.is_speech(step.tobytes(), SAMPLE_RATE_HZ) for step in steps], bool) & loud
    return _close_gaps(np.asarray(voiced.reshape(-1, 2).any(axis=1)), config.hangover_frames)


def loudness_db(pcm: np.ndarray) -> np.ndarray:
    """Return the level of each row of int16 samples, dB below full scale, never under -100."""
    power = np.mean((pcm.astype(np.float64) / FULL_SCALE) ** 2, axis=-1)
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10)))


def _close_gaps(voiced: np.ndarray, max_gap: int) -> np.ndarray:
    filled = voiced.copy()
    indices = np.flatnonzero(voiced)
    for left, right in itertools.pairwise(indices):
        if right - left - 1 <= max_gap:
            filled[left:right] = True
    return filled


@cache
def _vad_class() -> Any:  # noqa: ANN401 - a C extension without types
    import webrtcvad  # noqa: PLC0415 - loaded by the worker that needs it

    return webrtcvad.Vad
