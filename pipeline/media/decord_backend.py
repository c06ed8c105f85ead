"""Frames of the 25 fps grid from decord, pixel for pixel those of PyAV, or a refusal.

MPEG-4 part 2 leaves the rounding of its transform open: there one level of difference was seen, in one frame of 2,000.
Damage in a file goes unnoticed: decord hands out what its decoder made up.

decord drops a stream's start time, misnumbers MPEG-TS and MPEG-PS, has no AV1, gives float32 times, and aborts when
threads share a reader. So: one reader, times from our own look at the packets, and only files that it gets right.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import decord
import numpy as np
from av.video.stream import VideoStream
from decord import DECORDError, DECORDLimitReachedError

from ...manifests.errors import MediaError
from ...manifests.records import Video
from .container import StreamReader
from .limits import MediaLimits
from .packet_index import PacketIndex
from .slots import DecodeStats, Frame, middle_ticks

BYTE_SEEKING = {"mpegts", "mpeg"}
"""Demuxers whose frames decord numbers wrongly: index 0 of an MPEG-TS file is frame 60."""
MAX_REPAIRED = 0.01
"""decord fills in frames it cannot decode; beyond this share it raises instead."""


def frames(
    path: Path,
    video: Video,
    slots: range,
    guard: AbstractContextManager[object],
    stats: DecodeStats,
    limits: MediaLimits,
) -> Iterator[Frame]:
    """Yield the frame on screen at the middle of each slot; see `decode.frames` for the contract.

    Raises:
        MediaError: `codec_missing`, decord cannot read this file or not as PyAV does; `frame_count_mismatch`.
    """
    with guard:
        shown, middles = _look(path, video, slots, limits)
        reader = _open(path)
        wanted = np.maximum(np.searchsorted(shown, middles) - 1, 0).tolist()
        # Hidden frames (edit lists) have numbers in decord but never come out; seeks and skips would count them.
        same_numbers = len(reader) == len(shown)
        position = _seek(reader, wanted[0]) if wanted and same_numbers else 0
    rgb: np.ndarray | None = None
    for index, number in zip(slots, wanted, strict=True):
        if rgb is None or number >= position:
            with guard:
                pulled = _pull(reader, number - position, same_numbers)
            if pulled is None:
                stats.num_missing += slots.stop - index
                return
            stats.num_decoded += number + 1 - position
            rgb, position = pulled, number + 1
        yield Frame(index, rgb)


def _look(path: Path, video: Video, slots: range, limits: MediaLimits) -> tuple[np.ndarray, list[int]]:
    """Return the times of all source frames (int64 [n] ticks) and of the middles of the slots; refuse unfit files."""
    with StreamReader(path, "video", limits) as reader:
        assert isinstance(reader.stream, VideoStream)
        _refuse(video, reader.stream)
        index = PacketIndex(reader.time_base)
        for packet in reader.packets():
            index.add(packet)
        zero = int(video.start_s / reader.time_base)
        return index.shown(), [zero + middle_ticks(slot, reader.time_base) for slot in slots]


def _refuse(video: Video, stream: VideoStream) -> None:
    """Raise `MediaError` where decord fails or where its colours differ from PyAV's."""
    pixels = stream.codec_context.format
    deep = pixels is not None and max(component.bits for component in pixels.components) > 8
    # swscale converts odd heights of subsampled chroma on its general path, which changed between their versions.
    odd = pixels is not None and stream.codec_context.height % 2 and pixels.chroma_height(2) == 1
    if video.container in BYTE_SEEKING or video.video_codec == "av1" or deep or odd:
        what = f"{video.video_codec} in {video.container}, {stream.codec_context.pix_fmt}, {video.width}x{video.height}"
        raise MediaError("codec_missing", f"decord does not read {what}; use decode.backend=pyav")


def _open(path: Path) -> decord.VideoReader:
    decord.logging.set_level(decord.logging.QUIET)
    # Its signature says int, its documentation a share.
    tolerance: Any = MAX_REPAIRED
    try:
        return decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1, fault_tol=tolerance)
    except (DECORDError, RuntimeError) as error:
        raise MediaError("codec_missing", "decord cannot open it; use decode.backend=pyav") from error


def _seek(reader: decord.VideoReader, number: int) -> int:
    """Go to source frame `number`; return the number of the frame that comes next."""
    with _refusing():
        if number:
            reader.seek_accurate(number)
    return number


def _pull(reader: decord.VideoReader, num_skipped: int, can_skip: bool) -> np.ndarray | None:
    """Return the frame after the next `num_skipped` ones, [H, W, 3] uint8; None at the end."""
    with _refusing():
        try:
            if can_skip and num_skipped:
                reader.skip_frames(num_skipped)
            for _ in range(0 if can_skip else num_skipped):
                reader.next()
            return reader.next().asnumpy()
        except StopIteration:
            return None


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what decord raises while it decodes into a reason; its worker thread fails at any later call."""
    try:
        yield
    except DECORDLimitReachedError as error:
        raise MediaError(
            "frame_count_mismatch", f"decord repaired more than {MAX_REPAIRED:.0%} of the frames"
        ) from error
    except DECORDError as error:
        raise MediaError("decode_error", "decord gave up on a packet; decode.backend=pyav skips it") from error
