"""Distances: how early the sound is, from how far apart a network sees lips and sound; high trust."""

import numpy as np

from ...manifests.records import FRAME_RATE
from .estimate import MIN_FRAMES, SyncConfig, SyncEstimate, spread

LSE_SHIFT_FRAMES = 15
"""Range that SyncNet's own pipeline searches to either side (`PipelineConfig.vshift` of syncnet-python)."""
MIDDLE = 2
"""The frame that a window of five is centred on."""
MIN_SPEECH_WINDOWS = 15
"""Vectors of speech, .6 s, that a lead must rest on; chosen, not measured: real weights were not at hand."""


def distances(lips: np.ndarray, sound: np.ndarray, max_shift: int) -> np.ndarray:
    """Measure how far each vector of lips is from the sound that is heard at each lead.

    Args:
        lips: [N, D] float32.
        sound: [M, D] float32; vector k belongs to the same five frames as that of the lips.
        max_shift: leads are taken from -max_shift to +max_shift frames.

    Returns:
        [N, 2 max_shift + 1] float32; column c is for a lead of c - max_shift: what is seen at k is compared with what
        is heard `lead` frames earlier. NaN where that lies outside the sound.
    """
    apart = np.full((len(lips), 2 * max_shift + 1), np.nan, np.float32)
    for column, lead in enumerate(range(-max_shift, max_shift + 1)):
        first, last = max(0, lead), min(len(lips), len(sound) + lead)
        if first < last:
            gap = lips[first:last] - sound[first - lead : last - lead]
            apart[first:last, column] = np.linalg.norm(gap, axis=1)
    return apart


def lse(lips: np.ndarray, sound: np.ndarray, max_shift: int = LSE_SHIFT_FRAMES) -> tuple[int, float, float]:
    """Return offset, LSE-C and LSE-D as `SyncNetInstance.evaluate` does: over all frames, with zeros around the sound.

    Args:
        lips: [N, D] float32, at least one.
        sound: [M, D] float32; upstream leaves the lips' vectors beyond M out.
        max_shift: range of the offset, frames; papers that report LSE use 15.
    """
    seen = lips[: len(sound)]
    apart = distances(seen, sound, max_shift)
    # Upstream pads the sound with zero vectors, so what meets no sound is as far away as it is long.
    apart = np.where(np.isnan(apart), np.linalg.norm(seen, axis=1)[:, None], apart)
    mean = apart.mean(axis=0)
    least = float(mean.min())
    return int(mean.argmin()) - max_shift, float(np.median(mean)) - least, least


def estimate(lips: np.ndarray, sound: np.ndarray, voiced: np.ndarray, config: SyncConfig) -> SyncEstimate:
    """Measure how many frames the sound leads the picture, over speech only.

    Args:
        lips: [T - 4, D] float32, what a network made of the T frames of a clip.
        sound: [T - 5, D] float32, of its samples.
        voiced: [T] bool, where somebody speaks.
        config: range and windows.

    Returns:
        The lead is the median of the windows' (of the whole clip, where it has no two windows); its confidence is
        the median over leads of the mean distance less the smallest one.
    """
    _, lse_c, lse_d = lse(lips, sound) if len(sound) else (None, None, None)
    spoken = voiced[MIDDLE : MIDDLE + len(sound)]
    if len(voiced) < MIN_FRAMES or spoken.sum() < MIN_SPEECH_WINDOWS:
        return SyncEstimate(
            audio_lead_frames=0.0,
            confidence=0.0,
            curve=np.zeros(0, np.float32),
            spread_frames=None,
            trust="high",
            speech_s=0.0,
            lse_c=lse_c,
            lse_d=lse_d,
        )
    apart = distances(lips[: len(sound)], sound, config.max_shift_frames)
    whole, curve = _by_lead(apart[spoken]), _curve(apart, spoken, len(voiced), config)
    return SyncEstimate(
        audio_lead_frames=float(np.median(curve)) if len(curve) else _valley(whole),
        confidence=float(np.nanmedian(whole) - np.nanmin(whole)),
        curve=curve,
        spread_frames=spread(curve),
        trust="high",
        speech_s=float(spoken.sum()) / FRAME_RATE,
        lse_c=lse_c,
        lse_d=lse_d,
    )


def _by_lead(apart: np.ndarray) -> np.ndarray:
    """Return the mean distance [L] for each lead; NaN where less than half of the frames meet any sound."""
    met = ~np.isnan(apart)
    num_met = met.sum(axis=0)
    mean = np.where(met, apart, 0).sum(axis=0) / np.maximum(num_met, 1)
    return np.where(2 * num_met >= len(apart), mean, np.nan)


def _valley(mean: np.ndarray) -> float:
    """Return the lead, frames, with the smallest of mean distances [L], to a fraction of a frame."""
    low = int(np.nanargmin(mean))
    # A parabola through the minimum and its neighbours has its vertex at this fraction between them; where they do not
    # curve upwards (an edge, a flat valley) the whole frame is all that is known.
    minimum = float(low)
    if 0 < low < len(mean) - 1 and np.isfinite(mean[low - 1 : low + 2]).all():
        left, middle, right = mean[low - 1 : low + 2]
        if left + right > 2 * middle:
            minimum += 0.5 * (left - right) / (left - 2 * middle + right)
    return minimum - len(mean) // 2


def _curve(apart: np.ndarray, spoken: np.ndarray, num_frames: int, config: SyncConfig) -> np.ndarray:
    """Return the lead in each window along the clip that holds speech enough, [N] float32."""
    length, step = (round(seconds * FRAME_RATE) for seconds in (config.window_s, config.step_s))
    starts = range(0, num_frames - length + 1, max(step, 1))
    if len(starts) < 2:
        return np.zeros(0, np.float32)
    spans = [slice(start, start + length) for start in starts]
    spans = [span for span in spans if spoken[span].sum() >= MIN_SPEECH_WINDOWS]
    return np.array([_valley(_by_lead(apart[span][spoken[span]])) for span in spans], np.float32)
