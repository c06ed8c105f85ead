"""Write MP4 files, the only place that encodes pictures: the same pictures and samples give the same bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from itertools import chain
from math import gcd
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from scipy.signal import resample_poly

from ...manifests.errors import MediaError
from ...manifests.records import SAMPLE_RATE_HZ
from .container import decode_sound, open_container, pick_audio
from .mux import Timed, copied, decode_time, mux_by_time

AUDIO_BITS = 64_000
FILM_AUDIO_BITS = 160_000
BIT_EXACT = {"fflags": "+bitexact"}
"""No versions and dates in the file."""
TICK = Fraction(1, 90_000)
"""Both 1/25 s and 1001/30000 s are whole numbers of it."""
Shown = tuple[Fraction, np.ndarray]
"""Time at which a picture is shown, seconds, and the picture, [H, W, 3] uint8 RGB."""


@dataclass(frozen=True, kw_only=True)
class H264:
    """Settings of x264."""

    options: dict[str, str]
    """A fixed number of threads gives fixed bytes: x264 makes another stream with another number."""
    keyframe_every: int | None = None
    """Frames from one keyframe to the next; None: x264's own choice."""
    bit_exact: bool = True
    """Leave x264's version out of the stream."""


SMALL = H264(options={"preset": "veryfast", "crf": "21", "threads": "2"}, keyframe_every=75)
"""For previews and the demo."""
FINE = H264(options={"preset": "medium", "crf": "17"}, bit_exact=False)
"""Visually without loss: a film that is to be judged, not stored."""


class VideoTrack:
    """H.264 pictures of a file that is being written; the stream begins with the first picture, which has the size."""

    def __init__(self, container: OutputContainer, rate: Fraction, codec: H264) -> None:
        self._container, self._rate, self._codec = container, rate, codec
        self._stream: VideoStream | None = None
        self.num_frames = 0

    def encode(self, shown_s: Fraction, rgb: np.ndarray) -> list[Packet]:
        """Return the packets that are ready after a picture [H, W, 3] uint8 RGB; x264 holds some back."""
        if self._stream is None:
            self._stream = self._add_stream(rgb)
        frame = VideoFrame.from_ndarray(rgb, format="rgb24")
        frame.pts, frame.time_base = int(shown_s / TICK), TICK
        self.num_frames += 1
        return self._stream.encode(frame)

    def flush(self) -> list[Packet]:
        """Return the packets that were held back."""
        return [] if self._stream is None else self._stream.encode(None)

    def _add_stream(self, rgb: np.ndarray) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate, options=self._codec.options)
        stream.height, stream.width = rgb.shape[:2]
        # Colour at half the size needs even sides; players that cannot show the other kind are few.
        stream.pix_fmt = "yuv420p" if stream.height % 2 == stream.width % 2 == 0 else "yuv444p"
        stream.time_base = stream.codec_context.time_base = TICK
        if self._codec.keyframe_every is not None:
            stream.gop_size = self._codec.keyframe_every
        if self._codec.bit_exact:
            stream.codec_context.flags |= Flags.bitexact
        return stream


class SilentVideo:
    """A video without sound that is being made; holds its pictures compressed, some megabytes for ten seconds.

    Args:
        rate: nominal pictures a second; a picture lasts until the next one, the last one for 1 / rate.
        codec: settings of x264.
    """

    def __init__(self, rate: Fraction, codec: H264 = SMALL) -> None:
        self._file = BytesIO()
        self._container = av.open(self._file, "w", format="mp4", options=BIT_EXACT)
        self._track = VideoTrack(self._container, rate, codec)

    @property
    def num_frames(self) -> int:
        """Pictures that were added."""
        return self._track.num_frames

    def add(self, shown_s: Fraction, rgb: np.ndarray) -> None:
        """Add a picture [H, W, 3] uint8 RGB, shown from a time on, seconds; all of one size."""
        self._container.mux(self._track.encode(shown_s, rgb))

    def finish(self) -> bytes:
        """Return the whole MP4."""
        self._container.mux(self._track.flush())
        self._container.close()
        return self._file.getvalue()


def encode_video(pictures: Iterator[Shown], rate: Fraction) -> bytes:
    """Return an MP4 without sound; for the rate see `SilentVideo`."""
    video = SilentVideo(rate)
    for shown_s, rgb in pictures:
        video.add(shown_s, rgb)
    return video.finish()


def add_sound(video: bytes, pcm: np.ndarray, path: Path, *, sample_rate_hz: int, num_channels: int) -> None:
    """Write an MP4 with the pictures of `video` untouched and AAC sound that begins with them.

    Args:
        video: an MP4 as `SilentVideo` gives it.
        pcm: int16 [S] at 16 kHz.
        path: the file to write.
        sample_rate_hz: rate of the file.
        num_channels: 1, or 2 with the right one at half the level.
    """
    with (
        av.open(BytesIO(video), "r") as source,
        av.open(str(path), "w", format="mp4", options=BIT_EXACT) as target,
    ):
        footage = target.add_stream_from_template(source.streams.video[0])
        track = _add_aac(target, sample_rate_hz, num_channels)
        sound = _encode_sound(track, _resample(pcm, sample_rate_hz), num_channels)
        mux_by_time(target, sound, copied(source, source.streams.video[0], footage))


def write_film(path: Path, pictures: Iterator[Shown], *, rate: Fraction, sound: Path) -> int:
    """Write a film to look at: pictures at their own times, and a sound file's sound, which ends with the pictures.

    Args:
        path: the file to write.
        pictures: when each is shown, and what, all of one size.
        rate: nominal pictures a second.
        sound: a file with sound, which begins with the first picture.

    Returns:
        Number of pictures.

    Raises:
        MediaError: the sound cannot be read.
    """
    with open_container(sound) as heard, av.open(str(path), "w", format="mp4") as target:
        source = pick_audio(heard)
        if source is None:
            raise MediaError("no_audio_stream", f"{sound}: no audio stream; name another file")
        track = target.add_stream("aac", rate=source.codec_context.sample_rate, bit_rate=FILM_AUDIO_BITS)
        footage = VideoTrack(target, rate, FINE)
        lanes = _encode_pictures(footage, pictures), _encode_file(heard, source, track)
        mux_by_time(target, *lanes, ends=(0,))
        return footage.num_frames


def _encode_pictures(track: VideoTrack, pictures: Iterator[Shown]) -> Iterator[Timed]:
    """Yield packets by the time of the picture that brought them out; the last ones after sound up to that time."""
    shown_s = Fraction(0)
    for shown_s, rgb in pictures:
        for packet in track.encode(shown_s, rgb):
            yield shown_s, packet
    for packet in track.flush():
        yield shown_s + TICK, packet


def _add_aac(container: OutputContainer, sample_rate_hz: int, num_channels: int) -> AudioStream:
    stream = container.add_stream("aac", rate=sample_rate_hz, layout="mono" if num_channels == 1 else "stereo")
    stream.bit_rate = AUDIO_BITS
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _encode_sound(stream: AudioStream, samples: np.ndarray, num_channels: int) -> Iterator[Timed]:
    """Yield the packets of int16 samples [S]."""
    planes = (samples.astype(np.float32) / 32768)[None] * np.array([[1.0], [0.5]], np.float32)[:num_channels]
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=stream.layout.name)
    frame.sample_rate, frame.pts = stream.rate, 0
    yield from ((decode_time(packet), packet) for packet in [*stream.encode(frame), *stream.encode(None)])


def _encode_file(source: InputContainer, stream: AudioStream, track: AudioStream) -> Iterator[Timed]:
    """Yield the packets of a file's sound by the time at which each begins."""
    rate, written = stream.codec_context.sample_rate, 0
    resampler = av.AudioResampler(format="fltp", layout=stream.layout.name, rate=rate)
    for frame in chain(decode_sound(source, stream), (None,)):
        for part in resampler.resample(frame):
            part.pts, part.time_base = written, Fraction(1, rate)
            for packet in track.encode(part):
                yield Fraction(written, rate), packet
            written += part.samples
    for packet in track.encode(None):
        yield Fraction(written, rate), packet


def _resample(pcm: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return int16 [S * rate / 16000]; polyphase filters are symmetric, so nothing is shifted."""
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return pcm
    common = gcd(sample_rate_hz, SAMPLE_RATE_HZ)
    sound = resample_poly(pcm.astype(np.float64), sample_rate_hz // common, SAMPLE_RATE_HZ // common)
    return np.rint(sound).clip(-32768, 32767).astype(np.int16)
