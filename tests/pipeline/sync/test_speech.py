"""Speech: which frames carry a voice, how pauses are closed, and what is too quiet to count."""

from pathlib import Path

import numpy as np
import pytest

from hs_data.manifests.records import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from hs_data.pipeline.sync import speech
from hs_data.pipeline.sync.speech import SpeechConfig, detect_speech, loudness_db


def _tone(num_samples: int, level_db: float, hz: float = 440.0) -> np.ndarray:
    """A sine of this power, dB below full scale."""
    amplitude = 32768 * np.sqrt(2) * 10 ** (level_db / 20)
    return np.round(amplitude * np.sin(2 * np.pi * hz * np.arange(num_samples) / SAMPLE_RATE_HZ)).astype(np.int16)


def _voice(num_frames: int, seed: int = 0) -> np.ndarray:
    """Something like a vowel: pulses at 120 Hz, shaped by three formants, with a little breath."""
    num_samples, random = num_frames * SAMPLES_PER_FRAME, np.random.default_rng(seed)
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    sound = 0.01 * random.normal(size=num_samples)
    for harmonic in range(1, 33):
        hz = 120 * harmonic
        gain = sum(w / (1 + ((hz - f) / 80) ** 2) for f, w in ((700, 1.0), (1200, 0.5), (2600, 0.25)))
        sound += gain * np.sin(2 * np.pi * hz * time_s + random.uniform(0, 6))
    sound *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time_s)  # four syllables a second
    return np.round(sound / np.abs(sound).max() * 12000).astype(np.int16)


# --- loudness


@pytest.mark.parametrize("level_db", [-10.0, -30.0, -55.0])
def test_the_level_of_a_tone_is_its_power(level_db: float):
    assert loudness_db(_tone(16000, level_db)) == pytest.approx(level_db, abs=0.2)


def test_full_scale_is_zero_and_silence_is_a_hundred_below():
    assert loudness_db(np.full(640, -32768, np.int16)) == pytest.approx(0.0)
    assert loudness_db(np.zeros(640, np.int16)) == -100.0


def test_each_row_has_a_level_of_its_own():
    rows = np.stack([_tone(640, -20), np.zeros(640, np.int16), _tone(640, -40)])
    assert loudness_db(rows) == pytest.approx([-20, -100, -40], abs=0.1)


# --- WebRTC's detector, really run


def test_silence_is_no_speech():
    voiced = detect_speech(np.zeros(100 * SAMPLES_PER_FRAME, np.int16), SpeechConfig())
    assert (voiced.dtype, voiced.shape, voiced.sum()) == (bool, (100,), 0)


def test_a_voice_is_found_where_it_is():
    pcm = np.zeros(200 * SAMPLES_PER_FRAME, np.int16)
    pcm[50 * SAMPLES_PER_FRAME : 120 * SAMPLES_PER_FRAME] = _voice(70)
    voiced = detect_speech(pcm, SpeechConfig())
    assert voiced[50:120].mean() > 0.95
    assert voiced[:49].sum() == 0
    assert voiced[125:].sum() == 0, "WebRTC's own tail is about 100 ms, and those steps are silent"


def test_faint_hum_is_no_speech_though_the_detector_adapts_to_it():
    faint = (_voice(100) / 12000 * 20).astype(np.int16)  # the same voice, 75 dB below full scale
    assert loudness_db(faint) < -70
    assert detect_speech(faint, SpeechConfig()).sum() == 0


def test_a_real_talker_speaks_most_of_the_time(media: Path):
    import av
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
    with av.open(media / "FuxiVirtualHuman__styletalk_Obama_clip1_muxed.mp4") as container:
        parts = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    pcm = np.concatenate(parts)
    voiced = detect_speech(pcm[: len(pcm) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME], SpeechConfig())
    assert len(voiced) >= 75
    assert voiced.mean() > 0.6


# --- the rules around it, with a detector that takes what is loud for speech


class _Loud:
    """Takes a step for speech when its first sample says so."""

    def __init__(self, aggressiveness: int) -> None:
        assert 0 <= aggressiveness <= 3

    def is_speech(self, step: bytes, sample_rate_hz: int) -> bool:
        samples = np.frombuffer(step, np.int16)
        assert (len(samples), sample_rate_hz) == (320, 16_000)
        return bool(samples[0] > 1000)


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "_vad_class", lambda: _Loud)


def _steps(*frames: int, num_frames: int = 40, half: int = 0, level: int = 5000) -> np.ndarray:
    """Loud in one half of each of these frames."""
    pcm = np.zeros((num_frames, 2, 320), np.int16)
    pcm[list(frames), half] = level
    return pcm.reshape(-1)


@pytest.mark.usefixtures("loud")
@pytest.mark.parametrize("half", [0, 1])
def test_one_half_of_a_frame_is_enough(half: int):
    assert np.flatnonzero(detect_speech(_steps(7, half=half), SpeechConfig())).tolist() == [7]


@pytest.mark.usefixtures("loud")
@pytest.mark.parametrize(
    ("pause", "config", "is_closed"),
    [(5, {}, True), (6, {}, False), (2, {"hangover_frames": 2}, True), (3, {"hangover_frames": 2}, False)],
)
def test_pauses_between_words_are_closed_up_to_the_limit(pause: int, config: dict, is_closed: bool):
    voiced = detect_speech(_steps(10, 11 + pause), SpeechConfig(**config))
    expected = range(10, 12 + pause) if is_closed else (10, 11 + pause)
    assert np.flatnonzero(voiced).tolist() == list(expected)


@pytest.mark.usefixtures("loud")
def test_silence_before_the_first_and_after_the_last_word_stays_silence():
    assert np.flatnonzero(detect_speech(_steps(3, 37), SpeechConfig())).tolist() == [3, 37]


@pytest.mark.usefixtures("loud")
def test_no_hangover_leaves_every_pause():
    voiced = detect_speech(_steps(10, 12), SpeechConfig(hangover_frames=0))
    assert np.flatnonzero(voiced).tolist() == [10, 12]


@pytest.mark.usefixtures("loud")
def test_what_is_below_the_least_loudness_never_counts():
    pcm = _steps(10, level=2000)  # 24.3 dB below full scale
    assert detect_speech(pcm, SpeechConfig(min_loudness_db=-24.5)).sum() == 1
    assert detect_speech(pcm, SpeechConfig(min_loudness_db=-24.0)).sum() == 0


@pytest.mark.parametrize("values", [{"aggressiveness": 4}, {"aggressiveness": -1}, {"hangover_frames": -1}], ids=str)
def test_impossible_settings_are_refused(values: dict):
    with pytest.raises(ValueError, match=f"{next(iter(values))}: .* is out of range"):
        SpeechConfig(**values)
