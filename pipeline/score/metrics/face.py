"""Metrics of the face: where it is, how large, and who else is there."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ....manifests.settings import Range
from ... import crop
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value

SIMILAR_HEIGHT = 0.5
"""A person whose face is at least this share of another's height may be the speaker too."""
SHARED_TIME = 0.5
"""People who are seen together for this share of a clip are in it together."""


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Measure geometry and size of the face, and count those of similar size."""
    low, middle, high = np.percentile(clip.heights, (5, 50, 95))
    return {
        "boxes": clip.boxes.reshape(-1),
        "landmarks": None if clip.landmarks is None else clip.landmarks.reshape(-1),
        "mouth_opening": clip.opening,
        # Frames between two key frames are not looked at, and not being detected there says nothing.
        "detected_share": min(1.0, float(np.mean(clip.track.detected[clip.local])) * clip.stride),
        "face_height_p5_px": float(low),
        "face_height_p50_px": float(middle),
        "face_height_p95_px": float(high),
        "height_ratio": crop.height_ratio(clip.boxes),
        "num_faces": count_faces(clip, float(middle)),
    }


def count_faces(clip: MeasuredClip, height_px: float) -> int:
    """Return how many people of similar size are seen during a clip, its own face included."""
    people = 1
    for other in clip.tracks:
        shared = min(clip.piece.end_frame, other.end_frame) - max(clip.piece.start_frame, other.start_frame)
        if other is clip.track or shared < SHARED_TIME * clip.piece.num_frames:
            continue
        boxes = np.stack(other.boxes)
        people += bool(np.median(boxes[:, 3] - boxes[:, 1]) >= SIMILAR_HEIGHT * height_px)
    return people


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="detected_share",
            doc="frames with a detection of their own among those looked at",
            order=100,
            range=(0, 1),
        ),
        Metric(
            name="face_height_p5_px",
            doc="height of the face, 5th percentile",
            order=110,
            unit="px",
            range=(0, None),
            limits=(
                Limit(
                    name="min_face_px",
                    default=96.0,
                    range=Range(0, 10000),
                    doc="Shortest face in the clip, px (5th percentile of the box height).",
                    side="min",
                    reason="face_too_small",
                    order=40,
                ),
            ),
        ),
        Metric(
            name="face_height_p50_px",
            doc="its median",
            order=120,
            unit="px",
            range=(0, None),
            title="Face height",
            group="Face",
            figure=20,
        ),
        Metric(name="face_height_p95_px", doc="its 95th percentile", order=130, unit="px", range=(0, None)),
        Metric(
            name="height_ratio",
            doc="tallest box over shortest",
            order=140,
            range=(1, None),
            title="Tallest over shortest face",
            group="Face",
            figure=30,
            limits=(
                Limit(
                    name="max_height_ratio",
                    default=1.4,
                    range=Range(1, 100),
                    doc="Tallest over shortest face; above, one fixed-height crop does not fit (HighSync).",
                    side="max",
                    reason="face_scale_change",
                    order=30,
                ),
            ),
        ),
        Metric(
            name="num_faces",
            type=pa.int32(),
            doc="people of similar size in the shot",
            order=150,
            range=(1, None),
            limits=(
                Limit(
                    name="max_faces",
                    default=1,
                    range=Range(1, 1000),
                    doc="People of similar size in the shot; more, and the speaker is not known without a trusted "
                    "sync network.",
                    side="max",
                    reason="multiple_faces",
                    order=90,
                    clips="unnamed",
                ),
            ),
        ),
    ),
)
