"""Splits: who and what is trained on, and who is held out; nobody and no video is in two of them."""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from ..manifests.storage import digest

OWNERS = ("identity", "youtube_id", "video_id")
"""What no two splits may share, the most telling first."""
HELD_OUT = ("test", "val", "train")
"""Of the official splits of what belongs together, the first in this order wins."""


def assign(scores: pa.Table, *, val_share: float, test_share: float, official: bool) -> list[str]:
    """Return the split of each clip: the official one where the source has one, else by hash.

    Clips that share an identity, a YouTube id or a file go together, also over several steps. A group's hash is the
    smallest of its identities' (videos', where nobody is named): it stays as data are added, unless they join groups.
    """
    columns = [scores[name].to_pylist() for name in OWNERS]
    owners = [[(kind, name) for kind, name in enumerate(row) if name] for row in zip(*columns, strict=True)]
    root_of = _groups(owners)
    names: dict[tuple[int, str], set[tuple[int, str]]] = defaultdict(set)
    stated: dict[tuple[int, str], set[str]] = defaultdict(set)
    for row, split in zip(owners, scores["official_split"].to_pylist(), strict=True):
        names[root_of[row[0]]].update(row)
        if official and split:
            stated[root_of[row[0]]].add(split)
    split_of = {
        root: next((split for split in HELD_OUT if split in stated[root]), None)
        or _hashed(group, val_share, test_share)
        for root, group in names.items()
    }
    return [split_of[root_of[row[0]]] for row in owners]


def _hashed(group: set[tuple[int, str]], val_share: float, test_share: float) -> str:
    first = min(kind for kind, _ in group)
    place = min(int(digest("split", name)[:8], 16) / 16**8 for kind, name in group if kind == first)
    if place < val_share:
        return "val"
    return "test" if place >= 1 - test_share else "train"  # from the other end: another share moves nothing else


def _groups(owners: Sequence[list[tuple[int, str]]]) -> dict[tuple[int, str], tuple[int, str]]:
    """Return for each owner the one that stands for its group (union-find with path halving)."""
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def find(owner: tuple[int, str]) -> tuple[int, str]:
        parent.setdefault(owner, owner)
        while parent[owner] != owner:
            parent[owner] = parent[parent[owner]]
            owner = parent[owner]
        return owner

    for row in owners:
        for other in row[1:]:
            parent[find(other)] = find(row[0])
        find(row[0])
    return {owner: find(owner) for owner in parent}


def overlaps(clips: pa.Table) -> list[str]:
    """Return the people and videos that are in two splits, as words; there are none unless we are wrong."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    splits = clips["split"].to_pylist()
    for kind in OWNERS:
        for name, split in zip(clips[kind].to_pylist(), splits, strict=True):
            if name and split:
                found[kind, name].add(split)
    return [f"{kind} {name} is in {' and '.join(sorted(s))}" for (kind, name), s in found.items() if len(s) > 1]
