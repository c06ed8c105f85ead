"""A stretch of a video that is decoded once for all clips in it: the one loop of encode and export."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Protocol, TypeVar

from ...manifests.errors import MediaError
from .decode import Frame
from .source_reader import SourceReader


class FrameTaker(Protocol):
    """Takes the frames of a stretch one after the other."""

    @property
    def is_whole(self) -> bool:
        """Whether all its frames were taken."""
        ...


Taker = TypeVar("Taker", bound=FrameTaker)


def decode_stretch(
    reader: SourceReader, stretch: range, waiting: list[Taker], add: Callable[[Taker, Frame], None]
) -> Generator[Taker, None, None]:
    """Yield clips as they become whole, while the stretch goes on.

    Missing frames are no error here: each clip is judged by its own frames.

    Args:
        reader: of the file.
        stretch: numbers on the 25 fps grid, step 1.
        waiting: the clips of the stretch. The caller takes a clip out when it is done with it: what is left when
            decoding fails has failed with it.
        add: gives a frame to a clip; called with every frame for every clip, in order.

    Raises:
        MediaError: as `decode.frames`; `frame_count_mismatch`, clips end after the last frame.
    """
    with closing(reader.frames(stretch.start, stretch.stop, check=False)) as frames:
        for frame in frames:
            for clip in waiting:
                add(clip, frame)
            yield from [clip for clip in waiting if clip.is_whole]
        if waiting:
            raise MediaError("frame_count_mismatch", f"{len(waiting)} clips end after the last decoded frame")
