"""Cut kept clips out of their source file as the encode pass does, or take their crops from the shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from ...manifests import settings
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import MediaError
from ...manifests.records import Video
from ...manifests.storage import atomic_path, below, sha256_file
from .. import crop
from ..encode.items import EncodeItem, decode_runs
from ..media.costs import Costs
from ..media.decode import DecodeConfig, Frame
from ..media.probe import probe
from ..media.source_reader import SourceReader
from ..media.stretch import decode_stretch
from .clips import ExportClip
from .film import ClipFilm

Pixels = Literal["source", "jpeg"]


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """Options of cutting that a worker needs; small values, for it goes to other processes."""

    dataset: Path
    root: Path | None
    """The source folder; None where pixels come from the shards."""
    pixels: Pixels
    size: int
    crf: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Reason why a clip is not exported."""

    reason: str
    """`source_missing`, `source_changed`, or a member of `REASONS`."""
    detail: str


def cut(clips: Sequence[ExportClip], targets: Mapping[str, Path], cutting: Cutting) -> dict[str, Failure | None]:
    """Make the films of clips of one source file, each whole or not at all.

    Args:
        clips: of one file.
        targets: clip id to the file to write.
        cutting: where from, and how.

    Returns:
        Clip id to why there is no film, or None.

    Raises:
        HsDataError: the dataset cannot be read.
        OSError: the disk.
    """
    cv2.setNumThreads(1)  # as in the encode pass; workers share the cores
    dataset = open_dataset(cutting.dataset)
    if cutting.pixels == "jpeg":
        for clip in clips:
            _film(_jpegs(dataset, clip), dataset, clip, targets[clip.clip_id], cutting)
        return dict.fromkeys((clip.clip_id for clip in clips), None)
    assert cutting.root is not None
    path = below(cutting.root, clips[0].path)
    try:
        video = _checked(path, clips[0].video_id, _decoding(dataset))
    except MediaError as error:
        return dict.fromkeys((clip.clip_id for clip in clips), Failure(reason=error.reason, detail=error.detail))
    return dict(_from_source(path, video, dataset, clips, targets, cutting))


def _decoding(dataset: Dataset) -> DecodeConfig:
    """Return how the dataset's files were decoded."""
    return settings.build(DecodeConfig, dataset.index.config["decode"], path="decode.")


def _checked(path: Path, video_id: str, limits: DecodeConfig) -> Video:
    """Probe the source file; raise `MediaError` when it is not the one that was scored."""
    if not path.is_file():
        raise MediaError("source_missing", f"{path}: not there; name its folder with --input, or use --pixels jpeg")
    if sha256_file(path) != video_id:
        raise MediaError("source_changed", f"{path}: is not the file that the dataset was built from; build again")
    return probe(path, limits=limits)


def _from_source(
    path: Path,
    video: Video,
    dataset: Dataset,
    clips: Sequence[ExportClip],
    targets: Mapping[str, Path],
    cutting: Cutting,
) -> Iterator[tuple[str, Failure | None]]:
    """Decode each stretch once and yield how each clip ended."""
    by_id = {clip.clip_id: clip for clip in clips}
    reader = SourceReader(path, video, _decoding(dataset), Costs())
    for run in decode_runs([_item(dataset, clip, video) for clip in clips]):
        waiting = [_OpenFilm(item, cutting) for item in run.items]
        stretch = range(run.start_frame, run.end_frame)
        try:
            for film in decode_stretch(reader, stretch, waiting, _OpenFilm.add):
                waiting.remove(film)
                clip = by_id[film.item.clip_id]
                film.finish(_pcm(dataset, clip), targets[clip.clip_id])
                yield clip.clip_id, None
        except MediaError as error:
            failure = Failure(reason=error.reason, detail=error.detail)
            yield from ((film.item.clip_id, failure) for film in waiting)


def _item(dataset: Dataset, clip: ExportClip, video: Video) -> EncodeItem:
    """Return the clip as the encode pass had it, with the stored crops for boxes: they are what is cut."""
    crops = dataset.read(clip.stored, "crop")
    return EncodeItem(
        clip_id=clip.clip_id,
        path=clip.path,
        video=video,
        start_frame=clip.start_frame,
        num_frames=len(crops),
        boxes=crops,
        landmarks=None,
        mouth_opening=np.zeros(len(crops), np.float32),
        audio_lead_frames=None,
    )


class _OpenFilm:
    """A film that takes the frames of its stretch."""

    def __init__(self, item: EncodeItem, cutting: Cutting) -> None:
        self.item = item
        self._film, self._size = ClipFilm(cutting.crf), cutting.size
        self._num_added = 0

    @property
    def is_whole(self) -> bool:
        return self._num_added == self.item.num_frames

    def add(self, frame: Frame) -> None:
        index = frame.index - self.item.start_frame
        if 0 <= index < self.item.num_frames:
            self._film.add(crop.warp(frame.rgb, self.item.boxes[index], self._size))
            self._num_added += 1

    def finish(self, pcm: np.ndarray, path: Path) -> None:
        with atomic_path(path) as temporary:
            self._film.finish(pcm, temporary)


def _film(pictures: Iterator[np.ndarray], dataset: Dataset, clip: ExportClip, path: Path, cutting: Cutting) -> None:
    film = ClipFilm(cutting.crf)
    for rgb in pictures:
        film.add(rgb)
    with atomic_path(path) as temporary:
        film.finish(_pcm(dataset, clip), temporary)


def _jpegs(dataset: Dataset, clip: ExportClip) -> Iterator[np.ndarray]:
    for data in dataset.read(clip.stored, "frame_jpeg"):
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None  # `hs-data verify` says what is damaged
        yield np.ascontiguousarray(bgr[..., ::-1])


def _pcm(dataset: Dataset, clip: ExportClip) -> np.ndarray:
    """Return the sound that a trainer reads, corrected where the build corrected it: int16 [640 T]."""
    return np.ascontiguousarray(dataset.read(clip.stored, "pcm").reshape(-1))
