"""Read what a file is: its streams in exact time, or the reason why it cannot be used."""

import struct
from contextlib import nullcontext
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, Video
from .container import NO_OTHER, demux, limit_pixels, open_container, packet_ticks, pick_audio, pick_video, refuses_size
from .deadline import DecodeDeadline
from .limits import MediaLimits, check_sound
from .packet_index import PacketIndex

VFR_STEP_S = 0.006
"""Steps that differ by more are a variable frame rate; millisecond timestamps jitter by 1."""
FIRST_FRAME_PACKETS = 64
"""Packets in which a decoder must give its first frame; reordering delays it by 16 at most."""
MISSING_SHARE = 0.01
"""Share of the promised packets that may be missing before a file counts as cut off."""
DECLARES_DURATION = {"matroska,webm", "flv", "asf"}
"""Demuxers whose file header states the duration; for others it is measured from what is there."""


def probe(path: Path, *, limits: MediaLimits = NO_OTHER, deadline: DecodeDeadline | None = None) -> Video:
    """Describe one input file, reading every packet and decoding one frame.

    Raises:
        MediaError: `unavailable`, `truncated`, `not_media`, `no_video_stream`, `codec_missing`, `decode_error`,
            `picture_too_large`, `implausible_duration` or `implausible_sound`.
            A file without sound is no error here (`audio_codec` is None).
    """
    with deadline or nullcontext(), open_container(path, limits) as container:
        scan = _Scan(container, limits)
        scan.run()
        return scan.video()


class _Scan:
    """One pass over all packets of a file's footage and sound."""

    def __init__(self, container: InputContainer, limits: MediaLimits) -> None:
        self._container = container
        self._limits = limits
        self._footage: VideoStream = pick_video(container)
        self._sound: AudioStream | None = pick_audio(container)
        self._check_header()
        self._footage.thread_type = "NONE"
        limit_pixels(self._footage, limits)
        assert self._footage.time_base is not None
        self._time_base = self._footage.time_base
        self._index = PacketIndex(self._time_base)
        self._first_frame: VideoFrame | None = None
        self._num_tried = 0
        self._audio_start_s: Fraction | None = None
        self._audio_end_s = Fraction(0)

    def run(self) -> None:
        """Take in every packet; raise `MediaError` when they do not add up to what the file promises."""
        sound = (self._sound,) if self._sound else ()
        for packet in demux(self._container, self._footage, *sound):
            if packet.stream_index == self._footage.index:
                self._index.add(packet)
                self._try_decode(packet)
            elif packet.size:
                self._add_sound(packet)
        self._check_complete()
        if self._first_frame is None:
            raise MediaError("decode_error", f"no frame came out of {self._num_tried} packets")
        self._limits.check_size(self._first_frame.width, self._first_frame.height)
        self._check_length()

    def video(self) -> Video:
        """Put together the record of a file that `run` accepted."""
        frame, sound, index = self._first_frame, self._sound, self._index
        assert frame is not None
        shown = index.shown()
        start_s = int(shown[0]) * self._time_base
        duration_s = index.end() * self._time_base - start_s
        rotation = round(frame.rotation / 90) * 90 % 360
        width, height = (frame.width, frame.height) if rotation in (0, 180) else (frame.height, frame.width)
        steps_s = np.diff(shown) * float(self._time_base)
        is_vfr = bool(len(steps_s) and np.ptp(steps_s) > VFR_STEP_S)
        if is_vfr:
            duration_s += self._last_hold_s(start_s + duration_s, float(steps_s.max()))
        audio_start_s = start_s if self._audio_start_s is None else self._audio_start_s
        return Video(
            container=self._container.format.name,
            video_codec=self._footage.codec_context.codec.canonical_name,
            width=width,
            height=height,
            rotation_deg=rotation,
            fps=float(len(index) / duration_s),
            is_vfr=is_vfr,
            num_packets=len(index),
            num_frames=max(1, round(duration_s * FRAME_RATE)),
            start_s=start_s,
            duration_s=duration_s,
            keyframes_s=self._keyframes_s(start_s),
            audio_codec=sound.codec_context.codec.canonical_name if sound else None,
            audio_start_s=audio_start_s - start_s,
            audio_duration_s=self._sound_duration_s(),
            sample_rate_hz=sound.codec_context.sample_rate if sound else 0,
            num_channels=sound.codec_context.channels if sound else 0,
            num_audio_streams=len(self._container.streams.audio),
        )

    def _keyframes_s(self, start_s: Fraction) -> tuple[Fraction, ...]:
        """Return where decoding can start; AVI stores no presentation times and is read from its start."""
        if self._container.format.name == "avi":
            return (Fraction(0),)
        return tuple(ticks * self._time_base - start_s for ticks in self._index.cut_points())

    def _last_hold_s(self, end_s: Fraction, longest_s: float) -> Fraction:
        """Return how much longer the last picture of a variable-rate stream stays than its packet says.

        Encoders that leave pictures out write a usual length for the last one, though the ones after it were left out
        too: it is held while the sound goes on, if no longer than another picture of this file was.
        """
        if self._audio_start_s is None:
            return Fraction(0)
        hold_s = self._audio_start_s + self._sound_duration_s() - end_s
        return hold_s if 0 < hold_s <= longest_s else Fraction(0)

    def _try_decode(self, packet: Packet) -> None:
        """Decode up to the first frame, which knows the true size and the display matrix."""
        if self._first_frame or not self._index.has_begun or self._num_tried > FIRST_FRAME_PACKETS:
            return
        self._num_tried += bool(packet.size)
        try:
            frames = packet.decode()
        except FFmpegError as error:
            if refuses_size(error, self._footage.codec_context, self._limits):
                what = f"the decoder refuses the size, with decode.max_pixels={self._limits.max_pixels}"
                raise MediaError("picture_too_large", what) from error
            return
        self._first_frame = next((frame for frame in frames if isinstance(frame, VideoFrame)), None)

    def _add_sound(self, packet: Packet) -> None:
        """Extend the span of the sound; encoder priming that the container marks is not part of it."""
        ticks = packet_ticks(packet)
        if ticks is None:
            return
        end_s = (ticks + (packet.duration or 0)) * packet.time_base
        self._audio_end_s = end_s if self._audio_start_s is None else max(self._audio_end_s, end_s)
        if self._audio_start_s is None:
            assert self._sound is not None
            primed_s = Fraction(_skipped_samples(packet), self._sound.codec_context.sample_rate)
            # Matroska rounds to milliseconds: -6.5 ms of priming stand as -7, and both mean "starts at 0".
            self._audio_start_s = (ticks + floor(primed_s / packet.time_base + Fraction(1, 2))) * packet.time_base

    def _sound_duration_s(self) -> Fraction:
        """Length by packets, less the encoder's padding of the last ones where the container states the true length."""
        if self._audio_start_s is None or self._sound is None:
            return Fraction(0)
        length_s = max(Fraction(0), self._audio_end_s - self._audio_start_s)
        assert self._sound.time_base is not None
        declared_s = (self._sound.duration or 0) * self._sound.time_base
        padding_s = length_s - declared_s
        states_length = self._container.format.name.startswith("mov")
        return declared_s if states_length and 0 < padding_s < Fraction(1, 10) else length_s

    def _check_header(self) -> None:
        """Refuse what the header promises beyond the limits; what it promises falsely shows in the first frame."""
        context = self._footage.codec_context
        self._limits.check_size(context.width, context.height)
        if self._sound is not None:
            check_sound(self._sound.codec_context.sample_rate, self._sound.codec_context.channels)

    def _check_length(self) -> None:
        """Compare the length with the bytes; in whole numbers, for times of 64 bits differ by more than 64 hold."""
        shown, end = self._index.shown(), self._index.end()
        duration_s = (end - int(shown[0])) * self._time_base
        if duration_s <= 0:
            raise MediaError("decode_error", "the pictures last no time at all; remux the file")
        holds = np.diff(shown.astype(object), append=end)
        self._limits.check_length(duration_s, max(holds.tolist()) * self._time_base, self._container.size)

    def _check_complete(self) -> None:
        """Compare with what the index or the header promises."""
        is_mov = self._container.format.name.startswith("mov")
        read, promised = self._index.num_read, len(self._footage.index_entries) if is_mov else 0
        if read < promised * (1 - MISSING_SHARE):
            raise MediaError("truncated", f"{read} of {promised} promised video packets are there")
        declared_s, reached_s = self._declared_s(), self._reached_s()
        if reached_s < min(0.95 * declared_s, declared_s - 1):
            raise MediaError("truncated", f"ends at {reached_s:.2f} s of {declared_s:.2f} s")
        if not len(self._index):
            detail = "no packet can be decoded on its own or carries a time; remux the file" if read else "no packets"
            raise MediaError("decode_error", detail)

    def _declared_s(self) -> float:
        """Return the duration by the file header, 0 where there is none or only libavformat's estimate."""
        if self._container.format.name == "avi":
            # Counts pictures that were dropped as empty, as the packets' times do.
            return float(self._footage.frames * self._time_base)
        stated = self._container.format.name in DECLARES_DURATION
        return (self._container.duration or 0) / av.time_base if stated else 0.0

    def _reached_s(self) -> float:
        footage_s = self._index.end() * self._time_base if len(self._index) else 0
        return float(max(footage_s, self._audio_end_s))


def _skipped_samples(packet: Packet) -> int:
    """Return how many samples at the start of this packet the container says to skip (first field of the side data)."""
    if not packet.has_sidedata("skip_samples"):
        return 0
    return struct.unpack("<I", bytes(packet.get_sidedata("skip_samples"))[:4])[0]
