"""Units: what one worker does between two commits, as plain JSON values that a plan file and a pipe can hold."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...manifests.records import unpack
from ...manifests.storage import digest, inside
from ..annotations.boxes import unpack_face
from ..config import Config
from ..encode.items import EncodeItem, MadeClip
from ..media.source_file import FileFacts
from ..models import registry
from ..score.scorer import ScoreItem

Phase = Literal["probe", "score", "encode"]
Item = dict[str, Any]
"""At least `id`, `path` below the source folder, `seconds` of footage, `timeout_s` that decoding it may take, and
`compute_s` that networks may take on it."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Some items of one phase."""

    phase: Phase
    fingerprint: str
    """Identity of the settings, models and code version that the unit is done with."""
    unit_id: str
    """Hash of the fingerprint and of all items: equal work has an equal id, on any machine."""
    items: tuple[Item, ...]

    @property
    def seconds(self) -> float:
        """Footage in the unit."""
        return sum(item["seconds"] for item in self.items)

    def to_json(self) -> str:
        """Return one line."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(phase: Phase, fingerprint: str, items: Sequence[Item]) -> "Unit":
        """Make a unit and its id."""
        unit_id = digest(phase, fingerprint, [item["id"] for item in items])[:20]
        return Unit(phase=phase, fingerprint=fingerprint, unit_id=unit_id, items=tuple(items))

    def of_some(self, items: Sequence[Item]) -> "Unit":
        """Make a unit of some of this one's items."""
        return Unit.of(self.phase, self.fingerprint, items)

    @staticmethod
    def from_json(line: str) -> "Unit":
        """Read what `to_json` wrote."""
        table = json.loads(line)
        return Unit(**{**table, "items": tuple(table["items"])})


def group(items: Iterable[Item], *, most: float, weight: str = "seconds") -> list[list[Item]]:
    """Put items, in order, into groups whose weights add up to about `most`."""
    groups: list[list[Item]] = []
    room = 0.0
    for item in items:
        if not groups or room < item[weight]:
            groups.append([])
            room = most
        groups[-1].append(item)
        room -= item[weight]
    return groups


NUM_UNITS = 32
"""Units that a small phase is cut into, so that every worker has some; large ones have as many as they need."""


@dataclass(frozen=True, kw_only=True)
class UnitSize:
    """How large the units of a phase are, by one of their items' fields.

    It depends on the items and the settings, and never on the number of workers: the units of encoding are the shards.
    """

    weight: str
    least: float
    """So much at least is worth opening a file for, in a phase that is large enough."""
    most: float

    def of(self, items: Sequence[Item]) -> float:
        """Return the weight of a unit, where these are all items of the phase."""
        return min(self.most, max(self.least, sum(item[self.weight] for item in items) / NUM_UNITS))


def score_size(config: Config) -> UnitSize:
    """Return the size of a unit of scoring: networks take longer, so less is worth its while."""
    least = 10.0 if registry.uses_torch(config.score_models, config.models) else 30.0
    return UnitSize(weight="seconds", least=least, most=config.run.unit_s)


def encode_size(config: Config) -> UnitSize:
    """Return the size of a shard; 24 MB are 20 s of footage and as long to encode without networks."""
    least = 4.0 if registry.uses_torch(config.encode_models, config.models) else 24.0
    return UnitSize(weight="mb", least=least, most=config.run.shard_mb)


def score_item(item: Item) -> ScoreItem:
    """Turn an item of a score unit into what the scorer takes."""
    return ScoreItem(
        video_id=item["video_id"],
        path=item["path"],
        source=item["source"],
        identity=item["identity"],
        video=unpack(item["video"]),
        facts=FileFacts.of_list(item["facts"]),
        start_frame=item["start_frame"],
        end_frame=item["end_frame"],
        edge="span" if item["is_span"] else "chunk",
        faces=tuple(unpack_face(face) for face in item["faces"]),
    )


def encode_item(item: Item, dataset: Path) -> EncodeItem:
    """Turn an item of an encode unit into what the encoder takes; its geometry is read from the scores."""
    row = _score(inside(dataset, item["scores"]), item["row"])

    def numbers(column: str, *shape: int) -> np.ndarray | None:
        value = row[column][0]
        return np.asarray(value.values, np.float32).reshape(-1, *shape) if value.is_valid else None

    boxes, opening = numbers("boxes", 4), numbers("mouth_opening")
    assert boxes is not None
    assert opening is not None
    return EncodeItem(
        clip_id=item["clip_id"],
        path=item["path"],
        video=unpack(item["video"]),
        start_frame=item["start_frame"],
        num_frames=len(boxes),
        boxes=boxes,
        landmarks=numbers("landmarks", 5, 2),
        mouth_opening=opening,
        audio_lead_frames=item["audio_lead_frames"],
        video_id=item["video_id"],
        facts=FileFacts.of_list(item["facts"]),
        made=_made(item.get("made"), dataset),
    )


def _made(table: Item | None, dataset: Path) -> MadeClip | None:
    if table is None or table["file"] is None:
        return None if table is None else MadeClip(receipt=table["receipt"])
    file = table["file"]
    return MadeClip(receipt=table["receipt"], shard=dataset / file["path"], sha256=file["sha256"])


def _score(path: Path, row: int) -> pa.Table:
    """Return what is per frame of a row of a file of scores; only the row group it lies in is read, once."""
    file = _open(path)
    group = 0
    while row >= (number := file.metadata.row_group(group).num_rows):
        group, row = group + 1, row - number
    return _row_group(path, group).slice(row, 1)


@lru_cache(maxsize=4)
def _open(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path)


@lru_cache(maxsize=4)
def _row_group(path: Path, group: int) -> pa.Table:
    return _open(path).read_row_group(group, columns=["boxes", "landmarks", "mouth_opening"])
