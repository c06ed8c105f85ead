"""Declarations of metrics: one object says what a score column is, how it is shown and which limits judge it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from ...manifests.schema import CROP_POLICIES
from ...manifests.settings import Range
from .measured_clip import MeasuredClip

ClipKind = Literal["all", "speech", "silent", "synced", "unnamed"]
"""Clips that a limit judges: all, those with speech, those without, those with speech whose sync is to be judged, or
those whose face is not the one that a source's box means."""
Side = Literal["min", "max", "max_either_way"]
"""`min`: smaller values fail. `max`: larger ones. `max_either_way`: those further from 0."""
FLOAT32 = pa.float32()
Value = float | int | str | bytes | np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A setting of `select` that a metric is judged by."""

    name: str
    default: float
    range: Range
    doc: str
    """Its line in docs/settings.md."""
    side: Side
    reason: str
    order: int
    """Position among all limits: a clip's first failure is its reason."""
    meaning: str = ""
    """Sentence that explains the reason to a person; empty for one of `manifests.reasons`."""
    clips: ClipKind = "all"
    off_at_zero: bool = False
    """Whether a threshold of 0 switches it off."""
    on_whole_picture: bool = True
    """Whether it judges clips whose crop is the whole picture."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column of the score table."""

    name: str
    """With `{policy}` it is one column for each crop policy."""
    type: pa.DataType = FLOAT32
    doc: str
    """Its line in docs/dataset.md."""
    order: int
    """Position among the columns."""
    unit: str = ""
    range: tuple[float | None, float | None] = (None, None)
    """Least and largest possible value; None: unbounded."""
    title: str = ""
    """Of its figure."""
    group: str = ""
    """Heading that the figure stands under."""
    figure: int | None = None
    """Position among the figures of the report; None: no figure."""
    limits: tuple[Limit, ...] = ()
    is_fixed: bool = False
    """Whether `manifests.schema` has the column already: it says where a clip lies."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names in the table."""
        return tuple(self.name.format(policy=policy) for policy in CROP_POLICIES) if "{" in self.name else (self.name,)


@dataclass(frozen=True, kw_only=True)
class MetricFamily:
    """Metrics that one function measures."""

    metrics: tuple[Metric, ...]
    measure: Callable[[MeasuredClip], Mapping[str, Value]] | None = None
    """Columns of a clip with a face by name; those left out are null. None: found elsewhere, by the ledger or a
    stage's own record."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A limit with its metric: a clip fails when the value of `column` lies beyond the setting `limit`."""

    reason: str
    column: str
    """A column of the score table; `{policy}` stands for the crop policy in use."""
    limit: str
    side: Side
    clips: ClipKind
    off_at_zero: bool
    on_whole_picture: bool

    def measured(self, policy: str) -> str | None:
        """Return the column that is judged; None where nothing is: all of a whole picture lies inside it."""
        return None if policy == "whole" and not self.on_whole_picture else measured(self.column, policy)


def measured(column: str, policy: str) -> str:
    """Return the column that a policy was measured in; a whole picture stands as still as the crop `static` does."""
    return column.format(policy="static" if policy == "whole" else policy)
