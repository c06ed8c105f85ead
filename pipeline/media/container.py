"""Open a media file without trusting it, and read the packets of one of its streams from any time on."""

import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import ThreadType
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from ...manifests.errors import MediaError
from .limits import MediaLimits, check_kind

DEMUXERS = (
    "mov,matroska,webm,avi,flv,live_flv,mpegts,mpeg,asf,ogg,rm,mxf,gxf,nut,dv,wtv,ivf,h264,hevc,m4v,mpegvideo,"
    "wav,w64,mp3,aac,flac,ac3,eac3,amr,aiff,caf,au"
)
"""Only containers of recorded media: playlists open other files, `tty` plays text, image demuxers take any PNG."""
BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid", b"styp", b"sidx", b"moof"}
"""Top-level boxes that an MP4 or MOV file can begin with."""
MAGICS = (b"RIFF", b"\x1aE\xdf\xa3", b"FLV", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3", b"OggS", b"\x30\x26\xb2\x75")
"""First bytes of AVI, Matroska, FLV, MPEG-PS, MPEG video, Ogg and ASF."""
NOT_FOOTAGE = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
"""Cover art and preview pictures."""
MOST_WAITS = 100
"""Times that a demuxer may ask to be called again without giving a packet."""
SEEK_BACK_S = (0, 2, 10, 60)
"""MPEG-TS and MPEG-PS seek by guessing byte positions and often land late; each try aims this much earlier."""

NO_OTHER = MediaLimits()
"""The limits where nobody sets others."""

Kind = Literal["video", "audio"]


def open_container(path: Path, limits: MediaLimits = NO_OTHER) -> InputContainer:
    """Open a file of any ending for reading; raise `MediaError` with the reason when that is impossible.

    This is the one place where media is opened: nothing but recorded media, and nothing that names another file. The
    decoders that FFmpeg tries on the way refuse pictures above `limits.max_pixels` before they take memory.
    """
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file", "max_pixels": str(limits.max_pixels)}
    try:
        check_kind(path)
        # An absolute path has no protocol, so `a:b.mp4` and `-y.mp4` are files. Tags may be in any encoding.
        return av.open(str(path.absolute()), options=options, metadata_errors="replace")
    except OSError as error:
        raise MediaError("unavailable", f"cannot be read ({error.strerror})") from error
    except FFmpegError as error:
        try:
            found = _diagnose(path, error)
        except OSError as gone:
            raise MediaError("unavailable", f"cannot be read ({gone.strerror})") from gone
        raise found from error


def pick_video(container: InputContainer) -> VideoStream:
    """Return the first stream of footage; raise `MediaError` when there is none or no decoder for it."""
    for stream in container.streams.video:
        if stream.disposition & NOT_FOOTAGE:
            continue
        if stream.codec_context is None:
            raise MediaError("codec_missing", f"no decoder for video stream {stream.index}")
        return stream
    if len(container.streams):
        raise MediaError(
            "no_video_stream", f"{len(container.streams)} streams, {len(container.streams.audio)} of sound"
        )
    raise MediaError("decode_error", f"damaged header (a {container.format.name} file without any stream)")


def pick_audio(container: InputContainer) -> AudioStream | None:
    """Return the first audio stream, or None; raise `MediaError` when there is no decoder for it."""
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise MediaError("codec_missing", f"no decoder for audio stream {stream.index}")
    return stream


def demux(container: InputContainer, *streams: VideoStream | AudioStream) -> Iterator[Packet]:
    """Yield packets up to the end or to where the file stops making sense, and the empty ones that flush decoders.

    Raises:
        MediaError: `unavailable`, the disk or network failed while reading.
    """
    num_waits = 0
    while num_waits < MOST_WAITS:
        try:
            for packet in container.demux(*streams):
                num_waits = 0
                yield packet
            return
        except BlockingIOError:
            # MPEG-TS says "try again" where another recording begins; there is nothing to wait for in a file.
            num_waits += 1
        except OSError as error:
            raise MediaError("unavailable", f"reading failed ({error.strerror})") from error
        except FFmpegError:
            # Damaged structure: what follows cannot be found. The packets that are missing show up in the counts.
            return
        except IndexError:
            # At the end PyAV flushes streams by number; one that turned up in mid-file it knows nothing of. It comes
            # after those that were there from the start: they are flushed by then, and all their packets were read.
            return


def decode_sound(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    """Yield the sound of a file, one frame after the other; raise `FFmpegError` at a packet that is damaged."""
    for packet in demux(container, stream):
        for frame in packet.decode():
            assert isinstance(frame, AudioFrame)
            yield frame


def limit_pixels(stream: VideoStream | AudioStream, limits: MediaLimits) -> None:
    """Let a stream's decoder refuse larger pictures, before it takes memory for them."""
    stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}


def refuses_size(error: FFmpegError, context: VideoCodecContext, limits: MediaLimits) -> bool:
    """Tell whether a decoder refused a packet for the size of its picture.

    H.264 has the new size by then; other decoders forget the size and call it an invalid argument, which damage is not.
    """
    is_forgotten = isinstance(error, ArgumentError) and not context.width
    return is_forgotten or context.width * context.height > limits.max_pixels


def packet_ticks(packet: Packet) -> int | None:
    """Return the time of a packet in its stream's time base: when it is shown, or failing that when it is decoded."""
    return packet.dts if packet.pts is None else packet.pts


class StreamReader:
    """Packets and decoder of one stream, single-threaded; a context manager.

    Args:
        path: the file.
        kind: which stream: the footage or the first sound.
        limits: how large pictures may be.

    Raises:
        MediaError: on entering, with the reason.
    """

    def __init__(self, path: Path, kind: Kind, limits: MediaLimits = NO_OTHER) -> None:
        self._path = path
        self._kind: Kind = kind
        self._limits = limits

    def __enter__(self) -> "StreamReader":
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._container.close()

    def packets(self, target: int | None = None) -> Iterator[Packet]:
        """Yield packets from a keyframe at or before `target` (ticks of the stream) on; None is the first keyframe.

        Every frame shown at or after that keyframe decodes to the same pixels as in a full read, also in an open group
        of pictures, whose leading frames come earlier than the keyframe and are for the caller to drop.
        """
        seekable = target is not None and not (self.has_guessed_times and self._reorders)
        for back_s in SEEK_BACK_S if seekable else ():
            assert target is not None
            packets = self._seek(target - int(back_s / self.time_base), target)
            if packets is not None:
                return packets
        if seekable:
            self._container.close()
            self._open()
        return _from_keyframe(demux(self._container, self.stream)) or iter(())

    @property
    def has_guessed_times(self) -> bool:
        """Whether the container stores no presentation times (AVI); with reordering, libavformat guesses them wrong."""
        return self._container.format.name == "avi"

    @property
    def _reorders(self) -> bool:
        return isinstance(self.stream, VideoStream) and self.stream.codec_context.has_b_frames

    def _open(self) -> None:
        self._container = open_container(self._path, self._limits)
        stream = pick_video(self._container) if self._kind == "video" else pick_audio(self._container)
        if stream is None:
            raise MediaError("no_audio_stream", "there is video but no audio stream")
        assert stream.time_base is not None
        self.stream, self.time_base = stream, stream.time_base
        # One worker per core: a threaded decoder would only fight the others.
        stream.codec_context.thread_type = ThreadType.NONE
        stream.codec_context.thread_count = 1
        limit_pixels(stream, self._limits)
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = Discard.all

    def _seek(self, offset: int, latest: int) -> Iterator[Packet] | None:
        try:
            self._container.seek(offset, stream=self.stream)
        except (FFmpegError, OSError):
            return None
        return _from_keyframe(demux(self._container, self.stream), latest)


def _from_keyframe(packets: Iterator[Packet], latest: int | None = None) -> Iterator[Packet] | None:
    """Skip to the first keyframe; None when it comes after `latest` or not at all."""
    for packet in packets:
        ticks = packet_ticks(packet)
        if packet.size and packet.is_keyframe and ticks is not None:
            return chain((packet,), packets) if latest is None or ticks <= latest else None
    return None


def _diagnose(path: Path, error: FFmpegError) -> MediaError:
    """Say why no demuxer takes a file, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(4096)
        if not head:
            return MediaError("truncated", "zero bytes")
        if head[4:8] in BOXES:
            return _diagnose_boxes(file)
    if head.startswith(MAGICS) or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47):
        return MediaError("decode_error", f"damaged header ({error.strerror})")
    return MediaError("not_media", f"starts with {head[:16]!r}")


def _diagnose_boxes(file: BinaryIO) -> MediaError:
    """Walk the top-level boxes of an MP4 for its index, `moov`."""
    size_bytes = file.seek(0, 2)
    offset = 0
    while offset + 8 <= size_bytes:
        file.seek(offset)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = struct.unpack(">Q", file.read(8).ljust(8, b"\0"))[0]
        if kind == b"moov":
            whole = offset + length <= size_bytes
            detail = "damaged index (moov)" if whole else "the file ends inside its index (moov)"
            return MediaError("decode_error" if whole else "truncated", detail)
        if length < 8:
            break
        offset += length
    return MediaError("truncated", f"no index (moov) in {size_bytes} bytes; the recording was not finished")
