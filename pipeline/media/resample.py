"""Resample to 16 kHz block by block, on an absolute time axis, without delay."""

from math import ceil, gcd

import numpy as np
from scipy.signal import resample_poly

from ...manifests.records import SAMPLE_RATE_HZ

BLOCK_S = 10
"""Seconds that are resampled at a time: 2 MB of float32 at 48 kHz."""
TAPS_PER_SIDE = 20
"""Filter taps on each side, in samples of the lower rate: twice scipy's default, which passes aliases near 8 kHz."""
KAISER_BETA = 8.0
"""80 dB of stop band, near the noise floor of 16-bit audio."""


class Resampler:
    """Add sound of one sample rate, given by position, to 16 kHz output.

    Source sample i and output sample j stand for the times i / rate_hz and j / 16000 after the first video frame. The
    filter is symmetric and its centre is compensated, so an impulse stays where it is, and the result does not depend
    on where blocks begin. Positions where nothing was added are silent. Sound has to arrive in about its order in time:
    what is more than a block late is dropped.

    Args:
        rate_hz: sample rate of the source.
        out: float32 [S], added to in place.
        first: output sample that `out[0]` is, counted from the first video frame.
    """

    def __init__(self, rate_hz: int, out: np.ndarray, first: int) -> None:
        common = gcd(rate_hz, SAMPLE_RATE_HZ)
        self._up, self._down = SAMPLE_RATE_HZ // common, rate_hz // common
        self._out, self._first = out, first
        self._taps = self._design()
        # All edges are multiples of `down`, where source and output samples coincide.
        half = (len(self._taps) // 2) / self._up
        self._margin = self._down * ceil((half + 1) / self._down)
        self._block = self._down * ceil(BLOCK_S * rate_hz / self._down)
        self._base = first // self._up * self._down
        self._buffer = np.zeros(self._block + 2 * self._margin, np.float32)

    def add(self, position: int, samples: np.ndarray) -> None:
        """Put `samples` (float32 [n]) at source sample `position`, over what is there."""
        while len(samples):
            index = position - (self._base - self._margin)
            if index >= len(self._buffer):
                self._flush()
                continue
            late = max(0, -index)
            part = samples[late : len(self._buffer) - index]
            self._buffer[index + late : index + late + len(part)] = part
            taken = late + len(part)
            position, samples = position + taken, samples[taken:]

    def finish(self) -> None:
        """Write out what is still in the buffer; the end of the last margin belongs to a block of its own."""
        self._flush()
        self._flush()

    def _design(self) -> np.ndarray:
        """Return a low-pass for the lower of both rates, at the common rate."""
        if self._up == self._down:
            return np.ones(1, np.float32)
        widest = max(self._up, self._down)
        taps = np.arange(-TAPS_PER_SIDE * widest, TAPS_PER_SIDE * widest + 1)
        windowed = np.sinc(taps / widest) * np.kaiser(len(taps), KAISER_BETA)
        return (windowed / windowed.sum()).astype(np.float32)

    def _flush(self) -> None:
        """Resample the middle of the buffer into `out` and move on by a block."""
        if self._buffer.any():
            lead, length = (count * self._up // self._down for count in (self._margin, self._block))
            # The margins give the filter what it needs on both sides, and are cut off again: no block has an edge.
            block = resample_poly(self._buffer, self._up, self._down, window=self._taps)[lead : lead + length]
            start = self._base // self._down * self._up - self._first
            low, high = max(0, start), min(len(self._out), start + length)
            if low < high:
                self._out[low:high] += block[low - start : high - start]
        # The end of this block is the margin before the next one, and the margin after it is that block's beginning.
        self._buffer[: 2 * self._margin] = self._buffer[self._block :].copy()
        self._buffer[2 * self._margin :] = 0
        self._base += self._block
