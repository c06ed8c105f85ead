"""Splits: who and what is trained on, and who is held out; nobody and no video is in two of them."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..manifests.storage import digest

OWNERS = ("identity", "youtube_id", "video_id")
"""Columns that no two splits may share, the most telling first."""
HELD_OUT = ("test", "val", "train")
"""Order of official splits: where clips that belong together have several, the first of these wins."""


def assign(scores: pa.Table, *, val_share: float, test_share: float, official: bool) -> list[str]:
    """Return the split of each clip: the official one where the source has one, else by hash.

    Clips that share an identity, a YouTube id or a file go together, also over several steps. A group's hash is the
    smallest of its identities' (videos', where nobody is named): it stays as data are added, unless they join groups.
    """
    codes, owners = _owners(scores)
    rows, row_of = np.unique(codes, axis=0, return_inverse=True)  # clips of one file are alike
    group_of = _groups(rows, len(owners))
    groups = group_of[rows.max(axis=1)]  # any owner of a row tells its group; -1 is none
    stated = _stated(scores, groups[row_of.reshape(-1)]) if official else {}
    hashed = _hashed(owners, group_of, val_share, test_share)
    split_of = [stated.get(group) or hashed[group] for group in groups.tolist()]
    return [split_of[row] for row in row_of.reshape(-1).tolist()]


def _owners(scores: pa.Table) -> tuple[np.ndarray, list[tuple[int, str]]]:
    """Return the owners of each clip as numbers [N, 3], -1 for none, and what each number stands for."""
    columns, owners = [], []
    for kind, name in enumerate(OWNERS):
        codes, words = encoded(scores[name])
        columns.append(np.where(codes < 0, -1, codes + len(owners)))
        owners += [(kind, word) for word in words]
    return np.stack(columns, axis=1), owners


def encoded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Return a text column as numbers [N] int64, -1 for null or empty, and the words, in the order they come in."""
    column = column.combine_chunks().dictionary_encode()
    words = column.dictionary.to_pylist()
    codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return (np.where(codes == words.index(""), -1, codes) if "" in words else codes), words


def _stated(scores: pa.Table, groups: np.ndarray) -> dict[int, str]:
    """Return the official split of each group that has one."""
    codes, words = encoded(scores["official_split"])
    pairs = np.unique(np.stack([groups, codes], axis=1)[codes >= 0], axis=0)
    found: dict[int, set[str]] = defaultdict(set)
    for group, code in pairs.tolist():
        found[group].add(words[code])
    firsts = {group: next((s for s in HELD_OUT if s in splits), None) for group, splits in found.items()}
    return {group: split for group, split in firsts.items() if split}


def _hashed(owners: Sequence[tuple[int, str]], group_of: np.ndarray, val_share: float, test_share: float) -> list[str]:
    """Return the split of each group by the smallest hash of its most telling names; some groups stand for none."""
    kinds = np.array([kind for kind, _ in owners], np.int64)
    first = np.full(len(owners), len(OWNERS))
    np.minimum.at(first, group_of, kinds)
    position = np.ones(len(owners))
    for number in np.flatnonzero(kinds == first[group_of]).tolist():
        group = group_of[number]
        position[group] = min(position[group], int(digest("split", owners[number][1])[:8], 16) / 16**8)
    # `test` from the other end: another share moves nothing else.
    return np.where(position < val_share, "val", np.where(position >= 1 - test_share, "test", "train")).tolist()


def _groups(rows: np.ndarray, num_owners: int) -> np.ndarray:
    """Return for each owner the one that stands for its group (union-find with path halving).

    Args:
        rows: [M, 3] owners that go together, -1 for none.
        num_owners: how many owners there are.
    """
    parent = list(range(num_owners))

    def find(owner: int) -> int:
        while parent[owner] != owner:
            parent[owner] = parent[parent[owner]]
            owner = parent[owner]
        return owner

    for row in rows.tolist():
        first, *others = [owner for owner in row if owner >= 0]
        for other in others:
            parent[find(other)] = find(first)
    return np.array([find(owner) for owner in range(num_owners)], np.int64)


def overlaps(clips: pa.Table) -> list[str]:
    """Return the people and videos that are in two splits, as words; there are none unless we are wrong."""
    splits, split_names = encoded(clips["split"])
    found = []
    for kind in OWNERS:
        owners, names = encoded(clips[kind])
        pairs = np.unique(np.stack([owners, splits], axis=1)[(owners >= 0) & (splits >= 0)], axis=0)
        numbers, counts = np.unique(pairs[:, 0], return_counts=True)
        for number in numbers[counts > 1].tolist():
            shared = sorted(split_names[split] for split in pairs[pairs[:, 0] == number, 1])
            found.append(f"{kind} {names[number]} is in {' and '.join(shared)}")
    return found
