"""Length of a clip."""

import pyarrow as pa

from ....manifests.settings import Range
from ..metric import Limit, Metric, MetricFamily

FAMILY = MetricFamily(
    metrics=(
        Metric(
            name="duration_s",
            type=pa.float64(),
            doc="length of the clip",
            order=10,
            unit="s",
            range=(0, None),
            title="Length",
            group="Clip",
            figure=10,
            is_fixed=True,
            limits=(
                Limit(
                    name="min_clip_s",
                    default=3.0,
                    range=Range(0, 600),
                    doc="Shortest clip.",
                    side="min",
                    reason="too_short",
                    order=10,
                ),
            ),
        ),
    ),
)
