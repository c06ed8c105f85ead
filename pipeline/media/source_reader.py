"""A probed file, read as a build reads it: its frames, its sound, and the promise that it is still that file."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ...manifests.records import SAMPLES_PER_FRAME, Video
from . import audio, decode
from .costs import Costs
from .deadline import DecodeDeadline
from .decode import DecodeConfig, DecodeStats, Frame
from .source_file import FileFacts, check_content, check_unchanged


class SourceReader:
    """Reads one file.

    Args:
        path: the file.
        video: the file as it was probed.
        config: how it is decoded.
        costs: told the CPU seconds of decoding.
        deadline: kills a decode that stalls.
        stats: filled while frames are read.
        video_id: hash of the content that was probed.
        facts: of the file when it was probed; None: whatever lies at the path is read.
    """

    def __init__(
        self,
        path: Path,
        video: Video,
        config: DecodeConfig,
        costs: Costs,
        deadline: DecodeDeadline | None = None,
        *,
        stats: DecodeStats | None = None,
        video_id: str = "",
        facts: FileFacts | None = None,
    ) -> None:
        self._path, self._video, self._config = path, video, config
        self._costs, self._deadline = costs, deadline
        self._video_id, self._facts = video_id, facts
        self._before: FileFacts | None = None
        self._stats = stats or DecodeStats()

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Hold the file to what was probed, before it is read and after.

        What a decoder says of a file that was swapped under it tells nothing, so the swap is told instead.

        Raises:
            MediaError: `source_changed`; `unavailable`, it is gone or cannot be read.
        """
        self._before = check_content(self._path, self._facts, self._video_id)
        try:
            yield
        except Exception:
            self.check_unchanged()
            raise
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raise `MediaError` when the file is not the one any more that `unchanged` began with."""
        check_unchanged(self._path, self._before)

    def frames(self, start_frame: int, end_frame: int, *, check: bool = True) -> Generator[Frame, None, None]:
        """Yield the frames of a stretch; raises `MediaError` as `decode.frames` does.

        Args:
            start_frame: first one, on the 25 fps grid.
            end_frame: the one after the last.
            check: whether too many missing frames are an error.
        """
        decoded = decode.frames(
            self._path,
            self._video,
            start_frame=start_frame,
            end_frame=end_frame,
            config=self._config,
            deadline=self._deadline,
            stats=self._stats,
            check=check,
        )
        with closing(decoded):  # whatever happens, a thread that decodes ahead ends before the deadline does
            while (frame := self._pull(decoded)) is not None:
                yield frame

    def sound(self, start_frame: int, end_frame: int, *, shift_samples: int = 0) -> np.ndarray:
        """Return the sound of a stretch, int16 [640 T] at 16 kHz.

        Args:
            start_frame: first frame of the stretch.
            end_frame: the one after the last.
            shift_samples: by how much it is delayed. It is cut out of the source at that place, so that a correction
                invents no silence where there is sound.
        """
        margin = -(-abs(shift_samples) // SAMPLES_PER_FRAME)
        first = max(0, start_frame - margin)
        pcm = audio.read(
            self._path, self._video, start_frame=first, end_frame=end_frame + margin, deadline=self._deadline
        )
        start = (start_frame - first) * SAMPLES_PER_FRAME - shift_samples
        padded = np.pad(pcm, (max(0, -start), 0))  # nothing lies before the start of the file
        start = max(0, start)
        return np.ascontiguousarray(padded[start : start + (end_frame - start_frame) * SAMPLES_PER_FRAME])

    def _pull(self, frames: Iterator[Frame]) -> Frame | None:
        with self._costs.stage("decode"):
            return next(frames, None)
