"""Diff: which clips two datasets, or two selections of one, judge otherwise, and by which values and limits."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from ...manifests import settings
from ...manifests.dataset import Dataset
from ..score.registry import CLIP_SCHEMA
from ..select import RULES, Rule, SelectConfig, judges_sync
from .rows import ClipRow
from .terminal import duration

SHOWN = ("clip_id", "path", "start_s", "duration_s")
JUDGED = ("verdict", "reason", "value", "threshold", "split", "crop_policy")
MADE_BY = ("hs_data_version", "source", "preset", "fingerprints", "models")
"""Fields of the index that tell of the making, besides the settings."""
MAX_ROWS = 40
"""Clips that a terminal shows; JSON has all."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sides(Generic[T]):
    """One value of either dataset."""

    a: T
    b: T


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Verdict of one side on a clip."""

    verdict: str
    reason: str | None
    value: float | None
    """Measured value that decided; of a clip without a reason, the one that decided on the other side."""
    limit: float | None


@dataclass(frozen=True, kw_only=True)
class ChangedClip:
    """A clip that the two sides judge otherwise."""

    clip_id: str
    path: str
    start_s: float
    duration_s: float
    a: Judgement
    b: Judgement


@dataclass(frozen=True, kw_only=True)
class Transition:
    """Clips that go from one reason, or verdict, to another."""

    a: str
    b: str
    clips: int
    hours: float


@dataclass(frozen=True, kw_only=True)
class OneSidedClip:
    """A clip that only one side has."""

    clip_id: str
    path: str
    start_s: float
    duration_s: float
    verdict: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class ClipNumbers:
    """Candidates of either side, and how they agree."""

    a: int
    b: int
    both: int
    changed: int


@dataclass(frozen=True, kw_only=True)
class DatasetDiff:
    """All in which one dataset differs from another."""

    a: str
    """Path, and selection."""
    b: str
    settings: Mapping[str, Sides[object]]
    """By dotted key."""
    made_by: Mapping[str, Sides[object]]
    clips: ClipNumbers
    hours_kept: Sides[float]
    split_changed: int
    """Clips of both that are in another split."""
    transitions: Sequence[Transition]
    """The most clips first."""
    changed: Sequence[ChangedClip]
    only_in_a: Sequence[OneSidedClip]
    only_in_b: Sequence[OneSidedClip]


def diff(a: Dataset, b: Dataset) -> DatasetDiff:
    """Return how b differs from a: settings, verdicts, clips that only one of them has.

    Clips are matched by id: the same file content, frames and track. A clip that only one side drops has the same
    measure and limit stated for the other side, so that it can be seen whether the clip or the limit changed.

    Raises:
        DatasetError: a table cannot be read.
    """
    one, two = _Side(a), _Side(b)
    indices = pc.call_function("index_in", [one.clips["clip_id"]], pc.SetLookupOptions(two.clips["clip_id"]))
    here, there = one.clips.filter(indices.is_valid()), two.clips.take(indices.drop_null())
    # Fields of kept clips are null, and null is not equal to null.
    changed = [_differs(here, there, name) for name in ("verdict", "reason")]
    changed = pc.call_function("or", changed)
    rows = list(_changed(one, two, here.filter(changed), there.filter(changed)))
    back = pc.call_function("is_in", [two.clips["clip_id"]], pc.SetLookupOptions(one.clips["clip_id"]))
    new = two.clips.filter(pc.call_function("invert", [back]))
    return DatasetDiff(
        a=_name(a),
        b=_name(b),
        settings=_differences(a.index.config, b.index.config),
        made_by=_differences(*({name: asdict(d.index)[name] for name in MADE_BY} for d in (a, b))),
        clips=ClipNumbers(a=len(one.clips), b=len(two.clips), both=len(here), changed=len(rows)),
        hours_kept=Sides(a=one.hours_kept, b=two.hours_kept),
        split_changed=pc.call_function("sum", [_differs(here, there, "split")]).as_py() or 0,
        transitions=_transitions(rows),
        changed=rows,
        only_in_a=_only(one.clips.filter(indices.is_null())),
        only_in_b=_only(new),
    )


class _Side:
    """One of the two: its clips without what is long, and its limits."""

    def __init__(self, dataset: Dataset) -> None:
        self.limits = settings.build(SelectConfig, dataset.index.config["select"], path="select.")
        self.policy = dataset.index.config["crop"]["policy"]
        columns = [rule.column.format(policy=self.policy) for rule in RULES]
        self.clips = dataset.clips(list(dict.fromkeys([*SHOWN, *JUDGED, "sync_trust", *columns])), CLIP_SCHEMA)
        kept = self.clips.filter(pc.field("verdict") == "kept")
        self.hours_kept = round(sum(kept["duration_s"].to_pylist()) / 3600, 5)

    def rule(self, row: ClipRow) -> Rule | None:
        """Return the rule that a clip fell under; None where it was none of `select`'s."""
        reason = "too_short" if row["reason"] in ("face_gap", "identity_jump") else row["reason"]
        same = (rule for rule in RULES if rule.reason == reason)
        return next((rule for rule in same if float(getattr(self.limits, rule.limit)) == row["threshold"]), None)

    def verdict(self, row: ClipRow, rule: Rule | None) -> Judgement:
        """Return verdict, measured value and limit; of a clip without one, those of a rule."""
        value, limit = row["value"], row["threshold"]
        if row["reason"] is None and rule is not None:
            value = row[rule.column.format(policy=self.policy)]
            in_force = rule.clips != "synced" or judges_sync(self.limits, row["sync_trust"])
            limit = float(getattr(self.limits, rule.limit)) if in_force else None
        return Judgement(verdict=row["verdict"], reason=row["reason"], value=value, limit=limit)


def _changed(one: _Side, two: _Side, here: pa.Table, there: pa.Table) -> Iterator[ChangedClip]:
    for old, new in zip(here.to_pylist(), there.to_pylist(), strict=True):
        shown = {name: old[name] for name in SHOWN}
        yield ChangedClip(**shown, a=one.verdict(old, two.rule(new)), b=two.verdict(new, one.rule(old)))


def _differs(here: pa.Table, there: pa.Table, name: str) -> pa.ChunkedArray:
    return pc.call_function("not_equal", [column.fill_null("") for column in (here[name], there[name])])


def _transitions(rows: Sequence[ChangedClip]) -> list[Transition]:
    """Count clips and hours by what they were and what they are, the most clips first."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        found[row.a.reason or row.a.verdict, row.b.reason or row.b.verdict].append(row.duration_s)
    counted = [
        Transition(a=a, b=b, clips=len(lengths), hours=round(sum(lengths) / 3600, 5))
        for (a, b), lengths in found.items()
    ]
    return sorted(counted, key=lambda row: (-row.clips, row.a, row.b))


def _only(clips: pa.Table) -> list[OneSidedClip]:
    return [OneSidedClip(**row) for row in clips.select([*SHOWN, "verdict", "reason"]).to_pylist()]


def _name(dataset: Dataset) -> str:
    return str(dataset.path) + (f" ({dataset.selection.name})" if dataset.selection else "")


def _differences(a: Mapping[str, object], b: Mapping[str, object]) -> dict[str, Sides[object]]:
    """Return the dotted keys whose values differ."""
    one, two = dict(_flat(a)), dict(_flat(b))
    keys = dict.fromkeys([*one, *two])
    return {key: Sides(a=one.get(key), b=two.get(key)) for key in keys if one.get(key) != two.get(key)}


def _flat(table: Mapping[str, object], path: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def tables(found: DatasetDiff) -> Iterator[Table]:
    """Yield what `diff` found as a terminal shows it."""
    yield _grid(
        ("", "a", "b"),
        [
            ("dataset", found.a, found.b),
            ("candidates", found.clips.a, found.clips.b),
            ("kept", duration(found.hours_kept.a), duration(found.hours_kept.b)),
            ("only here", len(found.only_in_a), len(found.only_in_b)),
            *((key, each.a, each.b) for key, each in {**found.settings, **found.made_by}.items()),
        ],
    )
    if not found.changed:
        return
    yield _grid(("a", "b", "clips", "length"), [(r.a, r.b, r.clips, duration(r.hours)) for r in found.transitions])
    shown = [(row.clip_id[:12], f"{row.path} {row.start_s:.1f} s", _told(row.a), _told(row.b)) for row in found.changed]
    rest = len(shown) - MAX_ROWS
    more = [(f"and {rest} more", "--json has all", "", "")] if rest > 0 else []
    yield _grid(("clip", "where", "a", "b"), [*shown[:MAX_ROWS], *more])


def _told(side: Judgement) -> str:
    value = "" if side.value is None else f" {side.value:.3g}"
    limit = "" if side.limit is None else f" / {side.limit:.3g}"
    return f"{side.reason or side.verdict}{value}{limit}"


def _grid(names: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("–" if entry is None else str(entry) for entry in row))
    return table
