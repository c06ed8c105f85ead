"""The ledger: what is known of every item, read from the commit log, the quarantine and a dataset finished before."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...manifests.commits import Commit, CommitLog, CommittedFile, is_whole
from ..annotations.claims import face_centres
from ..annotations.spans import annotate
from ..score.registry import SCORE_SCHEMA, SCORES
from ..workers.outcomes import is_retried
from ..workers.supervise import Quarantine
from ..workers.units import Item, Phase

Receipt = dict[str, Any]
ROWS_AT_ONCE = 20_000


class Ledger:
    """Receipts by item, of one phase under one fingerprint.

    Where several commits know of an item, a receipt that needs no other try stands before one that does; then that of
    a `planned` unit, of the larger unit (of what is to be tried again: the smaller, which is a second try), of the
    later generation. So the order in which attempts ended decides nothing.
    """

    def __init__(self, dataset: Path, phase: Phase, fingerprint: str, planned: Collection[str] = ()) -> None:
        self._phase: Phase = phase
        self.receipts: dict[str, Receipt] = {}
        self._commits: list[Commit] = []
        self._commit_of: dict[str, Commit] = {}
        ranks: dict[str, tuple[bool, bool, int, int, str]] = {}
        for commit in CommitLog(dataset).load(phase, fingerprint):
            if not is_whole(dataset, commit):
                continue  # its file is gone or cut: what it held is made again
            self._commits.append(commit)
            for item, receipt in commit.receipts.items():
                again, size = is_retried(receipt), len(commit.receipts)
                rank = (not again, commit.unit in planned, -size if again else size, commit.generation, commit.unit)
                if item not in ranks or rank > ranks[item]:
                    ranks[item], self.receipts[item], self._commit_of[item] = rank, receipt, commit
        for item, entry in Quarantine(dataset).load(phase, fingerprint).items():
            if item not in ranks or not ranks[item][0]:
                self.receipts[item] = {"outcome": entry.reason, "detail": entry.detail, "set_aside": True}
                self._commit_of.pop(item, None)

    def commit_of(self, item: str) -> Commit | None:
        """Return the commit that an item's receipt is taken from."""
        return self._commit_of.get(item)

    def file_of(self, item: str) -> CommittedFile | None:
        """Return the file that holds an item's rows."""
        commit = self._commit_of.get(item)
        return None if commit is None else commit.file

    def is_set_aside(self, item: str) -> bool:
        """Tell whether an item stands in quarantine, where it stays until somebody takes it out."""
        return bool(self.receipts.get(item, {}).get("set_aside"))

    def drop_superseded(self, wanted: Collection[str], *, is_all: bool) -> list[Commit]:
        """Return the commits of which nothing is needed any more, and forget them.

        A commit goes when others hold all its items. Of a shard that was laid out anew that is enough for those that
        are wanted: what a clip that nobody wants had in it is encoded again if it is ever wanted.

        Args:
            wanted: items of this run.
            is_all: whether these are all there are; what is to be tried again of others then says nothing. A part of
                a job array leaves the commits of other parts alone.
        """
        wanted, gone = set(wanted), []
        for commit in self._commits:
            here = [item for item in commit.receipts if self._commit_of.get(item) is commit]
            if is_all:
                moved = self._phase == "encode" and len(here) < len(commit.receipts) and not wanted.intersection(here)
                is_gone = moved or all(item not in wanted and is_retried(commit.receipts[item]) for item in here)
            else:
                is_gone = not here and not wanted.isdisjoint(commit.receipts)
            if is_gone:
                gone.append(commit)
                for item in here:
                    del self.receipts[item], self._commit_of[item]
        ids = {id(commit) for commit in gone}
        self._commits = [commit for commit in self._commits if id(commit) not in ids]
        return gone

    def files(self, items: Sequence[str]) -> list[CommittedFile]:
        """Return the files that hold rows of these items, each once, by path."""
        found = {file.path: file for item in items if (file := self.file_of(item)) is not None}
        return [found[path] for path in sorted(found)]


def read_scores(ledger: Ledger, dataset: Path, items: Sequence[Item]) -> pa.Table:
    """Return the candidate clips of the scored stretches, ordered by path and place, with two columns of our own.

    `scores_file` and `scores_row` say where a row lies, and what is bulky of it. What a source says is that of today:
    files may be renamed.
    """
    boxed = {item["video_id"] for item in items if any(a["box"] for a in item["annotations"])}
    receipts: dict[str, list[Receipt]] = {}
    for item in (item["id"] for item in items):
        if (file := ledger.file_of(item)) is not None:
            receipts.setdefault(file.path, []).append(ledger.receipts[item])
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
