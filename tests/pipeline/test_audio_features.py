"""Audio features: Whisper's own numbers, at the right place in time, for clips of any length."""

from typing import Any

import numpy as np
import pytest

from hs_data.manifests.records import SAMPLES_PER_FRAME
from hs_data.manifests.schema import FRAME_COLUMNS
from hs_data.pipeline.audio_features import AudioConfig, log_mel, spectrogram
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.networks import make_audio_features


def _sound(num_frames: int, seed: int = 0) -> np.ndarray:
    """Tones that come and go over noise: loud and quiet bins, so that the floor of 8 decades is met too."""
    random, num_samples = np.random.default_rng(seed), num_frames * SAMPLES_PER_FRAME
    time_s = np.arange(num_samples) / 16_000
    sound = 2 * random.normal(size=num_samples)
    for hz in (180, 700, 2500, 6000):
        sound += 6000 * np.sin(2 * np.pi * hz * time_s) * (np.sin(2 * np.pi * time_s * hz / 900) > 0)
    return np.round(sound).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize(
    "pcm",
    [
        _sound(25),
        _sound(26, seed=1),
        _sound(250, seed=2),
        _sound(1000, seed=3),
        np.zeros(25 * SAMPLES_PER_FRAME, np.int16),
        np.full(25 * SAMPLES_PER_FRAME, -32768, np.int16),
    ],
    ids=["1_s", "odd_length", "10_s", "40_s", "silence", "full_scale"],
)
def test_the_numbers_are_whispers_own(pcm: np.ndarray):
    whisper_audio = pytest.importorskip("whisper.audio")
    ours = log_mel(pcm)
    theirs = whisper_audio.log_mel_spectrogram(pcm.astype(np.float32) / 32768.0).numpy()  # [80, 100 * seconds]
    assert theirs.shape[1] == 4 * len(ours)
    np.testing.assert_allclose(ours.reshape(-1, 80).astype(np.float32), theirs.T, atol=1e-3)


@pytest.mark.parametrize("num_frames", [25, 1000], ids=["1_s", "40_s"])
@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.77, 1.0])
def test_a_click_at_the_start_of_a_frame_peaks_at_its_first_step(num_frames: int, place: float):
    frame = min(round(place * num_frames), num_frames - 1)
    pcm = np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16)
    pcm[frame * SAMPLES_PER_FRAME] = 32767
    energy = log_mel(pcm).reshape(-1, 80).astype(np.float32).sum(axis=1)
    loudest = np.flatnonzero(energy >= energy.max() - 1e-3)
    assert set(loudest) <= {4 * frame - 1, 4 * frame, 4 * frame + 1}
    quiet = np.abs(np.arange(len(energy)) - 4 * frame) > 1  # a window is 25 ms wide: 12.5 ms to either side
    assert energy[quiet].max() < energy.max() - 50


def test_a_click_in_the_middle_of_a_frame_peaks_in_its_middle():
    pcm = np.zeros(50 * SAMPLES_PER_FRAME, np.int16)
    pcm[20 * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2] = 32767
    energy = log_mel(pcm).astype(np.float32).sum(axis=2)  # [50, 4]
    assert np.unravel_index(int(energy.argmax()), energy.shape) == (20, 2)


@pytest.mark.parametrize("seconds", [1, 2, 7, 29, 30, 31, 60, 120])
def test_four_steps_a_frame_for_any_length(seconds: int):
    num_frames = 25 * seconds
    features = log_mel(np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16))
    assert features.shape == (num_frames, 4, 80)
    assert features.dtype == np.dtype(FRAME_COLUMNS["logmel"].dtype)
    assert features.shape[1:] == FRAME_COLUMNS["logmel"].shape


@pytest.mark.parametrize("num_frames", [1, 2, 3, 74, 75, 76, 251])
def test_four_steps_a_frame_for_odd_lengths(num_frames: int):
    features = log_mel(_sound(num_frames))
    assert features.shape == (num_frames, 4, 80)
    assert np.isfinite(features).all()
    assert -1.5 < features.min() < features.max() < 2.0


def test_frames_do_not_depend_on_what_is_far_away():
    """The first 20 s of a clip of 40 s are those of the clip cut at 20 s: nothing is padded to 30 s."""
    pcm = _sound(1000)
    whole, first = log_mel(pcm), log_mel(pcm[: 500 * SAMPLES_PER_FRAME])
    np.testing.assert_allclose(whole[:499].astype(np.float32), first[:499].astype(np.float32), atol=2e-3)


def test_a_tone_lights_its_own_bin():
    time_s = np.arange(25 * SAMPLES_PER_FRAME) / 16_000
    bins = []
    for hz in (300, 1000, 4000):
        features = log_mel((8000 * np.sin(2 * np.pi * hz * time_s)).astype(np.int16))
        bins.append(int(features[5:20].astype(np.float32).mean(axis=(0, 1)).argmax()))
    # Slaney's scale: 80 bins over 0-45.2 mel (8 kHz); 300 Hz is 4.5 mel, 1 kHz 15, 4 kHz 35.2.
    assert bins == pytest.approx([81 * 4.5 / 45.25 - 1, 81 * 15 / 45.25 - 1, 81 * 35.2 / 45.25 - 1], abs=1)


def test_features_are_made_behind_one_interface():
    features = make_audio_features(AudioConfig(), ModelsConfig())
    pcm = _sound(30)
    assert AudioConfig().columns == {features.name: features.column} == {"logmel": FRAME_COLUMNS["logmel"]}
    np.testing.assert_array_equal(features.features(pcm), log_mel(pcm))
    np.testing.assert_array_equal(log_mel(pcm).reshape(-1, 80), spectrogram(pcm).astype(np.float16))
    assert features.contract == {"id": "logmel", "revision": "1", "rate_hz": 100}


@pytest.mark.parametrize(("size", "shape"), [("tiny", (2, 5, 384)), ("base", (2, 7, 512)), ("small", (2, 13, 768))])
def test_each_size_of_whisper_names_its_weights_and_its_column(size: Any, shape: tuple[int, ...]):
    config = AudioConfig(backend="whisper", whisper=size)
    assert config.model_names == [f"whisper-{size}"]
    assert {name: column.shape for name, column in config.columns.items()} == {"whisper": shape}
    assert AudioConfig(whisper=size).model_names == []
