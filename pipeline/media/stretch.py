"""A stretch of a video that is decoded once for all clips in it: the one loop of encode and export."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol, TypeVar

from ...manifests.errors import MediaError
from ...manifests.records import Video
from . import decode
from .costs import Costs
from .deadline import DecodeDeadline
from .decode import DecodeConfig, DecodeStats, Frame


class FrameTaker(Protocol):
    """Takes the frames of a stretch one after the other."""

    @property
    def is_whole(self) -> bool:
        """Whether all its frames were taken."""
        ...


Taker = TypeVar("Taker", bound=FrameTaker)


def decode_stretch(
    path: Path,
    video: Video,
    frames: range,
    waiting: list[Taker],
    add: Callable[[Taker, Frame], None],
    *,
    config: DecodeConfig,
    costs: Costs,
    deadline: DecodeDeadline | None = None,
    stats: DecodeStats | None = None,
) -> Generator[Taker, None, None]:
    """Yield clips as they become whole, while the stretch goes on.

    Args:
        path: the file.
        video: the file as it was probed.
        frames: numbers on the 25 fps grid, step 1.
        waiting: the clips of the stretch. The caller takes a clip out when it is done with it: what is left when
            decoding fails has failed with it.
        add: gives a frame to a clip; called with every frame for every clip, in order.
        config: how it is decoded. Missing frames are no error here: each clip is judged by its own frames.
        costs: told the CPU seconds of decoding.
        deadline: kills a decode that stalls.
        stats: filled while it runs.

    Raises:
        MediaError: as `decode.frames`; `frame_count_mismatch`, clips end after the last frame.
    """
    decoded = decode.frames(
        path,
        video,
        start_frame=frames.start,
        end_frame=frames.stop,
        config=config,
        deadline=deadline,
        stats=stats,
        check=False,
    )
    with closing(decoded):  # whatever happens, a thread that decodes ahead ends before the deadline does
        while (frame := _pull(decoded, costs)) is not None:
            for clip in waiting:
                add(clip, frame)
            yield from [clip for clip in waiting if clip.is_whole]
        if waiting:
            raise MediaError("frame_count_mismatch", f"{len(waiting)} clips end after the last decoded frame")


def _pull(frames: Iterator[Frame], costs: Costs) -> Frame | None:
    with costs.stage("decode"):
        return next(frames, None)
