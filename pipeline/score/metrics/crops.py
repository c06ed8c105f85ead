"""Metrics of the crop, under every policy, so that another one needs no new scoring."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ....manifests.schema import CROP_POLICIES
from ....manifests.settings import Range
from ... import crop, leakage
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Return leakage, jitter and share outside the picture under every crop policy."""
    row: dict[str, Value] = {}
    for policy in CROP_POLICIES:
        if policy != "eyes" or clip.landmarks is not None:
            crops = crop.crop_boxes(clip.boxes, clip.landmarks, replace(clip.crop, policy=policy))
            row[f"outside_share_{policy}"] = crop.outside_share(crops, *clip.size)
            row[f"crop_jitter_{policy}"] = crop.jitter(crops)
            # Leakage and its floor, `static`, come from the same folds.
            score = leakage.leakage(crops, clip.landmarks, clip.boxes, clip.opening).score
            row[f"leakage_{policy}"] = None if np.isnan(score) else score
    return row


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="leakage_{policy}",
            doc="correlation of crop geometry with the mouth opening; `leakage_static` is the floor",
            order=190,
            range=(-1, 1),
            limits=(
                Limit(
                    name="max_leakage",
                    default=0.0,
                    range=Range(0, 1),
                    doc="Largest correlation between crop geometry and mouth opening. 0: not judged.",
                    side="max",
                    reason="crop_leaks",
                    order=160,
                    off_at_zero=True,
                ),
            ),
        ),
        Metric(name="crop_jitter_{policy}", doc="restlessness of the crop", order=200, range=(0, None)),
        Metric(
            name="outside_share_{policy}",
            doc="share of the crop outside the picture",
            order=210,
            range=(0, 1),
            limits=(
                Limit(
                    name="max_outside_share",
                    default=0.25,
                    range=Range(0, 1),
                    doc="Largest share of the crop that may lie outside the picture.",
                    side="max",
                    reason="face_out_of_frame",
                    order=50,
                    on_whole_picture=False,
                ),
            ),
        ),
    ),
)
