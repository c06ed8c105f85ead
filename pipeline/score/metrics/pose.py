"""Metrics of the head's pose, from five landmarks and a generic head; good to about 5 degrees."""

from collections.abc import Mapping

import numpy as np

from ....manifests.settings import Range
from ...faces import quality
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Return the 95th percentile of the head's turn and nod; nothing without landmarks."""
    looked = [] if clip.landmarks is None else clip.landmarks[:: clip.stride]
    poses = [pose for pose in (quality.head_pose(points, *clip.size) for points in looked) if pose is not None]
    if not poses:
        return {}
    yaw, pitch = np.percentile(np.abs(np.array(poses)), 95, axis=0)
    return {"yaw_p95_deg": float(yaw), "pitch_p95_deg": float(pitch)}


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="yaw_p95_deg",
            doc="turn of the head either way, 95th percentile; good to about 5 degrees",
            order=170,
            unit="degrees",
            range=(0, 180),
            title="Yaw, 95th percentile",
            group="Face",
            figure=40,
            limits=(
                Limit(
                    name="max_yaw_deg",
                    default=60.0,
                    range=Range(0, 180),
                    doc="Largest turn of the head (95th percentile; needs landmarks).",
                    side="max",
                    reason="pose_out_of_range",
                    order=60,
                ),
            ),
        ),
        Metric(
            name="pitch_p95_deg",
            doc="nod of the head either way, 95th percentile; good to about 5 degrees",
            order=180,
            unit="degrees",
            range=(0, 180),
            title="Pitch, 95th percentile",
            group="Face",
            figure=50,
            limits=(
                Limit(
                    name="max_pitch_deg",
                    default=45.0,
                    range=Range(0, 180),
                    doc="Largest nod of the head (95th percentile; needs landmarks).",
                    side="max",
                    reason="pose_out_of_range",
                    order=70,
                ),
            ),
        ),
    ),
)
