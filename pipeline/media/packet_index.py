"""Times at which the frames of a stream are shown, from its packets alone."""

from array import array
from fractions import Fraction

import numpy as np
from av.packet import Packet

from .container import packet_ticks

KEYFRAME_STEP_S = 10
"""Spacing of the cut points that are kept: long files are split into chunks of minutes."""
SPARSE_S = 60
"""Clean cut points further apart than this make way for all keyframes."""


class PacketIndex:
    """Times of the packets from the first keyframe on: 17 bytes a packet, 7 MB for two hours at 60 fps.

    Packets that the container hides (before an edit list's start) are fed to decoders but not shown, so they do not
    count; neither do those shown before the first keyframe, which cannot be decoded.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._times, self._steps, self._keys = array("q"), array("q"), array("b")
        self._first_key: int | None = None
        self.num_read = 0

    def add(self, packet: Packet) -> None:
        """Take the next packet in decode order."""
        ticks = packet_ticks(packet)
        if not packet.size or packet.is_corrupt or ticks is None:
            return
        self.num_read += 1
        if self._first_key is None and packet.is_keyframe:
            self._first_key = ticks
        if self._first_key is None or packet.is_discard or ticks < self._first_key:
            return
        self._times.append(ticks)
        self._steps.append(packet.duration or 0)
        self._keys.append(packet.is_keyframe)

    @property
    def has_begun(self) -> bool:
        """Whether the first keyframe was seen."""
        return self._first_key is not None

    def __len__(self) -> int:
        return len(self._times)

    def shown(self) -> np.ndarray:
        """Return the times of the frames in the order they are shown: int64 [n] ticks of the stream."""
        return np.sort(np.frombuffer(self._times, np.int64))

    def end(self) -> int:
        """Return the tick at which the last frame ends; a frame of unknown length lasts as long as the usual one."""
        times = np.frombuffer(self._times, np.int64)
        last = int(times.argmax())
        steps = np.diff(self.shown())
        usual = int(np.median(steps)) if len(steps) else int(Fraction(1, 25) / self._time_base)
        return int(times[last]) + (self._steps[last] or usual)

    def cut_points(self) -> list[int]:
        """Return times where decoding can start, ascending, the first frame's time first, about one in 10 s.

        Clean ones (nothing that comes later in the file is shown earlier) wherever the stream has them often enough.
        Encoders that leave all their groups of pictures open (x265 and MPEG-2 by default) have none; there any keyframe
        serves, for what is shown after it decodes exactly.
        """
        times = np.frombuffer(self._times, np.int64)
        keys = np.frombuffer(self._keys, np.int8).astype(bool)
        # Clean: no later packet is shown earlier, so the smallest time from here to the end of the file is its own.
        earliest_later = np.minimum.accumulate(times[::-1])[::-1]
        clean = np.sort(times[keys & (earliest_later >= times)])
        bounds = np.concatenate(([times.min()], clean, [times.max()]))
        sparse = float(np.diff(bounds).max() * self._time_base) > SPARSE_S
        return self._thin(np.sort(times[keys]) if sparse else clean)

    def _thin(self, times: np.ndarray) -> list[int]:
        points = [min(self._times)]
        for ticks in times.tolist():
            if (ticks - points[-1]) * self._time_base >= KEYFRAME_STEP_S:
                points.append(ticks)
        return points
