"""Write MP4 files with PyAV: the same pictures and samples give the same bytes."""

from collections.abc import Iterator
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
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from scipy.signal import resample_poly

from ...manifests.records import SAMPLE_RATE_HZ

X264 = {"preset": "veryfast", "crf": "21", "threads": "2"}
"""A fixed number of threads, because x264 makes another stream with another number."""
KEYFRAME_EVERY = 75
AUDIO_BITS = 64_000
BIT_EXACT = {"fflags": "+bitexact"}
"""No versions and dates in the file."""
TICK = Fraction(1, 90_000)
"""Both 1/25 s and 1001/30000 s are whole numbers of it."""
Shown = tuple[Fraction, np.ndarray]


def encode_video(pictures: Iterator[Shown], rate: Fraction) -> bytes:
    """Return an MP4 without sound.

    Args:
        pictures: when each is shown, seconds, and what, [H, W, 3] uint8 RGB.
        rate: nominal pictures a second; a picture lasts until the next one, the last one for 1 / rate.
    """
    file = BytesIO()
    first = next(pictures)
    with av.open(file, "w", format="mp4", options=BIT_EXACT) as container:
        stream = _add_x264(container, rate, first[1])
        for shown_s, rgb in chain((first,), pictures):
            frame = VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts, frame.time_base = int(shown_s / TICK), TICK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def add_sound(video: bytes, pcm: np.ndarray, path: Path, *, sample_rate_hz: int, num_channels: int) -> None:
    """Write an MP4 with the pictures of `video` untouched and AAC sound that begins with them.

    Args:
        video: what `encode_video` gave.
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
        sound = _add_aac(target, sample_rate_hz, num_channels)
        packets = [*_encode_sound(sound, _resample(pcm, sample_rate_hz), num_channels)]
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = footage
                packets.append(packet)
        # Interleaved by time, as players expect; the muxer's own queue would depend on the order it is fed in.
        for packet in sorted(packets, key=_decode_time):
            target.mux(packet)


def _add_x264(container: OutputContainer, rate: Fraction, rgb: np.ndarray) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options=X264)
    stream.height, stream.width = rgb.shape[:2]
    stream.pix_fmt = "yuv420p"
    stream.gop_size = KEYFRAME_EVERY
    stream.time_base = stream.codec_context.time_base = TICK
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _add_aac(container: OutputContainer, sample_rate_hz: int, num_channels: int) -> AudioStream:
    stream = container.add_stream("aac", rate=sample_rate_hz, layout="mono" if num_channels == 1 else "stereo")
    stream.bit_rate = AUDIO_BITS
    stream.codec_context.flags |= Flags.bitexact
    return stream


def _encode_sound(stream: AudioStream, samples: np.ndarray, num_channels: int) -> Iterator[Packet]:
    """Yield the packets of int16 samples [S]."""
    planes = (samples.astype(np.float32) / 32768)[None] * np.array([[1.0], [0.5]], np.float32)[:num_channels]
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=stream.layout.name)
    frame.sample_rate, frame.pts = stream.rate, 0
    yield from stream.encode(frame)
    yield from stream.encode(None)


def _resample(pcm: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return int16 [S * rate / 16000]; polyphase filters are symmetric, so nothing is shifted."""
    if sample_rate_hz == SAMPLE_RATE_HZ:
        return pcm
    common = gcd(sample_rate_hz, SAMPLE_RATE_HZ)
    sound = resample_poly(pcm.astype(np.float64), sample_rate_hz // common, SAMPLE_RATE_HZ // common)
    return np.rint(sound).clip(-32768, 32767).astype(np.int16)


def _decode_time(packet: Packet) -> Fraction:
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base
