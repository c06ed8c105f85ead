"""Frames of the 25 fps grid from PyAV: packets in, the shown frames out."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heappop, heappush
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...manifests.records import Video
from .container import NO_OTHER, StreamReader, packet_ticks, refuses_size
from .limits import MediaLimits
from .rgb import RgbConverter
from .slots import DecodeStats, Frame, half_frame_ticks, middle_ticks


@dataclass(frozen=True)
class _Shown:
    """A decoded frame and the tick it is shown from."""

    ticks: int
    picture: VideoFrame


def frames(
    path: Path,
    video: Video,
    slots: range,
    guard: AbstractContextManager[object],
    stats: DecodeStats,
    limits: MediaLimits,
) -> Iterator[Frame]:
    """Yield the frame on screen at the middle of each slot; one frame of lookahead tells how long each is shown.

    Slots before the first usable frame show that one. `guard` is entered around everything that can hang.
    """
    converter = RgbConverter(video)
    with ExitStack() as stack:
        with guard:
            reader = stack.enter_context(StreamReader(path, "video", limits))
            source = _Source(reader, video, slots.start, stats, limits)
        pulls = iter(source)
        index, shown = slots.start, None
        rgb: np.ndarray | None = None
        while index < slots.stop:
            with guard:
                pulled = next(pulls, None)
            while shown and index < slots.stop and (pulled is None or source.middle(index) <= pulled.ticks):
                is_stale = source.is_stale(index, shown.ticks)
                stats.num_missing += is_stale
                rgb = converter.convert(shown.picture) if rgb is None else rgb
                yield Frame(index, rgb, is_stale)
                index += 1
            if pulled is None:
                break
            shown, rgb = pulled, None
        stats.num_missing += slots.stop - index


def source_frames(path: Path, video: Video, limits: MediaLimits = NO_OTHER) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Yield every undamaged frame as the file has it: when it is shown, seconds after the start, and [H, W, 3] RGB."""
    converter = RgbConverter(video)
    with StreamReader(path, "video", limits) as reader:
        zero = int(video.start_s / reader.time_base)
        for shown in _Source(reader, video, 0, DecodeStats(), limits):
            yield (shown.ticks - zero) * reader.time_base, converter.convert(shown.picture)


class _Source:
    """Undamaged source frames of a range, in the order they are shown."""

    def __init__(
        self, reader: StreamReader, video: Video, start_frame: int, stats: DecodeStats, limits: MediaLimits
    ) -> None:
        assert isinstance(reader.stream, VideoStream)
        self._context, self._limits = reader.stream.codec_context, limits
        self._time_base = reader.time_base
        self._zero = int(video.start_s / reader.time_base)
        self._half_frame = half_frame_ticks(reader.time_base)
        self._guessed_times = reader.has_guessed_times
        self._stats = stats
        self._packets = reader.packets(self.middle(start_frame) - 1 if start_frame else None)
        self._floor: int | None = None
        self._due: list[int] = []  # times of the frames fed so far, ascending; those long past are forgotten
        self._unshown: list[int] = []  # heap of the times of the frames that are still inside the decoder
        self._last = self._zero
        self._damaged_since: int | None = None

    def __iter__(self) -> Iterator[_Shown]:
        for packet in self._packets:
            self._note(packet)
            for frame in self._decode(packet):
                ticks = self._ticks(frame)
                self._stats.num_decoded += 1
                # Frames from before the keyframe of entry lack what they refer to; that is no damage.
                is_wanted = self._floor is not None and ticks >= self._floor
                if is_wanted and self._is_sound(frame, ticks):
                    # A clock that runs backwards for a moment must not show frames out of order.
                    self._last = max(self._last, ticks)
                    yield _Shown(self._last, frame)

    def middle(self, index: int) -> int:
        """Return the tick of the stream at the middle of slot `index`."""
        return self._zero + middle_ticks(index, self._time_base)

    def is_stale(self, index: int, ticks: int) -> bool:
        """Say whether slot `index` should show a newer frame than the one of `ticks`, or an older one."""
        passed = bisect_left(self._due, self.middle(index))
        if not passed:
            return False
        due = self._due[passed - 1]
        del self._due[: passed - 1]
        return due - ticks > self._half_frame or ticks - due > self._half_frame

    def _note(self, packet: Packet) -> None:
        ticks = packet_ticks(packet)
        if ticks is None or not packet.size:
            return
        if self._floor is None:
            self._floor = max(ticks, self._zero)
        if packet.is_discard or packet.is_corrupt:
            return
        heappush(self._unshown, ticks)
        if ticks >= self._floor:
            insort(self._due, ticks)

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        try:
            return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
        except FFmpegError as error:
            self._stats.num_errors += 1
            self._stats.num_too_large += refuses_size(error, self._context, self._limits)
            ticks = packet_ticks(packet)
            self._damaged_since = self._last if ticks is None else ticks
            if ticks in self._unshown:
                self._unshown.remove(ticks)
                heapify(self._unshown)
            return []

    def _ticks(self, frame: VideoFrame) -> int:
        """Return when a frame is shown: its own time, or where the container has none, the earliest not yet used."""
        earliest = heappop(self._unshown) if self._unshown else self._last
        return earliest if self._guessed_times or frame.pts is None else frame.pts

    def _is_sound(self, frame: VideoFrame, ticks: int) -> bool:
        """Say whether all of a frame is real: damage lasts until the next intact keyframe."""
        if frame.is_corrupt:
            self._damaged_since = ticks
        elif frame.key_frame and self._damaged_since is not None and ticks > self._damaged_since:
            self._damaged_since = None
        self._stats.num_damaged += self._damaged_since is not None
        return self._damaged_since is None
