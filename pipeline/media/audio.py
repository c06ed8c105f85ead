"""The sound of a range of frames: 16 kHz mono on the clock of the picture."""

from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from itertools import islice
from math import ceil, floor
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.packet import Packet

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, SAMPLES_PER_FRAME, Video
from .container import StreamReader
from .deadline import DecodeDeadline
from .image_folder import sound_of
from .limits import MAX_SAMPLE_RATES, is_sound
from .resample import Resampler

PREROLL_S = 1
"""Decoded before the range and thrown away: AAC overlaps 2 packets, MP3 borrows bits from 10, Opus asks for 80 ms."""
LONGEST_JITTER_S = Fraction(1, 50)
"""Timestamps may stray this far (half a video frame) from an unbroken run of samples before the sound follows them."""
OVERRUN_S = Fraction(1, 10)
"""Sound decoded after the range: more than the resampling filter reaches."""
SILENT_SHARE = 1e-4
"""A channel with less than this share of the loudest one's energy (-40 dB) carries no sound."""


def read(
    path: Path, video: Video, *, start_frame: int, end_frame: int, deadline: DecodeDeadline | None = None
) -> np.ndarray:
    """Return the sound of frames `start_frame` to `end_frame` (not included): int16 [640 * (end_frame - start_frame)].

    Sample 640 * k is the start of frame k, by the timestamps of both streams: sound that begins late, has a gap or ends
    early is silent there. Priming is skipped as far as the container declares it. Of several streams the first is read.

    Channels are averaged. Where only one carries sound (a lapel microphone on the right of a stereo file) the average
    would halve it, so that channel is taken alone; this is decided over the range that is asked for.

    Raises:
        ValueError: the range is empty or negative.
        MediaError: `no_audio_stream`, `codec_missing`, `implausible_sound`, or `unavailable` when reading fails.
    """
    if not 0 <= start_frame < end_frame:
        raise ValueError(f"frames {start_frame} to {end_frame} are no range")
    with deadline or nullcontext(), StreamReader(sound_of(path), "audio") as reader:
        mix = _Mix(start_frame, end_frame)
        for position, frame in _Sound(reader, video).frames(Fraction(start_frame, FRAME_RATE)):
            if position > (Fraction(end_frame, FRAME_RATE) + OVERRUN_S) * frame.sample_rate:
                break
            mix.add(position, frame)
        return mix.finish()


class _Sound:
    """Decoded sound and where it belongs: source samples counted from the first video frame."""

    def __init__(self, reader: StreamReader, video: Video) -> None:
        self._reader = reader
        self._zero_s = video.start_s
        self._next: int | None = None  # where the run of samples goes on; None where timestamps have to tell
        self._rate_hz = 0
        self._grid: tuple[int, int] | None = None  # an exact frame edge and the usual length of a frame

    def frames(self, start_s: Fraction) -> Iterator[tuple[int, AudioFrame]]:
        """Yield `(position, frame)` from a second before `start_s` on."""
        target_s = start_s - PREROLL_S
        if target_s <= 0:
            yield from self._decode(self._reader.packets())
            return
        for position, frame in islice(self._decode(self._reader.packets()), 2):
            self._grid = (position + frame.samples, frame.samples)
        self._next = None
        yield from self._decode(self._reader.packets(floor((target_s + self._zero_s) / self._reader.time_base)))

    def _decode(self, packets: Iterator[Packet]) -> Iterator[tuple[int, AudioFrame]]:
        for packet in packets:
            try:
                decoded = packet.decode()
            except FFmpegError:
                # The lost samples leave a hole, which only the next timestamp can tell the size of.
                self._next = None
                continue
            for frame in decoded:
                if not isinstance(frame, AudioFrame) or not frame.samples:
                    continue
                if is_sound(frame.sample_rate, frame.layout.nb_channels):
                    yield self._place(frame), frame
                else:
                    self._next = None  # damage: a hole, as above

    def _place(self, frame: AudioFrame) -> int:
        """Return the position of a frame: right after the one before, unless its timestamp clearly says otherwise."""
        if frame.sample_rate != self._rate_hz:
            self._rate_hz, self._next = frame.sample_rate, None
        position = self._next or 0
        if frame.pts is not None:
            told = floor((frame.pts * self._reader.time_base - self._zero_s) * self._rate_hz + Fraction(1, 2))
            if self._next is None or abs(told - self._next) > LONGEST_JITTER_S * self._rate_hz:
                position = self._snap(told, frame.samples)
        self._next = position + frame.samples
        return position

    def _snap(self, told: int, num_samples: int) -> int:
        """Undo the rounding of a timestamp after a seek, so that sound lands on the sample where a full read puts it.

        Matroska rounds to milliseconds, 16 samples of 16 kHz. In an unbroken stream frames lie a whole number of frame
        lengths apart; a timestamp within one tick of such a place means that place.
        """
        if self._grid is None or self._grid[1] != num_samples:
            return told
        edge, length = self._grid
        exact = edge + round((told - edge) / length) * length
        return exact if abs(exact - told) <= ceil(self._reader.time_base * self._rate_hz) else told


class _Mix:
    """Sums sound of any format into one channel at 16 kHz."""

    def __init__(self, start_frame: int, end_frame: int) -> None:
        self._start, self._end = start_frame, end_frame
        self._out = np.zeros((end_frame - start_frame) * SAMPLES_PER_FRAME, np.float32)
        self._resamplers: dict[int, Resampler] = {}  # by source rate, which broadcasts change in mid-stream
        self._energy = np.zeros(0)  # [C], over the range

    def add(self, position: int, frame: AudioFrame) -> None:
        """Add one decoded frame at source sample `position`."""
        rate_hz = frame.sample_rate
        if rate_hz not in self._resamplers:
            if len(self._resamplers) == MAX_SAMPLE_RATES:
                raise MediaError("implausible_sound", f"more than {MAX_SAMPLE_RATES} sample rates in one stretch")
            self._resamplers[rate_hz] = Resampler(rate_hz, self._out, self._start * SAMPLES_PER_FRAME)
        samples = _to_float(frame)
        if position + frame.samples > Fraction(self._start * rate_hz, FRAME_RATE) and (
            position < Fraction(self._end * rate_hz, FRAME_RATE)
        ):
            self._energy = np.pad(self._energy, (0, max(0, len(samples) - len(self._energy))))
            self._energy[: len(samples)] += np.einsum("cs,cs->c", samples, samples)
        self._resamplers[rate_hz].add(position, samples.mean(axis=0))

    def finish(self) -> np.ndarray:
        """Return the range: int16 [S]."""
        for resampler in self._resamplers.values():
            resampler.finish()
        loud = self._energy > SILENT_SHARE * self._energy.max(initial=0)
        gain = len(loud) if loud.sum() == 1 else 1
        return np.rint(self._out * (gain * 32768)).clip(-32768, 32767).astype(np.int16)


def _to_float(frame: AudioFrame) -> np.ndarray:
    """Return the samples of a frame: float32 [C, n] in [-1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / 2.0 ** (8 * samples.dtype.itemsize - 1)
    return samples.astype(np.float32, copy=False)
