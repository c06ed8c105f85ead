"""Units: what one worker does between two commits, as plain JSON values that a plan file and a pipe can hold."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...manifests.records import unpack
from ...manifests.storage import digest
from ..kept_clip import EncodeItem, MadeClip
from ..media.source_file import FileFacts
from ..score import ScoreItem
from .boxes import unpack_face

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

    def to_table(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @staticmethod
    def of(phase: Phase, fingerprint: str, items: Sequence[Item]) -> "Unit":
        """Make a unit and its id."""
        unit_id = digest(phase, fingerprint, [item["id"] for item in items])[:20]
        return Unit(phase=phase, fingerprint=fingerprint, unit_id=unit_id, items=tuple(items))

    def of_some(self, items: Sequence[Item]) -> "Unit":
        """Make a unit of some of this one's items."""
        return Unit.of(self.phase, self.fingerprint, items)

    @staticmethod
    def from_table(table: dict[str, Any]) -> "Unit":
        """Turn JSON values back into a unit."""
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
    row = _scores(dataset / item["scores"]).slice(item["row"], 1)

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
        lead_frames=item["lead"],
        video_id=item["video_id"],
        facts=FileFacts.of_list(item["facts"]),
        made=_made(item.get("made"), dataset),
    )


def _made(table: dict[str, Any] | None, dataset: Path) -> MadeClip | None:
    if table is None or table["file"] is None:
        return None if table is None else MadeClip(receipt=table["receipt"])
    file = table["file"]
    return MadeClip(receipt=table["receipt"], shard=dataset / file["path"], sha256=file["sha256"])


@lru_cache(maxsize=4)
def _scores(path: Path) -> pa.Table:
    return pq.read_table(path, columns=["boxes", "landmarks", "mouth_opening"])
