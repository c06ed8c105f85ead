"""The whole files that the fuzzer damages: one talking photograph in each container and codec that PyAV writes here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random

import av
import numpy as np
from av.error import FFmpegError
from scipy.signal import resample_poly

from hs_data.pipeline.demo.face import Framing
from hs_data.pipeline.demo.shots import Talker
from hs_data.pipeline.demo.speech import Speech

LENGTH_S = 1.6
RATE = 25
SMALL = Framing(width=176, height=144, zoom=0.85)
LARGE = Framing(width=352, height=288, zoom=1.7)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A container and the codecs in it."""

    name: str
    suffix: str
    format: str
    video: str | None
    audio: str | None
    rate_hz: int = 16_000
    pixels: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = ()
    """Of the container."""


FRAGMENTED = (("movflags", "frag_keyframe+empty_moov"),)
KINDS = (
    Kind(name="mp4-h264-aac", suffix=".mp4", format="mp4", video="libx264", audio="aac"),
    Kind(name="mp4-fragments", suffix=".mp4", format="mp4", video="libx264", audio="aac", options=FRAGMENTED),
    Kind(name="mov-mpeg4-pcm", suffix=".mov", format="mov", video="mpeg4", audio="pcm_s16le"),
    Kind(name="mov-prores-alac", suffix=".mov", format="mov", video="prores", audio="alac", pixels="yuv422p10le"),
    Kind(name="3gp-h263-amr", suffix=".3gp", format="3gp", video="h263", audio="libopencore_amrnb", rate_hz=8000),
    Kind(name="m4v-hevc-ac3", suffix=".m4v", format="mp4", video="libx265", audio="ac3", rate_hz=48_000),
    Kind(name="mkv-av1-flac", suffix=".mkv", format="matroska", video="libsvtav1", audio="flac"),
    Kind(name="mkv-ffv1-pcm", suffix=".mkv", format="matroska", video="ffv1", audio="pcm_s16le"),
    Kind(name="webm-vp8-opus", suffix=".webm", format="webm", video="libvpx", audio="libopus", rate_hz=48_000),
    Kind(name="webm-vp9-opus", suffix=".webm", format="webm", video="libvpx-vp9", audio="libopus", rate_hz=48_000),
    Kind(name="avi-mjpeg-pcm", suffix=".avi", format="avi", video="mjpeg", audio="pcm_s16le", pixels="yuvj420p"),
    Kind(name="avi-mpeg4-mp3", suffix=".avi", format="avi", video="mpeg4", audio="libmp3lame"),
    Kind(name="ts-mpeg2-mp2", suffix=".ts", format="mpegts", video="mpeg2video", audio="mp2"),
    Kind(name="ts-h264-aac", suffix=".ts", format="mpegts", video="libx264", audio="aac"),
    Kind(name="mpg-mpeg1-mp2", suffix=".mpg", format="mpeg", video="mpeg1video", audio="mp2"),
    Kind(name="vob-mpeg2-ac3", suffix=".vob", format="vob", video="mpeg2video", audio="ac3", rate_hz=48_000),
    Kind(name="flv-flv1-mp3", suffix=".flv", format="flv", video="flv", audio="libmp3lame", rate_hz=44_100),
    Kind(name="flv-h264-aac", suffix=".flv", format="flv", video="libx264", audio="aac"),
    Kind(name="ogv-vp8-flac", suffix=".ogv", format="ogg", video="libvpx", audio="flac"),
    Kind(name="wmv-wmv2-mp3", suffix=".wmv", format="asf", video="wmv2", audio="libmp3lame"),
    Kind(name="mxf-mpeg2-pcm", suffix=".mxf", format="mxf", video="mpeg2video", audio="pcm_s16le", rate_hz=48_000),
    Kind(name="nut-mpeg4-mp2", suffix=".mkv", format="nut", video="mpeg4", audio="mp2"),
    Kind(name="rm-rv20-ac3", suffix=".mp4", format="rm", video="rv20", audio="ac3", rate_hz=44_100),
    Kind(name="ivf-vp8", suffix=".webm", format="ivf", video="libvpx", audio=None),
    Kind(name="h264-raw", suffix=".mp4", format="h264", video="libx264", audio=None),
    Kind(name="wav", suffix=".wav", format="wav", video=None, audio="pcm_s16le"),
    Kind(name="flac", suffix=".flac", format="flac", video=None, audio="flac"),
    Kind(name="mp3", suffix=".mp3", format="mp3", video=None, audio="libmp3lame"),
)
QUICK = {
    "libx264": {"preset": "veryfast", "threads": "1"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


@cache
def pictures(framing: Framing) -> tuple[np.ndarray, ...]:
    """Draw the talking photograph: [H, W, 3] uint8 each."""
    talker = Talker("a", framing, Speech(1, LENGTH_S), manner=1, duration_s=LENGTH_S)
    return tuple(talker.draw((number + 0.5) / RATE) for number in range(round(LENGTH_S * RATE)))


@cache
def sound(rate_hz: int) -> np.ndarray:
    """Return its speech: int16 [S]."""
    pcm = Speech(1, LENGTH_S).pcm(round(LENGTH_S * 16_000), lead_samples=0)
    return np.rint(resample_poly(pcm.astype(float), rate_hz // 100, 160)).clip(-32768, 32767).astype(np.int16)


def write(path: Path, kind: Kind, framing: Framing = SMALL, *, start_s: float = 0.0) -> None:
    """Encode one file."""
    with av.open(str(path), "w", format=kind.format, options=dict(kind.options)) as target:
        streams: list[av.VideoStream | av.AudioStream] = []
        if kind.video:
            footage = target.add_stream(kind.video, rate=RATE, options=QUICK.get(kind.video, {}))
            assert isinstance(footage, av.VideoStream)
            streams.append(footage)
            footage.width, footage.height, footage.pix_fmt = framing.width, framing.height, kind.pixels
            footage.gop_size, footage.codec_context.time_base = 10, Fraction(1, RATE)
        if kind.audio:
            heard = target.add_stream(kind.audio, rate=kind.rate_hz, layout="mono")
            assert isinstance(heard, av.AudioStream)
            streams.append(heard)
        packets = [packet for stream in streams for packet in encoded(stream, kind, framing, start_s)]
        for packet in sorted(packets, key=lambda packet: (packet.dts or 0) * packet.time_base):
            target.mux(packet)


def encoded(
    stream: av.VideoStream | av.AudioStream, kind: Kind, framing: Framing, start_s: float
) -> Iterator[av.Packet]:
    """Yield the packets of one stream."""
    if isinstance(stream, av.VideoStream):
        for number, rgb in enumerate(pictures(framing)):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=kind.pixels)
            frame.pts, frame.time_base = number + round(start_s * RATE), Fraction(1, RATE)
            yield from stream.encode(frame)
    else:
        frame = av.AudioFrame.from_ndarray(sound(kind.rate_hz)[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = kind.rate_hz, Fraction(1, kind.rate_hz)
        frame.pts = round(start_s * kind.rate_hz)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_all(folder: Path) -> dict[str, Path]:
    """Write all files, and return kind to path; a kind that this PyAV has no encoder for is left out and told."""
    made = {}
    for kind in KINDS:
        path = folder / f"{kind.name}{kind.suffix}"
        try:
            write(path, kind)
        except (FFmpegError, ValueError) as error:
            print(f"{kind.name}: cannot be written here ({error})")
            path.unlink(missing_ok=True)
            continue
        made[kind.name] = path
    return made


@dataclass(frozen=True, kw_only=True)
class Base:
    """A whole file, and all of them to take parts from."""

    kind: Kind
    path: Path
    others: list[Path]

    @property
    def content(self) -> bytearray:
        """Its bytes."""
        return bytearray(self.path.read_bytes())


Mutation = Callable[[Base, Random, Path], None]
