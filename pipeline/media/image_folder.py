"""Folders of numbered pictures at 25 a second, with a wav beside them, read as if each were one media file."""

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, Video
from ...manifests.storage import sha256_file
from .container import NO_OTHER, demux, open_container, pick_audio
from .limits import MediaLimits, check_kind, check_sound
from .slots import DecodeStats, Frame

KEYFRAME_STEP = 10 * FRAME_RATE
"""Reading can start at any picture; one place in 10 s is told, as of other files."""
PNG, PNG_SIZE = b"\x89PNG\r\n\x1a\n", slice(16, 24)
"""First bytes of a PNG, and where its header has width and height."""


def pictures(path: Path) -> dict[int, Path]:
    """Return the pictures of a folder by their number, ascending; `%04d.png` becomes longer beyond 9999."""
    found = {int(each.stem): each for each in path.glob("*.png") if each.stem.isdecimal() and each.stem.isascii()}
    return dict(sorted(found.items()))


def sound_of(path: Path) -> Path:
    """Return the file that holds the sound: of `images/NAME`, `audios/NAME.wav` beside it; of a file, itself."""
    return path.parent.parent / "audios" / f"{path.name}.wav" if path.is_dir() else path


def facts(path: Path) -> tuple[int, int]:
    """Return bytes and last change over all files of a clip, ns."""
    stats = [os.stat(each) for each in _files(path)]
    return sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)


def sha256(path: Path) -> str:
    """Return a hash of the pictures in their order and of the sound."""
    for each in _files(path):
        check_kind(each)
    return hashlib.sha256("\n".join(map(sha256_file, _files(path))).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    sound = sound_of(path)
    return [*pictures(path).values(), *([sound] if sound.is_file() else [])]


def probe(path: Path, limits: MediaLimits = NO_OTHER) -> Video:
    """Describe a folder of pictures and its wav.

    Raises:
        MediaError: `decode_error`, the first picture cannot be read; `picture_too_large`; `implausible_duration`, the
            numbers leave too many out; or what the wav is refused for.
    """
    found = pictures(path)
    first = _read(next(iter(found.values()), None), limits)
    if first is None:
        raise MediaError("decode_error", "the first picture cannot be read, or is no PNG")
    num_frames = max(found) - min(found) + 1
    longest = max((later - one for one, later in pairwise(found)), default=1)
    size_bytes, _ = facts(path)
    limits.check_length(Fraction(num_frames, FRAME_RATE), Fraction(longest, FRAME_RATE), size_bytes)
    return Video(
        container="images",
        video_codec="png",
        width=first.shape[1],
        height=first.shape[0],
        rotation_deg=0,
        fps=float(FRAME_RATE),
        is_vfr=False,
        num_packets=len(found),
        num_frames=num_frames,
        start_s=Fraction(0),
        duration_s=Fraction(num_frames, FRAME_RATE),
        keyframes_s=tuple(Fraction(frame, FRAME_RATE) for frame in range(0, num_frames, KEYFRAME_STEP)),
        **_sound(sound_of(path)),
    )


def _sound(path: Path) -> dict:
    if not path.is_file():
        nothing = {"audio_codec": None, "audio_start_s": Fraction(0), "audio_duration_s": Fraction(0)}
        return {**nothing, "sample_rate_hz": 0, "num_channels": 0, "num_audio_streams": 0}
    with open_container(path) as container:
        stream = pick_audio(container)
        if stream is None:
            raise MediaError("no_audio_stream", f"{path.name} holds no sound")
        check_sound(stream.codec_context.sample_rate, stream.codec_context.channels)
        length_s = sum((packet.duration or 0) * packet.time_base for packet in demux(container, stream) if packet.size)
        return {
            "audio_codec": stream.codec_context.codec.canonical_name,
            "audio_start_s": Fraction(0),
            "audio_duration_s": Fraction(length_s),
            "sample_rate_hz": stream.codec_context.sample_rate,
            "num_channels": stream.codec_context.channels,
            "num_audio_streams": len(container.streams.audio),
        }


def frames(
    path: Path,
    video: Video,
    slots: range,
    guard: AbstractContextManager[object],
    stats: DecodeStats,
    limits: MediaLimits,
) -> Iterator[Frame]:
    """Yield the picture of each slot; where one is missing, damaged or of another size, the one before is stale.

    `guard` is entered around reading, which can hang on a network disk.
    """
    found = pictures(path)
    first = min(found, default=0)
    # The same pixels as in a read from the start: where the range begins with a hole, the picture before it is shown.
    earlier = (_read(found.get(number), limits) for number in range(first + slots.start, first - 1, -1))
    shown = next((rgb for rgb in earlier if _fits(rgb, video)), None)
    for index in slots:
        with guard:
            rgb = _read(found.get(first + index), limits)
        is_stale = not _fits(rgb, video)
        stats.num_decoded += not is_stale
        stats.num_missing += is_stale
        shown = shown if is_stale else rgb
        if shown is not None:
            yield Frame(index, shown, is_stale)


def _fits(rgb: np.ndarray | None, video: Video) -> bool:
    return rgb is not None and rgb.shape == (video.height, video.width, 3)


def _read(path: Path | None, limits: MediaLimits) -> np.ndarray | None:
    """Return a picture as [H, W, 3] uint8 RGB, or None when there is no PNG.

    Raises:
        MediaError: `picture_too_large`, by its header, before it is decoded; `unavailable`.
    """
    if path is None:
        return None
    try:
        check_kind(path)
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MediaError("unavailable", f"{path.name}: cannot be read ({error.strerror})") from error
    if len(data) < PNG_SIZE.stop or bytes(data[: len(PNG)]) != PNG:
        return None
    limits.check_size(*struct.unpack(">II", bytes(data[PNG_SIZE])))
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return None if bgr is None else np.ascontiguousarray(bgr[..., ::-1])
