"""Correlation: how early the sound is, from mouth opening and sound alone; a rough estimate, low trust."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from ...manifests.records import FRAME_RATE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from .estimate import MIN_FRAMES, SyncConfig, SyncEstimate, spread

STEPS = 4
"""Steps of the analysis in a video frame: 100 a second, the usual rate of speech features."""
HOP_SAMPLES = SAMPLES_PER_FRAME // STEPS
WINDOW_SAMPLES = 400
"""25 ms, the usual window of speech features."""
SPEECH_HZ = (300, 3400)
"""The telephone band: where onsets of voiced sounds are looked for."""
HISS_HZ = (2500, 7000)
"""Band in which s, sh, t, k and breath are strong; a closed mouth, humming or silent, makes none."""
LEVEL, LEAST_LEVEL = 0.07, 0.001
"""Sound is brought to this RMS, full scale 1 (-23 dB, as in broadcasts), but none is taken to be below -60 dB."""
QUIET = 4e-3
"""Added to spectral power before the logarithm: white noise 44 dB under the level of the clip in the hiss band, 23 dB
in one line of the voice's spectrum. Pauses then have no features of their own."""
SMOOTHING = 2.0
"""Standard deviation of the smoothing of every signal, steps."""
LEAST_CORRELATION = 1e-3
"""Windows below are rounding noise: nothing is heard or nothing moves."""
DELAYS = (0.0, 0.5)
"""Leads, frames, at which the two correlations peak in clips that are in sync; GRID, known to be so, comes out at 0."""


def estimate(opening: np.ndarray, pcm: np.ndarray, config: SyncConfig) -> SyncEstimate:
    """Measure how many frames the sound leads the picture.

    Two things are compared: how far the mouth is open with the strength of hiss, and how fast it moves with how fast
    the spectrum of the voice grows.

    Args:
        opening: [T] mouth opening, frame k standing for the time from k/25 to (k+1)/25 s.
        pcm: [640 * T] int16 at 16 kHz, beginning at the start of the first frame.
        config: range and windows.
    """
    assert len(pcm) == SAMPLES_PER_FRAME * len(opening), "sound and picture must be of one length"
    reach = config.max_shift_frames * STEPS
    if len(opening) < MIN_FRAMES or np.ptp(opening) < 1e-6 or not pcm.any():
        empty = np.zeros(0, np.float32)
        return SyncEstimate(audio_lead_frames=0.0, confidence=0.0, curve=empty, spread_frames=None, trust="low")
    seen, heard = _seen(opening.astype(np.float64)), _heard(pcm)
    whole = _correlate(seen, heard, reach)
    curve = _curve(seen, heard, reach, config)
    return SyncEstimate(
        audio_lead_frames=_peak(whole) if whole.max() > 0 else 0.0,
        confidence=float(max(whole.max(), 0.0)),
        curve=curve,
        spread_frames=spread(curve),
        trust="low",
    )


def _seen(opening: np.ndarray) -> np.ndarray:
    """Return the mouth at 100 steps a second: how far it is open, and how fast that changes; [2, 4 T]."""
    times = (np.arange(STEPS * len(opening)) + 0.5) / STEPS - 0.5
    fine = CubicSpline(np.arange(len(opening)), opening)(np.clip(times, 0, len(opening) - 1))
    speed = np.abs(np.gradient(gaussian_filter1d(fine, SMOOTHING)))
    return np.stack([_band(fine), _band(speed)])


def _heard(pcm: np.ndarray) -> np.ndarray:
    """Return the sound at the same steps: log power of the hiss, and growth of the voice's spectrum; [2, 4 T]."""
    power, hertz = _spectrum(pcm)
    hiss = np.log(power[:, _between(hertz, HISS_HZ)].sum(axis=1) + QUIET)
    voice = np.log(power[:, _between(hertz, SPEECH_HZ)] + QUIET)
    growth = np.maximum(np.diff(voice, axis=0, prepend=voice[:1]), 0).mean(axis=1)
    return np.stack([_band(hiss), _band(growth)])


def _spectrum(pcm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum [4 T, 257] of 25 ms windows centred on the steps, at one level, and its frequencies [257], Hz."""
    sound = pcm.astype(np.float32) / 32768
    sound *= LEVEL / max(float(np.sqrt(np.mean(sound**2))), LEAST_LEVEL)
    padded = np.pad(sound, ((WINDOW_SAMPLES - HOP_SAMPLES) // 2, WINDOW_SAMPLES))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES]
    windows = windows[: len(pcm) // HOP_SAMPLES] * np.hanning(WINDOW_SAMPLES).astype(np.float32)
    return np.abs(np.fft.rfft(windows, 512)) ** 2, np.fft.rfftfreq(512, 1 / SAMPLE_RATE_HZ)


def _between(hertz: np.ndarray, band: tuple[int, int]) -> np.ndarray:
    return (hertz >= band[0]) & (hertz <= band[1])


def _band(signal: np.ndarray) -> np.ndarray:
    """Keep what changes within a second but not from step to step: syllables."""
    slow = uniform_filter1d(signal, STEPS * FRAME_RATE, mode="reflect")
    return gaussian_filter1d(signal - slow, SMOOTHING)


def _correlate(seen: np.ndarray, heard: np.ndarray, reach: int) -> np.ndarray:
    """Mean correlation of the pairs of signals [2, S] for each lead from -reach to +reach steps, [2 reach + 1]."""
    pairs = [
        [_correlation_at(see, hear, lead + round(delay * STEPS)) for lead in range(-reach, reach + 1)]
        for see, hear, delay in zip(seen, heard, DELAYS, strict=True)
    ]
    return np.mean(pairs, axis=0)


def _correlation_at(seen: np.ndarray, heard: np.ndarray, lead: int) -> float:
    """Correlate what is heard at a step with what is seen `lead` steps later: sound that is early is heard first."""
    late = seen[max(lead, 0) : len(seen) + min(lead, 0)]
    early = heard[max(-lead, 0) : len(heard) - max(lead, 0)]
    late, early = late - late.mean(), early - early.mean()
    scale = np.sqrt((late @ late) * (early @ early))
    return float(late @ early / scale) if scale > 0 else 0.0


def _peak(correlation: np.ndarray) -> float:
    """Place of the maximum in frames, between the steps by a parabola through its neighbours."""
    top = int(correlation.argmax())
    peak = float(top)
    # The vertex of a parabola through the top and its neighbours: a step is 10 ms, and leads are wanted finer.
    if 0 < top < len(correlation) - 1:
        left, middle, right = correlation[top - 1 : top + 2]
        peak += 0.5 * (left - right) / (left - 2 * middle + right)
    return (peak - len(correlation) // 2) / STEPS


def _curve(seen: np.ndarray, heard: np.ndarray, reach: int, config: SyncConfig) -> np.ndarray:
    """Lead in each window along the clip, [N] float32."""
    length, step = (round(seconds * FRAME_RATE * STEPS) for seconds in (config.window_s, config.step_s))
    starts = range(0, seen.shape[1] - length + 1, step)
    if len(starts) < 2:
        return np.zeros(0, np.float32)
    spans = [slice(start, start + length) for start in starts]
    found = [_correlate(seen[:, span], heard[:, span], reach) for span in spans]
    # A window of silence or of a still mouth says nothing, least of all -15.
    return np.array([_peak(each) for each in found if each.max() > LEAST_CORRELATION], np.float32)
