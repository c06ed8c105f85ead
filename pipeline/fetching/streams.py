"""Downloaded streams become one file with picture and sound, under its name or not at all; nothing is encoded."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from ...manifests.errors import MediaError
from ...manifests.storage import atomic_path, sync
from ..media.container import open_container, pick_audio, pick_video
from ..media.mux import Timed, copied, mux_by_time
from .statuses import FetchFault

JOINED_SUFFIX = ".mkv"
"""Matroska takes every codec that sites have."""
MISSING_SHARE = 0.02
"""Streams of one recording end at different times, by less than this and a second; what ends earlier is cut off."""


def join_streams(files: Sequence[Path], stem: Path) -> Path:
    """Check downloaded files and give them their name; the files are gone afterwards.

    Args:
        files: one file with picture and sound, or one of each.
        stem: the name to give, without ending.

    Returns:
        The file. One that was whole keeps its bytes and ending; two become Matroska, packet by packet, with the times
        of both (rounded to milliseconds, as Matroska has them).

    Raises:
        FetchFault: `no_audio`, `no_picture` or `damaged`.
        OSError: the disk.
    """
    video, sound = _find(files)
    suffix = video.suffix if video == sound else JOINED_SUFFIX
    final = stem.with_name(stem.name + suffix)  # not `with_suffix`: a name may have dots
    if video == sound:
        final.parent.mkdir(parents=True, exist_ok=True)
        sync(video)
        video.replace(final)
        sync(final.parent)
    else:
        with atomic_path(final) as temporary:
            _join(video, sound, temporary)
    for file in files:
        file.unlink(missing_ok=True)
    return final


def _find(files: Sequence[Path]) -> tuple[Path, Path]:
    """Return the file with the picture and the one with the sound; one file with both is preferred."""
    kinds = {file: _kinds(file) for file in files}
    for file, kind in kinds.items():
        if kind == {"video", "audio"}:
            return file, file
    video = next((file for file, kind in kinds.items() if "video" in kind), None)
    sound = next((file for file, kind in kinds.items() if "audio" in kind), None)
    if video is None:
        raise FetchFault("no_picture" if sound else "damaged", f"{len(files)} files, none with a picture")
    if sound is None:
        raise FetchFault("no_audio", "no sound stream")
    return video, sound


def _kinds(file: Path) -> set[str]:
    try:
        with open_container(file) as container:
            kinds = {"audio"} if pick_audio(container) is not None else set()
            return kinds | {"video"} if _has_picture(container) else kinds
    except MediaError as error:
        if error.reason == "unavailable":
            raise OSError(error.detail) from error
        raise FetchFault("damaged", f"{file.name}: {error.detail}") from error


def _has_picture(container: InputContainer) -> bool:
    try:
        pick_video(container)
    except MediaError as error:
        if error.reason == "no_video_stream":
            return False
        raise
    return True


def _join(video: Path, sound: Path, path: Path) -> None:
    """Write the packets of both in the order of their time; no packet is changed."""
    try:
        with (
            open_container(video) as pictures,
            open_container(sound) as noises,
            av.open(str(path.absolute()), "w", format="matroska", options={"fflags": "+bitexact"}) as target,
        ):
            first, second = pick_video(pictures), pick_audio(noises)
            assert second is not None  # it was looked for
            streams = (target.add_stream_from_template(first), target.add_stream_from_template(second))
            mux_by_time(target, _whole(pictures, first, streams[0]), _whole(noises, second, streams[1]))
    except (FFmpegError, MediaError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise FetchFault("damaged", f"picture and sound cannot be laid together ({error})") from error


def _whole(container: InputContainer, source: Stream, target: Stream) -> Iterator[Timed]:
    """Yield the packets of a stream for another file; raise `FetchFault` at the end when many are missing."""
    end_s = Fraction(0)
    for begins_s, packet in copied(container, source, target):
        end_s = begins_s + (packet.duration or 0) * (packet.time_base or 0)
        yield begins_s, packet
    told_s = Fraction(container.duration or 0, av.time_base)
    if end_s < told_s * (1 - MISSING_SHARE) - 1:
        raise FetchFault("damaged", f"{source.type} ends after {float(end_s):.1f} of {float(told_s):.1f} s")
