"""The registry of metrics: what the modules in `metrics/` declare, and the tables, rules and settings that follow."""

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any

import pyarrow as pa

from ...manifests import reasons
from ...manifests.schema import BULKY, PLACE_FIELDS, VERDICT_FIELDS
from . import metrics
from .measured_clip import MeasuredClip
from .metric import Limit, Metric, MetricFamily, Rule, Value


def _families() -> Iterator[MetricFamily]:
    for found in sorted(pkgutil.iter_modules(metrics.__path__), key=lambda module: module.name):
        module = importlib.import_module(f"{metrics.__name__}.{found.name}")
        assert isinstance(module.FAMILY, MetricFamily), f"{found.name}: FAMILY is to be a MetricFamily"
        yield module.FAMILY


def _in_order(found: list[Metric]) -> tuple[Metric, ...]:
    orders = [metric.order for metric in found]
    assert len(set(orders)) == len(orders), f"two metrics claim one position: {sorted(orders)}"
    return tuple(sorted(found, key=lambda metric: metric.order))


FAMILIES = tuple(_families())
METRICS = _in_order([metric for family in FAMILIES for metric in family.metrics])
"""All metrics in the order of their columns."""

SCORE_SCHEMA = pa.schema(
    [
        *PLACE_FIELDS,
        *(pa.field(name, metric.type) for metric in METRICS if not metric.is_fixed for name in metric.columns),
    ]
)
"""Columns of the files of scores: where a clip lies, and what was measured of it."""
CLIP_SCHEMA = pa.schema([*SCORE_SCHEMA, *VERDICT_FIELDS])
"""Columns of `clips.parquet`."""
SCORES = tuple(name for name in SCORE_SCHEMA.names if name not in BULKY)
LIGHT = tuple(name for name in CLIP_SCHEMA.names if name not in BULKY)

_LIMITS: list[tuple[Metric, Limit]] = sorted(
    ((metric, limit) for metric in METRICS for limit in metric.limits), key=lambda pair: pair[1].order
)
REASONS = reasons.REASONS | {limit.reason: limit.meaning for _, limit in _LIMITS if limit.meaning}
"""Reason to the sentence that explains it to a person: the vocabulary, and what metrics add to it."""
RULES = tuple(
    Rule(
        reason=limit.reason,
        column=metric.name,
        limit=limit.name,
        side=limit.side,
        clips=limit.clips,
        off_at_zero=limit.off_at_zero,
        on_whole_picture=limit.on_whole_picture,
    )
    for metric, limit in _LIMITS
)
"""In the order in which a person would look: what cannot be used at all first, what is out of sync last."""

# The fields are known at run time only, so a type checker is told nothing of them.
LimitSettings: Any = dataclasses.make_dataclass(
    "LimitSettings",
    [
        (
            limit.name,
            Annotated[type(limit.default), limit.range],
            dataclasses.field(default=limit.default, metadata={"doc": limit.doc}),
        )
        for _, limit in _LIMITS
    ],
    frozen=True,
    kw_only=True,
)
"""A config dataclass with a number for each limit, in the order of `RULES`."""


def measure(clip: MeasuredClip) -> dict[str, Value]:
    """Measure a clip by every metric; columns that could not be measured are missing."""
    row: dict[str, Value] = {}
    for family in FAMILIES:
        if family.measure is not None:
            row |= family.measure(clip)
    return row
