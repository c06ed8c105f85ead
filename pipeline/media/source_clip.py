"""A candidate clip in its source file: found again, checked to be the same content, decoded as a build decodes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...manifests.dataset import Dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.records import Video
from ...manifests.sources import find_source
from ...manifests.storage import below, sha256_file
from . import audio, decode
from .decode import DecodeConfig, Frame
from .probe import probe


@dataclass(frozen=True, kw_only=True)
class SourceClip:
    """A stretch of a source file."""

    path: Path
    video: Video
    start_frame: int
    num_frames: int
    config: DecodeConfig

    @property
    def end_frame(self) -> int:
        """The frame after the last one."""
        return self.start_frame + self.num_frames

    def frames(self) -> Iterator[Frame]:
        """Yield the frames; damaged ones are the frame before and say so (`Frame.is_stale`)."""
        return decode.frames(
            self.path,
            self.video,
            start_frame=self.start_frame,
            end_frame=self.end_frame,
            config=self.config,
            check=False,
        )

    def sound(self) -> np.ndarray:
        """Return the source's own sound, not moved: int16 [640 T] at 16 kHz."""
        return audio.read(self.path, self.video, start_frame=self.start_frame, end_frame=self.end_frame)


def source_folder(dataset: Dataset, given: Path | None) -> Path:
    """Return the folder of the source files.

    Raises:
        ConfigError: it is not given, and the source did not make its own videos; or there is no such folder.
    """
    folder = given or made_folder(dataset)
    if folder is None:
        raise ConfigError(f"{dataset.path}: does not know where its source is; give --input DIR, as for the build")
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give --input DIR, as for the build")
    return folder


def made_folder(dataset: Dataset) -> Path | None:
    """Return the folder of a dataset whose source made its own videos; None where it makes none."""
    source = find_source(dataset.index.source)
    return source and source.made_folder(dataset.path)


def open_source(row: dict[str, Any], folder: Path, config: DecodeConfig) -> SourceClip:
    """Find the source file of a clip.

    Args:
        row: of the clip table, with `path`, `video_id`, `start_frame` and `num_frames`.
        folder: the source folder.
        config: how it is decoded.

    Raises:
        DatasetError: the file is gone, holds something else than when the dataset was built, or its path leads out of
            the folder.
        MediaError: it cannot be read.
    """
    path = below(folder, row["path"])
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; give --input DIR, as for the build")
    if sha256_file(path) != row["video_id"]:
        raise DatasetError(f"{path}: not the file that was built from; give the same --input DIR, or build again")
    span = {"start_frame": row["start_frame"], "num_frames": row["num_frames"]}
    return SourceClip(path=path, video=probe(path, limits=config), **span, config=config)
