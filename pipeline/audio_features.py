"""Audio features a recipe conditions on: their interface, and log-mel with Whisper's own filters."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from ..manifests.errors import ModelError
from ..manifests.records import SAMPLES_PER_FRAME
from ..manifests.schema import FRAME_COLUMNS, Column, Contract

WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
"""Whisper's 25 ms window and 10 ms step at 16 kHz."""
NUM_MELS = 80
STEPS_PER_FRAME = SAMPLES_PER_FRAME // HOP_SAMPLES
DYNAMIC_RANGE = 8.0
"""Whisper keeps 8 decades below the loudest bin."""


WHISPER_COLUMNS = {
    "tiny": FRAME_COLUMNS["whisper"],
    "base": Column(dtype="<f2", shape=(2, 7, 512)),
    "small": Column(dtype="<f2", shape=(2, 13, 768)),
}
"""The output of the convolutions and of each of 4, 6 or 12 blocks; sizes of OpenAI's checkpoints."""


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Features that are stored beside the latents."""

    backend: Literal["logmel", "whisper"] = "logmel"
    """`logmel`: 80 mel bins at 100 Hz, no network; `whisper`: states of Whisper's encoder at 50 Hz."""
    whisper: Literal["tiny", "base", "small"] = "tiny"
    """Size of Whisper; HighSync and MuseTalk use tiny."""

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weights that the features need."""
        return [f"whisper-{self.whisper}"] if self.backend == "whisper" else []

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of a shard that come of sound, beside the samples themselves."""
        column = WHISPER_COLUMNS[self.whisper] if self.backend == "whisper" else FRAME_COLUMNS["logmel"]
        return {self.backend: column}


class AudioFeatures(Protocol):
    """Interface of an audio encoder."""

    name: str
    """Name of its column in a shard."""
    column: Column
    contract: Contract
    """Facts that a trainer must agree with."""

    def features(self, pcm: np.ndarray) -> np.ndarray:
        """Return the features [T, *column.shape] of a clip [640 * T] int16 at 16 kHz."""
        ...


class LogMel:
    """The log-mel spectrogram that Whisper hears, 100 Hz."""

    name = "logmel"
    column = FRAME_COLUMNS["logmel"]
    contract: Contract = {"id": "logmel", "revision": "1", "rate_hz": 100}  # noqa: RUF012 - a constant

    def features(self, pcm: np.ndarray) -> np.ndarray:
        """Return [T, 4, 80] float16 of a clip [640 * T] int16."""
        return log_mel(pcm)


def log_mel(pcm: np.ndarray) -> np.ndarray:
    """Return Whisper's log-mel spectrogram of a clip, cut into video frames.

    Args:
        pcm: [640 * T] int16 at 16 kHz.

    Returns:
        [T, 4, 80] float16, roughly in [-1, 1.5]; step 0 is centred on the frame's first sample.
    """
    return spectrogram(pcm).astype(np.float16).reshape(-1, STEPS_PER_FRAME, NUM_MELS)


def spectrogram(pcm: np.ndarray) -> np.ndarray:
    """Return Whisper's log-mel spectrogram of a clip.

    The same numbers as `whisper.log_mel_spectrogram` on the same samples; step `4 k` is centred on the first sample of
    frame k. Any length: there is no 30 s limit here.

    Args:
        pcm: [640 * T] int16 at 16 kHz.

    Returns:
        [4 * T, 80] float32, roughly in [-1, 1.5].
    """
    sound = pcm.astype(np.float32) / 32768.0
    padded = np.pad(sound, WINDOW_SAMPLES // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES][: len(pcm) // HOP_SAMPLES]
    power = np.abs(np.fft.rfft(frames * _window(), axis=1)).astype(np.float32) ** 2
    log = np.log10(np.maximum(power @ _mel_filters().T, 1e-10))
    log = np.maximum(log, log.max() - DYNAMIC_RANGE)
    return (log + 4.0) / 4.0


@cache
def _window() -> np.ndarray:
    # Periodic Hann, as torch.hann_window: numpy's own is symmetric.
    return np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)


@cache
def _mel_filters() -> np.ndarray:
    """Return [80, 201] float32 from the file that openai-whisper ships; found without importing it (and torch)."""
    spec = importlib.util.find_spec("whisper")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("mel filters: openai-whisper is not installed; install hs-data with all it needs")
    path = Path(spec.submodule_search_locations[0]) / "assets" / "mel_filters.npz"
    with np.load(path, allow_pickle=False) as filters:
        return filters["mel_80"]
