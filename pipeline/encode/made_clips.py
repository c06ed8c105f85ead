"""Clips that an earlier attempt made: copied into a shard, byte for byte, at the places where they would be encoded."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ...manifests.errors import DatasetError
from ...manifests.schema import Column
from ...manifests.shards import Shard, ShardWriter
from ...manifests.storage import sha256_file
from .items import EncodeItem

logger = logging.getLogger(__name__)
Row = dict[str, Any]


class MadeClips:
    """Clips of a unit that are taken over from earlier attempts.

    A clip is encoded again where its shard is not what was committed, or was written with other columns.

    Args:
        items: all clips of the unit.
        columns: those of the new shard.
        contract: of the new shard.
    """

    def __init__(self, items: Sequence[EncodeItem], columns: Mapping[str, Column], contract: Row) -> None:
        self._columns = columns
        self._contract = contract
        self._open = cache(self._open_shard)
        self._shards: list[Shard] = []
        self._held = {item.item_id for item in items if self._can_take(item)}
        self._ready: deque[EncodeItem] = deque()
        self._order: dict[str, int] = {}

    def holds(self, item: EncodeItem) -> bool:
        """Tell whether a clip is taken over."""
        return item.item_id in self._held

    def enter(self, items: Sequence[EncodeItem], writer: ShardWriter, receipts: dict[str, Row]) -> None:
        """Begin a stretch of one video: clips lie in a shard in the order in which decoding finishes them."""
        self._writer, self._receipts = writer, receipts
        ordered = sorted(items, key=lambda item: item.end_frame)
        self._order = {item.item_id: index for index, item in enumerate(ordered)}
        self._ready = deque(item for item in ordered if self.holds(item))

    def copy_before(self, item: EncodeItem) -> None:
        """Copy the clips that come before one that is about to be written."""
        while self._ready and self._order[self._ready[0].item_id] < self._order[item.item_id]:
            self._copy(self._ready.popleft())

    def copy_rest(self) -> None:
        """Copy the clips of the stretch that are left."""
        while self._ready:
            self._copy(self._ready.popleft())

    def close(self) -> None:
        """Close the shards that were read."""
        for shard in self._shards:
            shard.close()

    def _copy(self, item: EncodeItem) -> None:
        assert item.made is not None
        receipt = dict(item.made.receipt)
        if "row_group" in receipt:
            assert item.made.shard is not None
            shard = self._open(item.made.shard, item.made.sha256)
            assert shard is not None
            arrays = {name: shard.read(receipt["row_group"], name) for name in self._columns}
            receipt["row_group"] = self._writer.write_clip(item.clip_id, arrays)
        self._receipts[item.item_id] = receipt

    def _can_take(self, item: EncodeItem) -> bool:
        if item.made is None or "row_group" not in item.made.receipt:
            return item.made is not None
        shard = None if item.made.shard is None else self._open(item.made.shard, item.made.sha256)
        if shard is None or shard.contract != self._contract:
            return False
        try:
            shard.check(item.made.receipt["row_group"], item.clip_id, item.num_frames)
        except DatasetError:
            return False
        return all(shard.columns.get(name) == column for name, column in self._columns.items())

    def _open_shard(self, path: Path, sha256: str) -> Shard | None:
        """Open a shard whose bytes are those that were committed."""
        try:
            if sha256_file(path) != sha256:
                raise DatasetError(f"{path}: not the bytes that were committed; its clips are encoded again")
            self._shards.append(Shard(path))
        except (OSError, DatasetError) as error:
            logger.warning("%s", error)
            return None
        return self._shards[-1]
