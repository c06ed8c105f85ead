"""The ledger: what is known of every item, read from the commit log, the quarantine and a dataset finished before."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...manifests.commits import Commit, CommitLog, is_whole
from ...manifests.schema import SCORE_SCHEMA
from .outcomes import is_retried
from .spans import annotate
from .supervise import Quarantine
from .units import Item, Phase

Receipt = dict[str, Any]


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
                self.receipts[item] = {"outcome": entry["reason"], "detail": entry["detail"], "set_aside": True}
                self._commit_of.pop(item, None)

    def commit_of(self, item: str) -> Commit | None:
        """Return the commit that an item's receipt is taken from."""
        return self._commit_of.get(item)

    def file_of(self, item: str) -> dict[str, Any] | None:
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

    def files(self, items: Sequence[str]) -> list[dict[str, Any]]:
        """Return the files that hold rows of these items, each once, by path."""
        found = {file["path"]: file for item in items if (file := self.file_of(item)) is not None}
        return [found[path] for path in sorted(found)]


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

    `scores_file` and `scores_row` say where a row lies. What a source says is that of today: files may be renamed.
    """
    today = {item["video_id"] for item in items}
    receipts: dict[str, list[Receipt]] = {}
    for item in (item["id"] for item in items):
        if (file := ledger.file_of(item)) is not None:
            receipts.setdefault(file["path"], []).append(ledger.receipts[item])
    tables = [_rows_of(dataset, path, receipts[path]) for path in sorted(receipts)]
    empty = _with_columns(SCORE_SCHEMA.empty_table(), "", 0)
    table = pa.concat_tables(tables) if tables else empty
    table = table.filter(pc.field("video_id").isin(pa.array(list(today), pa.string())))
    table = table.take(pa.array(list(_first_of_each(table["clip_id"].to_pylist())), pa.int64()))
    table = annotate(table, items)
    keys = [(name, "ascending") for name in ("path", "start_frame", "track", "clip_id")]
    return table.sort_by(keys)


def _rows_of(dataset: Path, path: str, receipts: Sequence[Receipt]) -> pa.Table:
    """Return the rows that a file holds of these items; one that was restored does not tell them apart: all of them."""
    table = _with_place(dataset, path)
    if any("first_row" not in receipt for receipt in receipts):
        return table
    return pa.concat_tables([table.slice(receipt["first_row"], receipt["num_clips"]) for receipt in receipts])


def _first_of_each(ids: Sequence[str]) -> Iterator[int]:
    seen: set[str] = set()
    for place, clip_id in enumerate(ids):
        if clip_id not in seen:
            seen.add(clip_id)
            yield place


def _with_place(dataset: Path, path: str) -> pa.Table:
    table = pq.read_table(dataset / path, schema=SCORE_SCHEMA)
    return _with_columns(table, path, len(table))


def _with_columns(table: pa.Table, path: str, num_rows: int) -> pa.Table:
    table = table.append_column("scores_file", pa.array([path] * num_rows, pa.string()))
    return table.append_column("scores_row", pa.array(range(num_rows), pa.int64()))
