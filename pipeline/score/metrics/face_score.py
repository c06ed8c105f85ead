"""Metric of the detector's own score: how sure it is that there is a face."""

from collections.abc import Mapping

import numpy as np

from ....manifests.settings import Range
from ..measured_clip import MeasuredClip
from ..metric import Limit, Metric, MetricFamily, Value


def measure(clip: MeasuredClip) -> Mapping[str, Value]:
    """Return the median over the frames that the detector found the face in; null where it was not asked."""
    scores = np.asarray(clip.track.scores[clip.local])
    found = scores[np.isfinite(scores)]
    return {"face_score": float(np.median(found)) if len(found) else None}


FAMILY = MetricFamily(
    measure=measure,
    metrics=(
        Metric(
            name="face_score",
            doc="median of the detector's score, each network's own scale; null where boxes come from the source",
            order=105,
            range=(0, 1),
            title="Score of the detector",
            group="Face",
            figure=15,
            limits=(
                Limit(
                    name="min_face_score",
                    default=0.0,
                    range=Range(0, 1),
                    doc="Smallest `face_score`; 0: any. Each detector has its own scale: look at clips near the limit.",
                    side="min",
                    reason="uncertain_face",
                    meaning="the detector is not sure that there is a face",
                    order=25,
                    off_at_zero=True,
                ),
            ),
        ),
    ),
)
