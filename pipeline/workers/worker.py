"""A worker's side of a run: do a unit, put its data on disk, commit it. Knows nothing of Ray or of other workers."""

import logging
import resource
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from ...manifests import settings
from ...manifests.commits import Commit, CommitLog, CommittedFile, is_whole
from ...manifests.errors import DatasetError, HsDataError, MediaError
from ...manifests.forgotten import FORGOTTEN, Forgotten
from ...manifests.records import pack
from ...manifests.shards import Shard
from ...manifests.storage import write_by_content
from ..config import Config
from ..encode.encoder import Encoder
from ..media import image_folder
from ..media.costs import Costs
from ..media.limits import MediaLimits, check_kind
from ..media.probe import probe
from ..media.source_file import content_hash, facts_of
from ..networks import Networks
from ..score.registry import SCORE_SCHEMA
from ..score.scorer import Row, Scorer
from .messages import Done, WorkerSetup
from .outcomes import is_retried, outcome_of
from .units import Item, Unit, encode_item, score_item
from .worker_status import WorkerStatus

logger = logging.getLogger(__name__)
Receipt = dict[str, Any]
Receipts = dict[str, Receipt]


class Worker:
    """Does units of any phase; the models of a phase are loaded at its first unit and kept."""

    def __init__(self, setup: WorkerSetup, name: str) -> None:
        # One worker per core: threads inside a worker would only fight over it, and sums would depend on their number.
        cv2.setNumThreads(1)
        pa.set_cpu_count(1)
        self._config = settings.build(Config, setup.config)
        self._root, self._dataset = Path(setup.root), Path(setup.dataset)
        self._commits = CommitLog(self._dataset)
        self._beat = WorkerStatus(self._dataset, name)
        self._networks = Networks(self._config)
        self._scorer: Scorer | None = None
        self._encoder: Encoder | None = None

    def run(self, unit: Unit) -> Done:
        """Do a unit and commit it. A unit of one item never fails through the item: its receipt says `internal_error`.

        Raises:
            HsDataError, OSError: the worker cannot go on (a model is missing, the disk is full); what one item does
                wrong is in its receipt instead.
        """
        costs = Costs()
        do: Callable[[Unit, Costs], tuple[Receipts, CommittedFile | None]]
        do = {"probe": self._probe, "score": self._score, "encode": self._encode}[unit.phase]
        receipts, file = do(unit, costs)
        table = costs.as_table()
        spent = {**table, "footage_s": round(unit.seconds, 3)}
        commit = Commit(
            phase=unit.phase,
            unit=unit.unit_id,
            fingerprint=unit.fingerprint,
            receipts=receipts,
            file=file,
            costs=spent,
        )
        self._commits.add(commit, stands=self._stands)
        self._beat.turn_to(None)
        outcomes: dict[str, int] = {}
        for receipt in receipts.values():
            outcomes[outcome_of(receipt)] = outcomes.get(outcome_of(receipt), 0) + 1
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return Done(
            unit_id=unit.unit_id, seconds=unit.seconds, outcomes=outcomes, cpu_s=table, memory_mb=round(memory_mb, 1)
        )

    def _stands(self, earlier: Commit) -> bool:
        """Tell whether an earlier attempt's commit holds: its file is there, and nothing in it is to be tried again."""
        return is_whole(self._dataset, earlier) and not any(map(is_retried, earlier.receipts.values()))

    def _probe(self, unit: Unit, costs: Costs) -> tuple[Receipts, None]:
        forgotten, limits = Forgotten(self._dataset), self._config.decode

        def one(item: Item) -> Receipt:
            path = self._root / item["path"]
            with costs.stage("probe"), self._beat.deadline(item["timeout_s"]) as deadline, deadline:
                try:
                    check_kind(path)
                    facts = facts_of(path)
                    if (facts.size_bytes, facts.changed_ns) != (item["size_bytes"], item["changed_ns"]):
                        return {"outcome": "source_changed", "detail": "changed since it was listed; build again"}
                    found = self._read(path, forgotten, limits)
                    if facts != facts_of(path):
                        return {"outcome": "source_changed", "detail": "changed while it was probed; build again"}
                    return {**found, "facts": facts.to_list()}
                except MediaError as error:
                    return {"outcome": error.reason, "detail": error.detail}
                except FileNotFoundError:
                    hint = "its name is not UTF-8, or it is gone; rename it" if "\\x" in item["path"] else "it is gone"
                    return {"outcome": "unavailable", "detail": hint}
                except OSError as error:
                    return {"outcome": "unavailable", "detail": error.strerror or str(error)}

        return {item["id"]: self._guarded(item, one) for item in unit.items}, None

    def _read(self, path: Path, forgotten: Forgotten, limits: MediaLimits) -> Receipt:
        """Return what a file holds; one that is not to be used is a result with a reason."""
        try:
            video_id = content_hash(path)
            if forgotten.holds("video_id", video_id):
                return {"outcome": FORGOTTEN}
            video = image_folder.probe(path, limits) if path.is_dir() else probe(path, limits=limits)
        except MediaError as error:
            return {"outcome": error.reason, "detail": error.detail}
        return {"video_id": video_id, "outcome": "ok", "video": pack(video)}

    def _score(self, unit: Unit, costs: Costs) -> tuple[Receipts, CommittedFile]:
        self._scorer = scorer = self._scorer or Scorer(self._config, self._networks)
        rows: list[Row] = []

        def one(item: Item) -> Receipt:
            stretch = score_item(item)
            with self._beat.deadline(item["timeout_s"]) as deadline:
                scored = scorer.score(stretch, self._root, costs, deadline)
            place = {"first_row": len(rows), "num_clips": len(scored.rows)}
            rows.extend(scored.rows)
            return {**scored.receipt, **place}

        receipts = {item["id"]: self._guarded(item, one) for item in unit.items}
        table = pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)
        return receipts, self._publish(
            Path("work") / "scores", unit, lambda temporary: pq.write_table(table, temporary, compression="zstd")
        )

    def _encode(self, unit: Unit, costs: Costs) -> tuple[Receipts, CommittedFile | None]:
        self._encoder = encoder = self._encoder or Encoder(self._config, self._networks)
        items = [encode_item(item, self._dataset) for item in unit.items]
        receipts: Receipts = {}

        def write(temporary: Path) -> None:
            done = encoder.encode(items, self._root, temporary, costs, self._beat.deadline, self._beat.turn_to)
            encoder.read_back(done, temporary, costs)
            receipts.update(done.receipts)

        try:
            file = self._publish(Path("shards"), unit, write)
        except (HsDataError, OSError, MemoryError):
            raise
        except Exception as error:
            if len(items) > 1:  # the run splits the unit and finds the clip
                raise
            logger.exception("%s: internal error", items[0].path)
            return {items[0].item_id: _internal_error(error)}, None
        shard = Shard(self._dataset / file.path)
        if shard.num_rows != sum(i.num_frames for i in items if "row_group" in receipts[i.item_id]):
            what = f"holds {shard.num_rows} frames, not those of its clips"
            raise DatasetError(f"{file.path}: {what}; remove it and run again")
        return receipts, replace(file, rows=shard.num_rows, row_groups=shard.num_row_groups)

    def _guarded(self, item: Item, one: Callable[[Item], Receipt]) -> Receipt:
        """Do one item; what it raises unexpectedly is recorded with it, and the unit goes on."""
        self._beat.turn_to(item["id"])
        try:
            return one(item)
        except (HsDataError, OSError, MemoryError):
            raise
        except Exception as error:
            logger.exception("%s: internal error", item["path"])
            return _internal_error(error)

    def _publish(self, folder: Path, unit: Unit, write: Callable[[Path], None]) -> CommittedFile:
        """Put a unit's file on disk whole, under a name that only equal bytes can have: the commit makes it data."""
        path, sha256 = write_by_content(self._dataset / folder, unit.unit_id, write)
        return CommittedFile(path=(folder / path.name).as_posix(), sha256=sha256, bytes=path.stat().st_size)


def _internal_error(error: Exception) -> Receipt:
    trace = "".join(traceback.format_exception(error))
    return {"outcome": "internal_error", "detail": f"{type(error).__name__}: {error}", "traceback": trace}
