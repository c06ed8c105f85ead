"""Audio features a recipe conditions on: log-mel with Whisper's own filters, four steps of 10 ms a video frame."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from ..manifests.errors import ModelError
from ..manifests.records import SAMPLES_PER_FRAME

WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
"""Whisper's 25 ms window and 10 ms step at 16 kHz."""
NUM_MELS = 80
STEPS_PER_FRAME = SAMPLES_PER_FRAME // HOP_SAMPLES
DYNAMIC_RANGE = 8.0
"""Whisper keeps 8 decades below the loudest bin."""


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Which features are stored beside the latents."""

    backend: Literal["logmel"] = "logmel"
    """`logmel`: 80 mel bins at 100 Hz, no network."""

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weights that the features need."""
        return []


def log_mel(pcm: np.ndarray) -> np.ndarray:
    """Return Whisper's log-mel spectrogram of a clip, cut into video frames.

    The same numbers as `whisper.log_mel_spectrogram` on the same samples; step `4 k` is centred on the first sample of
    frame k. Any length: there is no 30 s limit here.

    Args:
        pcm: [640 * T] int16 at 16 kHz.

    Returns:
        [T, 4, 80] float16, roughly in [-1, 1.5].
    """
    sound = pcm.astype(np.float32) / 32768.0
    padded = np.pad(sound, WINDOW_SAMPLES // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES][: len(pcm) // HOP_SAMPLES]
    power = np.abs(np.fft.rfft(frames * _window(), axis=1)).astype(np.float32) ** 2
    log = np.log10(np.maximum(power @ _mel_filters().T, 1e-10))
    log = np.maximum(log, log.max() - DYNAMIC_RANGE)
    return ((log + 4.0) / 4.0).astype(np.float16).reshape(-1, STEPS_PER_FRAME, NUM_MELS)


@cache
def _window() -> np.ndarray:
    # Periodic Hann, as torch.hann_window: numpy's own is symmetric.
    return np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)


@cache
def _mel_filters() -> np.ndarray:
    """Return [80, 201] float32 from the file that openai-whisper ships; found without importing it (and torch)."""
    spec = importlib.util.find_spec("whisper")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("mel filters: openai-whisper is not installed; pip install openai-whisper")
    path = Path(spec.submodule_search_locations[0]) / "assets" / "mel_filters.npz"
    with np.load(path, allow_pickle=False) as filters:
        return filters["mel_80"]
