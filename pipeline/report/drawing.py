"""Drawing: a clip of the source with the face box, the crop box and the verdict on it, and its own sound."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from ...manifests import settings
from ...manifests.dataset import Dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.records import FRAME_RATE
from ...manifests.storage import atomic_path
from ..config import Config
from ..crop import crop_boxes
from ..media.mp4 import add_sound, encode_video
from ..media.source_clip import SourceClip, open_source, source_folder
from .clip_columns import ClipColumns
from .previews import SAMPLE_RATE_HZ
from .rows import ClipRow
from .story import find

MAX_HEIGHT_PX = 720
"""Taller pictures are made smaller; a film for a look needs no more."""
MIN_HEIGHT_PX = 360
"""Smaller ones are made larger: text would not fit."""
FACE, CROP, TEXT, SHADOW = (80, 220, 80), (255, 170, 40), (255, 255, 255), (0, 0, 0)
"""RGB: the face box green, the crop box orange."""
COLUMNS = (
    *("clip_id", "path", "video_id", "start_frame", "num_frames", "boxes", "landmarks", "crop_policy", "clip_class"),
    *("verdict", "reason", "value", "threshold", "audio_lead_frames", "sync_confidence", "sync_trust", "split"),
)


def draw(dataset: Dataset, name: str, output: Path, input_dir: Path | None = None) -> ClipRow:
    """Write a film of one clip, kept or dropped, and return its row of the clip table.

    Args:
        dataset: an opened dataset.
        name: the clip's id or its beginning, or a file that has one clip.
        output: MP4 file to write: H.264 and AAC, at most 720 px high.
        input_dir: the source folder, which only the demo can do without.

    Raises:
        ConfigError: no source folder, or an output that lies in it or is no `.mp4`.
        DatasetError: no such clip, or a source file that is gone or another one.
        MediaError: the source cannot be decoded.
    """
    config = settings.build(Config, dataset.index.config)
    row = one_clip(dataset, name)
    folder = source_folder(dataset, input_dir)
    if output.suffix.lower() != ".mp4" or folder.resolve() in output.resolve().parents:
        raise ConfigError(f"--output {output}: name an .mp4 file outside the source folder")
    clip = open_source(row, folder, config.decode)
    film = encode_video(_pictures(clip, row, config), Fraction(FRAME_RATE))
    with atomic_path(output) as temporary:
        add_sound(film, clip.sound(), temporary, sample_rate_hz=SAMPLE_RATE_HZ, num_channels=1)
    return row


def one_clip(dataset: Dataset, name: str) -> ClipRow:
    """Return the row of the one clip that goes by a name, with its boxes.

    Raises:
        DatasetError: nothing, or several clips, go by that name.
    """
    _, found = find(dataset, name)
    if len(found) != 1:
        known = ", ".join(f"{row['clip_id']} ({row['start_s']:.1f} s)" for row in found[:8]) or "none"
        raise DatasetError(f"{name}: {len(found)} clips go by it: {known}; name one by its id")
    clips = ClipColumns(dataset)
    index = np.flatnonzero(clips.has_id({found[0]["clip_id"]}))
    return clips.rows(index, list(COLUMNS)).to_pylist()[0]


def _pictures(clip: SourceClip, row: ClipRow, config: Config) -> Iterator[tuple[Fraction, np.ndarray]]:
    faces, crops = _boxes(row, config)
    lines = list(words(row))
    for index, frame in enumerate(clip.frames()):
        shown, scale = _fit(frame.rgb)
        if faces is not None and crops is not None:
            _rectangle(shown, faces[index] * scale, FACE)
            _rectangle(shown, crops[index] * scale, CROP)
        stale = " damaged" if frame.is_stale else ""
        at = f"frame {index} of {clip.num_frames}, {frame.index / FRAME_RATE:.2f} s of the file{stale}"
        _write(shown, [*lines, at])
        yield Fraction(index, FRAME_RATE), shown


def _boxes(row: ClipRow, config: Config) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return face and crop boxes, each [T, 4] in source px; None for a stretch without a face."""
    if row["boxes"] is None:
        return None, None
    faces = np.asarray(row["boxes"], np.float32).reshape(-1, 4)
    points = row["landmarks"] and np.asarray(row["landmarks"], np.float32).reshape(-1, 5, 2)
    return faces, crop_boxes(faces, points, config.crop)


def words(row: ClipRow) -> Iterator[str]:
    """Yield the lines that stand on every picture: the clip, its verdict with value and limit, its audio lead."""
    yield f"clip {row['clip_id']}"
    if row["verdict"] == "kept":
        yield f"KEPT as {row['clip_class']} ({row['split']})"
    else:
        value = "" if row["value"] is None else f" {row['value']:.3g}"
        limit = "" if row["threshold"] is None else f", limit {row['threshold']:.3g}"
        yield f"{row['verdict'].upper()} {row['reason']}{value}{limit}"
    if row["audio_lead_frames"] is not None:
        side = "early" if row["audio_lead_frames"] > 0 else "late"
        trust = f"confidence {row['sync_confidence']:.2f}, {row['sync_trust']} trust"
        yield f"sound {abs(row['audio_lead_frames']):.1f} frames {side}, {trust}"
    if row["boxes"] is not None:
        yield f"green: face, orange: crop {row['crop_policy']}"


def _fit(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the picture with even sides, as H.264 wants them, 360 to 720 px high, and its scale."""
    height, width = rgb.shape[:2]
    scale = float(np.clip(height, MIN_HEIGHT_PX, MAX_HEIGHT_PX)) / height
    size = (max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2))
    taps = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    shown = rgb.copy() if size == (width, height) else np.asarray(cv2.resize(rgb, size, interpolation=taps))
    return shown, scale


def _rectangle(rgb: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = (int(side) for side in np.rint(box))
    cv2.rectangle(rgb, (x0, y0), (x1, y1), colour, 2)


def _write(rgb: np.ndarray, lines: list[str]) -> None:
    size = rgb.shape[0] / 900
    for number, line in enumerate(lines, 1):
        corner = (8, round(number * size * 34))
        for colour, width in ((SHADOW, 3), (TEXT, 1)):
            cv2.putText(rgb, line, corner, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
