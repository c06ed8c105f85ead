"""The ledger: what is known of every item, read from the commit log, the quarantine and a dataset finished before."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...manifests.commits import Commit, CommitLog
from ...manifests.schema import SCORE_SCHEMA, SCORES
from .claims import face_centres
from .spans import annotate
from .supervise import Quarantine
from .units import Item, Phase

Receipt = dict[str, Any]
ROWS_AT_ONCE = 20_000


class Ledger:
    """Receipts by item, of one phase under one fingerprint."""

    def __init__(self, dataset: Path, phase: Phase, fingerprint: str) -> None:
        self._dataset = dataset
        self._phase: Phase = phase
        self._commits = list(CommitLog(dataset).load(phase, fingerprint))
        self.receipts: dict[str, Receipt] = {}
        self._commit_of: dict[str, Commit] = {}
        for commit in self._commits:
            if not is_whole(dataset, commit):
                continue  # its file is gone or cut: what it held is made again
            for item, receipt in commit.receipts.items():
                self.receipts[item] = receipt
                self._commit_of[item] = commit
        for item, entry in Quarantine(dataset).load(phase, fingerprint).items():
            reason = {"outcome": entry["reason"], "reason": entry["reason"], "detail": entry["detail"]}
            self.receipts.setdefault(item, reason)

    def file_of(self, item: str) -> dict[str, Any] | None:
        """Return the file that holds an item's rows."""
        commit = self._commit_of.get(item)
        return None if commit is None else commit.file

    def files(self, items: Sequence[str]) -> list[dict[str, Any]]:
        """Return the files that hold rows of these items, each once, by path."""
        found = {file["path"]: file for item in items if (file := self.file_of(item)) is not None}
        return [found[path] for path in sorted(found)]


def is_whole(dataset: Path, commit: Commit) -> bool:
    """Tell whether the file of a commit is there with the size it had."""
    if commit.file is None:
        return True
    path = dataset / commit.file["path"]
    return path.is_file() and path.stat().st_size == commit.file["bytes"]


def total_costs(dataset: Path) -> dict[str, float]:
    """Return CPU seconds by stage, and footage seconds, over all that was ever committed."""
    total: dict[str, float] = {}
    for phase in ("probe", "score", "encode"):
        for commit in CommitLog(dataset).load(phase):
            for name, seconds in commit.costs.items():
                label = f"{phase}: {name}"
                total[label] = total.get(label, 0.0) + seconds
    return total


def read_scores(ledger: Ledger, dataset: Path, items: Sequence[Item]) -> pa.Table:
    """Return the candidate clips of the scored stretches, ordered by path and place, with two columns of our own.

    `scores_file` and `scores_row` say where a row lies, and what is bulky of it. What a source says is that of today:
    files may be renamed.
    """
    boxed = {item["video_id"] for item in items if any(a["box"] for a in item["annotations"])}
    receipts: dict[str, list[Receipt]] = {}
    for item in (item["id"] for item in items):
        if (file := ledger.file_of(item)) is not None:
            receipts.setdefault(file["path"], []).append(ledger.receipts[item])
    table = _joined(_rows_of(dataset, path, receipts[path], boxed) for path in sorted(receipts))
    wanted = _wanted(table, {item["video_id"] for item in items})
    if len(wanted) < len(table):
        table = table.take(pa.array(wanted))
    table = annotate(table, items)
    keys = [(name, "ascending") for name in ("path", "start_frame", "track", "clip_id")]
    return table.sort_by(keys)


def _joined(tables: Iterable[pa.Table]) -> pa.Table:
    """Lay small tables together; each of many small ones takes more than twice what it holds."""
    joined, waiting = [], [_with_columns(SCORE_SCHEMA.empty_table().select(SCORES), "", [])]
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) > ROWS_AT_ONCE:
            joined.append(pa.concat_tables(waiting).combine_chunks())
            waiting = []
    return pa.concat_tables([*joined, *waiting])


def _wanted(table: pa.Table, today: set[str]) -> np.ndarray:
    """Return the places of the clips whose file is there today, each clip once."""
    ids = table["clip_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    here = pc.call_function("is_in", [table["video_id"]], pc.SetLookupOptions(pa.array(sorted(today), pa.string())))
    places = np.flatnonzero(here.to_numpy())
    return places[np.sort(np.unique(ids[places], return_index=True)[1])]


def _rows_of(dataset: Path, path: str, receipts: Sequence[Receipt], boxed: Collection[str]) -> pa.Table:
    """Return the rows that a file holds of these items; one that was restored does not tell them apart: all of them."""
    table = pq.read_table(dataset / path, columns=list(SCORES), schema=SCORE_SCHEMA)
    centres = face_centres(dataset / path, table["video_id"].to_pylist(), boxed) if boxed else [None] * len(table)
    table = _with_columns(table, path, centres)
    if any("first_row" not in receipt for receipt in receipts):
        return table
    return pa.concat_tables([table.slice(receipt["first_row"], receipt["num_clips"]) for receipt in receipts])


def _with_columns(table: pa.Table, path: str, centres: Sequence[np.ndarray | None]) -> pa.Table:
    table = table.append_column("face_centre", pa.array(centres, pa.list_(pa.float32())))
    table = table.append_column("scores_file", pa.array([path] * len(table), pa.string()))
    return table.append_column("scores_row", pa.array(np.arange(len(table))))
