"""Synthetic speech: syllables of formant-filtered glottal pulses and fricative noise, and the mouth that says them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from ...manifests.records import SAMPLE_RATE_HZ

MARGIN_S = 1.0
"""Speech exists this long before and after the picture, so that a shifted sound has no silent end."""
MARGIN_SAMPLES = round(MARGIN_S * SAMPLE_RATE_HZ)
VOWELS = {
    "a": (0.95, (800, 1250, 2700)),
    "e": (0.65, (550, 1900, 2600)),
    "i": (0.40, (320, 2300, 3000)),
    "o": (0.75, (500, 900, 2600)),
    "u": (0.45, (350, 800, 2400)),
}
"""Mouth opening (0-1) and the first three formants, Hz, after Peterson and Barney (1952), rounded."""
FORMANT_WIDTHS_HZ = (80, 110, 170)
ROOM_DB = -60.0
"""Level of the room's noise, dB below full scale."""
RISE_SHARE = 0.4
"""Part of a syllable in which the mouth opens; it closes more slowly."""
VOICED_FROM = 0.2
"""The lips part before they sound: the voice begins and ends at this share of a syllable's opening."""
HISS_AT, HISS_WIDTH = 0.3, 0.15
"""Middle and width of a fricative, in durations of its syllable: while the mouth opens."""
REACH = 1.25
"""Syllables reach into each other by this factor: the mouth need not close between them."""


@dataclass(frozen=True, kw_only=True)
class Syllable:
    """One opening of the mouth."""

    start_s: float
    duration_s: float
    vowel: str
    openness: float
    """Largest opening, 0-1."""
    pitch_hz: float
    hiss: float
    """Loudness of the fricative it begins with; 0: none."""


class Speech:
    """A voice that talks through a clip; the same seed says the same words.

    Args:
        seed: what is said.
        duration_s: length of the clip; time 0 is its first frame.
        pitch_hz: mean pitch of the voice.
    """

    def __init__(self, seed: int, duration_s: float, pitch_hz: float = 200.0) -> None:
        self._seed = seed
        self._num_samples = round((duration_s + 2 * MARGIN_S) * SAMPLE_RATE_HZ)
        self.syllables = _talk(np.random.default_rng(seed), duration_s, pitch_hz)

    def opening(self, times_s: np.ndarray) -> np.ndarray:
        """Return how far the mouth is open at each time: [N] float64, 0 (lips together) to 1."""
        if not self.syllables:
            return np.zeros(len(times_s))
        start_s, duration_s, openness = np.array([(s.start_s, s.duration_s, s.openness) for s in self.syllables]).T
        return np.max(openness * _bump((times_s[:, None] - start_s) / duration_s), axis=1)  # [N, syllables] -> [N]

    def pcm(self, num_samples: int, *, lead_samples: int = 0) -> np.ndarray:
        """Return int16 [num_samples] at 16 kHz: sound from time 0 on, early by `lead_samples` (late if below 0)."""
        start = MARGIN_SAMPLES + lead_samples
        if start < 0 or start + num_samples > len(self._sound):
            raise ValueError(f"{num_samples} samples that are {lead_samples} early: there is only a second to spare")
        return self._sound[start : start + num_samples]

    @cached_property
    def _sound(self) -> np.ndarray:
        """The whole speech with its margins, int16 [S]."""
        rng = np.random.default_rng([self._seed, 1])
        sound = rng.normal(0, 10 ** (ROOM_DB / 20), self._num_samples)
        for syllable in self.syllables:
            first = round((syllable.start_s + MARGIN_S) * SAMPLE_RATE_HZ)
            voice = _pronounce(syllable, rng)[: max(0, self._num_samples - first)]
            sound[first : first + len(voice)] += voice
        return np.rint(sound * 32767).clip(-32768, 32767).astype(np.int16)


class Silence(Speech):
    """Nobody talks: lips together.

    Args:
        duration_s: length of the clip.
        room: whether the room is heard; without, every sample is 0.
    """

    def __init__(self, duration_s: float, *, room: bool) -> None:
        super().__init__(0, duration_s)
        self.syllables = []
        self._is_heard = room

    def pcm(self, num_samples: int, *, lead_samples: int = 0) -> np.ndarray:
        """Return faint noise or zeros, int16 [num_samples]."""
        return super().pcm(num_samples, lead_samples=lead_samples) * np.int16(self._is_heard)


def _talk(rng: np.random.Generator, duration_s: float, pitch_hz: float) -> list[Syllable]:
    """Draw syllables at 2.5 to 7 Hz in breaths of 3 to 8 with pauses, too irregular to fit when shifted."""
    syllables: list[Syllable] = []
    time_s = -MARGIN_S + 0.05
    left_in_breath = int(rng.integers(3, 9))
    while time_s < duration_s + MARGIN_S - 0.5:
        vowel = str(rng.choice(list(VOWELS)))
        openness = VOWELS[vowel][0] * rng.uniform(0.7, 1.05)
        length_s = 0.12 + 0.17 * openness * rng.uniform(0.5, 1.5)
        hiss = rng.uniform(0.02, 0.05) if rng.random() < 0.35 else 0.0
        pitch = pitch_hz * rng.uniform(0.88, 1.15)
        what = {"vowel": vowel, "openness": openness, "pitch_hz": pitch, "hiss": hiss}
        syllables.append(Syllable(start_s=time_s, duration_s=length_s, **what))
        left_in_breath -= 1
        time_s += length_s * rng.uniform(0.9, 1.2)
        if left_in_breath == 0:
            time_s += rng.uniform(0.2, 0.6)
            left_in_breath = int(rng.integers(3, 9))
    return syllables


def _bump(progress: np.ndarray) -> np.ndarray:
    """Return the course of a syllable, 0 to 1, up and down like a cosine; `progress` counts in its duration."""
    progress = progress / REACH
    phase = np.where(progress < RISE_SHARE, progress / RISE_SHARE, 1 + (progress - RISE_SHARE) / (1 - RISE_SHARE))
    return 0.5 * (1 - np.cos(np.pi * phase.clip(0, 2)))


def _pronounce(syllable: Syllable, rng: np.random.Generator) -> np.ndarray:
    """Return the sound of one syllable, float64 [n] about 0.3 at the loudest, as loud as the mouth is open."""
    times_s = np.arange(round(syllable.duration_s * REACH * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    voice = _buzz(syllable, times_s, rng)
    for formant_hz, width_hz in zip(VOWELS[syllable.vowel][1], FORMANT_WIDTHS_HZ, strict=True):
        voice = _resonate(voice, formant_hz, width_hz)
    progress = times_s / syllable.duration_s
    loudness = np.clip((_bump(progress) - VOICED_FROM) / (1 - VOICED_FROM), 0, None) ** 0.7
    voice *= 0.12 * syllable.openness * loudness / np.sqrt(np.mean(voice**2))
    band = butter(2, (3000, 7000), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    hiss = np.asarray(sosfilt(band, rng.normal(size=len(times_s))))
    return voice + syllable.hiss * hiss * np.exp(-(((progress - HISS_AT) / HISS_WIDTH) ** 2))


def _buzz(syllable: Syllable, times_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return glottal pulses: falling pitch with jitter, each period a slow rise and a sudden end."""
    jitter = np.asarray(lfilter([0.02], [1, -0.98], rng.normal(0, 0.3, len(times_s))))
    pitch_hz = syllable.pitch_hz * (1.06 - 0.12 * times_s / syllable.duration_s) * (1 + jitter)
    phase = np.cumsum(pitch_hz / SAMPLE_RATE_HZ) % 1
    flow = np.where(phase < 0.7, np.sin(np.pi * phase / 0.7) ** 2, 0)
    return np.diff(flow, prepend=0) + 0.01 * rng.normal(size=len(phase))


def _resonate(sound: np.ndarray, formant_hz: float, width_hz: float) -> np.ndarray:
    radius = np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ)
    turn = 2 * np.pi * formant_hz / SAMPLE_RATE_HZ
    return np.asarray(lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], sound))
