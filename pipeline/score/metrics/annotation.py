"""Metrics of the source's annotation; the ledger finds them, for they need all clips of a file."""

import pyarrow as pa

from ....manifests.settings import Range
from ..metric import Limit, Metric, MetricFamily

FAMILY = MetricFamily(
    metrics=(
        Metric(
            name="annotated_faces",
            type=pa.int32(),
            doc="faces seen together that the source's boxes mean; 0: they mean others; null: no box",
            order=160,
            range=(0, None),
            limits=(
                Limit(
                    name="min_annotated",
                    default=1,
                    range=Range(0, 1),
                    doc="1: where a source's box shows which of several faces it means, the others are dropped. "
                    "0: they are not.",
                    side="min",
                    reason="not_annotated",
                    order=80,
                    off_at_zero=True,
                ),
            ),
        ),
    ),
)
