"""Source frames to the normal form: 25 upright RGB frames a second, streaming, from any frame on."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal

from ...manifests.errors import MediaError
from ...manifests.records import FRAME_RATE, MISSING_SHARE, Video
from ...manifests.settings import Range, check_ranges
from . import image_folder, pyav_backend
from .deadline import DecodeDeadline
from .limits import MediaLimits
from .prefetch import prefetch
from .slots import DecodeStats, Frame


@dataclass(frozen=True, kw_only=True)
class DecodeConfig(MediaLimits):
    """Settings of decoding, and limits of what is decoded."""

    backend: Literal["pyav", "decord"] = "pyav"
    """`decord` gives the same frames, or refuses a file (.ts, .mpg, AV1, 10 bit, odd heights) with `codec_missing`."""
    min_timeout_s: Annotated[float, Range(1, 86400)] = 30.0
    """Decoding a range may take this long however short it is; seeks on cold network storage take seconds."""
    timeout_factor: Annotated[float, Range(0.01, 10000)] = 10.0
    """Seconds of decoding allowed for each second of footage before the worker is killed."""
    prefetch_frames: Annotated[int, Range(0, 1000)] = 0
    """Frames that a thread decodes ahead while networks compute; 0: none, which is best where both share a core."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def timeout_s(self, num_frames: int) -> float:
        """Return the budget of a `DecodeDeadline` for a range of the normal form."""
        return max(self.min_timeout_s, self.timeout_factor * num_frames / FRAME_RATE)


def frames(
    path: Path,
    video: Video,
    *,
    start_frame: int = 0,
    end_frame: int | None = None,
    config: DecodeConfig,
    deadline: DecodeDeadline | None = None,
    stats: DecodeStats | None = None,
    check: bool = True,
) -> Generator[Frame, None, None]:
    """Yield frames `start_frame` to `end_frame` (not included; None is all) of the 25 fps grid, each exactly once.

    A frame has the same pixels whether it is reached by a seek or by reading from the start. The last source frame is
    held to the end. Damaged frames are left out and the one before is held; `stats` counts them.
    With `check` off that is no error: the caller looks at `Frame.is_stale`.

    Raises:
        ValueError: the range is not inside the video.
        MediaError: `decode_error`, no frame came out; `frame_count_mismatch`, at the end, more than 1 % of the range is
            missing; `picture_too_large`, either of the two because of the size of the pictures; `codec_missing`, the
            backend cannot read this file; `unavailable`, reading failed.
    """
    end = video.num_frames if end_frame is None else end_frame
    if not 0 <= start_frame <= end <= video.num_frames:
        raise ValueError(f"frames {start_frame} to {end} are not inside the video's {video.num_frames}")
    slots, guard = range(start_frame, end), deadline or nullcontext()
    checked = _checked(path, video, slots, config, guard, stats or DecodeStats(), check=check)
    return prefetch(checked, config.prefetch_frames)


def _checked(
    path: Path,
    video: Video,
    slots: range,
    config: DecodeConfig,
    guard: AbstractContextManager[object],
    stats: DecodeStats,
    *,
    check: bool,
) -> Iterator[Frame]:
    """Run the backend, then compare what came out with what should have."""
    if not slots:
        return
    num_shown = 0
    for frame in _backend(path, config).frames(path, video, slots, guard, stats, config):
        num_shown += 1
        yield frame
    counts = f"{stats.num_decoded} decoded, {stats.num_errors} packets refused, {stats.num_damaged} damaged"
    is_lost = not num_shown or (check and stats.num_missing > MISSING_SHARE * len(slots))
    if is_lost and stats.num_too_large:
        what = f"{stats.num_too_large} pictures are above decode.max_pixels={config.max_pixels}"
        raise MediaError("picture_too_large", f"{what}, so {stats.num_missing} of {len(slots)} frames are missing")
    if not num_shown:
        raise MediaError("decode_error", f"no frame of {slots.start} to {slots.stop} came out ({counts})")
    if is_lost:
        raise MediaError("frame_count_mismatch", f"{stats.num_missing} of {len(slots)} frames are missing ({counts})")


def _backend(path: Path, config: DecodeConfig) -> ModuleType:
    if path.is_dir():
        return image_folder
    if config.backend == "decord":
        from . import decord_backend  # noqa: PLC0415  decord starts libraries of its own, so only who asks for it pays

        return decord_backend
    return pyav_backend
