"""Packets of several streams into one file: by their times, and pictures of one file with the sound of another."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ...manifests.errors import MediaError
from ...manifests.records import SAMPLE_RATE_HZ
from .container import decode_sound, demux, open_container, pick_audio, pick_video
from .limits import check_sound

Timed = tuple[Fraction, Packet]
"""A packet and the time that it is sorted by, seconds."""


def mux_by_time(target: OutputContainer, *lanes: Iterator[Timed], ends: tuple[int, ...] = ()) -> None:
    """Write the packets of several streams in the order of their times, as players expect them.

    The muxer has a queue of its own, but what it makes depends on the order it is fed in; here the same packets give
    the same bytes.

    Args:
        target: the file.
        lanes: a stream each, in its own order; of equal times the earlier lane's packet comes first.
        ends: numbers of the lanes whose end is the end of the file; none: all are written out.
    """
    waiting = [(lane, next(lane, None)) for lane in lanes]
    while True:
        held = {number: timed[0] for number, (_, timed) in enumerate(waiting) if timed is not None}
        if not held or not held.keys() >= set(ends):
            return
        number = min(held, key=lambda number: (held[number], number))
        lane, timed = waiting[number]
        assert timed is not None
        target.mux(timed[1])
        waiting[number] = lane, next(lane, None)


def copied(source: InputContainer, stream: Stream, target: Stream) -> Iterator[Timed]:
    """Yield the packets of a stream, untouched, for a stream of another file, by the time they are decoded at."""
    for packet in demux(source, stream):  # type: ignore[arg-type] - a picked stream
        if packet.size and packet.dts is not None:
            packet.stream = target
            yield decode_time(packet), packet


def decode_time(packet: Packet) -> Fraction:
    """Return when a packet is to be decoded, seconds."""
    assert packet.dts is not None
    assert packet.time_base is not None
    return packet.dts * packet.time_base


def lay_under(video: Path, sound: Path, path: Path) -> None:
    """Write the pictures of one file, untouched, with the sound of another, up to the end of the shorter one.

    Args:
        video: any video file.
        sound: any file with sound.
        path: the file to write, of a kind that takes 16-bit PCM (Matroska).

    Raises:
        MediaError: one of them cannot be read, has no picture or no sound.
    """
    try:
        with ExitStack() as stack:
            with _naming(video):
                pictures = stack.enter_context(open_container(video))
                shown = pick_video(pictures)
            with _naming(sound):
                heard = stack.enter_context(open_container(sound))
                spoken = pick_audio(heard)
                if spoken is None:
                    raise MediaError("no_audio_stream", "no audio stream")
                check_sound(spoken.codec_context.sample_rate, spoken.codec_context.channels)
            target = stack.enter_context(av.open(str(path), "w"))
            footage = target.add_stream_from_template(shown)
            track = target.add_stream("pcm_s16le", rate=SAMPLE_RATE_HZ, layout="mono")
            lanes = _from_zero(pictures, shown, footage), _as_pcm(heard, spoken, track)
            mux_by_time(target, *lanes, ends=(0, 1))
    except FFmpegError as error:
        raise MediaError("decode_error", f"{video} or {sound}: cannot be read ({error}); convert it first") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the name of the file before what is wrong with it."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.reason, f"{path}: {error.detail}; name another file") from error


def _from_zero(source: InputContainer, stream: VideoStream, target: VideoStream) -> Iterator[Timed]:
    """Yield packets by their decoding time, moved so that the first is shown at 0."""
    assert stream.time_base is not None
    zero: int | None = None
    for packet in demux(source, stream):
        if packet.dts is None or packet.pts is None:
            continue
        zero = packet.pts if zero is None else zero
        packet.dts, packet.pts = packet.dts - zero, packet.pts - zero
        packet.stream, at_s = target, packet.dts * stream.time_base
        yield at_s, packet


def _as_pcm(source: InputContainer, stream: AudioStream, target: AudioStream) -> Iterator[Timed]:
    """Yield packets of PCM that begin at 0, by the time at which each ends: pictures up to then go before it."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
    written = 0
    for frame in chain(decode_sound(source, stream), (None,)):
        for part in resampler.resample(frame):
            part.pts, part.time_base = written, Fraction(1, SAMPLE_RATE_HZ)
            written += part.samples
            for packet in target.encode(part):
                yield Fraction(written, SAMPLE_RATE_HZ), packet
