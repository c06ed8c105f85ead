"""`hs-data gc`: free what no run needs any more, and nothing that a resumed run or another selection would read."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ...manifests.commits import Commit, CommitLog, is_whole, total_costs
from ...manifests.dataset import open_dataset
from ...manifests.errors import DatasetError
from ...manifests.index import INDEX, read_index
from ...manifests.storage import read_json
from ..report.page import write_report
from .stale import named_files, stale_previews, temporary_files, unnamed_files

ABANDONED_H = 24.0
"""No unit takes a day: a younger file that nothing names may belong to a writer that lives."""
COMMITS = "commits of other settings, or whose data are gone"


@dataclass(kw_only=True)
class WasteTotal:
    """All files of one kind that can go."""

    what: str
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Waste:
    """A file that nobody needs."""

    path: Path
    why: str


def collect(root: Path, *, delete: bool, min_age_h: float = ABANDONED_H) -> list[WasteTotal]:
    """Find what can go, and remove it if asked to.

    Args:
        root: the dataset's folder, finished or not.
        delete: whether to remove it.
        min_age_h: how old, in hours, what a running build might be writing must be; 0 where none runs.

    Returns:
        What can go, or went, of each kind.

    Raises:
        DatasetError: no folder of a build.
    """
    if not (root / INDEX).is_file() and not (root / "work").is_dir():
        raise DatasetError(f"{root}: holds no build; name the folder given to `hs-data build --output`")
    found = {waste.path: waste for waste in find_waste(root, min_age_h)}  # each file once
    totals: dict[str, WasteTotal] = {}
    for waste in found.values():
        total = totals.setdefault(waste.why, WasteTotal(what=waste.why))
        total.files += 1
        total.bytes += waste.path.stat().st_size
        if delete:
            waste.path.unlink()
    if delete and COMMITS in totals and (root / "report" / "index.html").is_file():
        write_report(open_dataset(root), total_costs(root))  # it tells what the commits cost
    return [totals[why] for why in sorted(totals)]


def find_waste(root: Path, min_age_h: float) -> Iterator[Waste]:
    """Yield each file that can go; commits before the data they name, so that a kill leaves no commit without data."""
    stale = list(_stale_commits(root))
    for commit in stale:
        yield Waste(path=CommitLog(root).path_of(commit), why=COMMITS)
    for path in (root / "work" / "quarantine").glob("*/*.json"):
        if path.parent.name != "probe" and read_json(path)["fingerprint"] not in needed_fingerprints(root):
            yield Waste(path=path, why="quarantine of other settings")
    in_use = named_files(root, without=stale)
    for commit in stale:
        if commit.file is not None and commit.file.path not in in_use and (root / commit.file.path).is_file():
            yield Waste(path=root / commit.file.path, why="shards and scores of other settings")
    for path in _old(unnamed_files(root), min_age_h):
        yield Waste(path=path, why="shards and scores that nothing names")
    for path in _old(temporary_files(root), min_age_h):
        yield Waste(path=path, why="temporary files of killed writers")
    for path in _old((root / "work" / "beats").glob("*"), min_age_h):
        yield Waste(path=path, why="last words of workers")
    if (root / INDEX).is_file():
        for path in stale_previews(root):
            yield Waste(path=path, why="films of clips that are gone")


def needed_fingerprints(root: Path) -> set[str]:
    """Return the settings whose work is needed: those of the finished dataset, and of plans that may be resumed."""
    index = root / INDEX
    needed = set(asdict(read_index(root).fingerprints).values()) if index.is_file() else set()
    for path in (root / "work" / "plan").glob("*.json"):
        needed |= {unit["fingerprint"] for unit in read_json(path)["units"]}
    return needed


def _stale_commits(root: Path) -> Iterator[Commit]:
    """Yield commits that no run reads: of settings that nobody builds with, or whose file is gone or cut."""
    needed = needed_fingerprints(root)
    is_known = (root / INDEX).is_file()  # else the settings of an unfinished build are not written anywhere
    for phase in ("score", "encode"):
        for commit in CommitLog(root).load(phase):
            if (is_known and commit.fingerprint not in needed) or not is_whole(root, commit):
                yield commit


def _old(paths: Iterator[Path], min_age_h: float) -> Iterator[Path]:
    for path in paths:
        if time.time() - path.stat().st_mtime >= min_age_h * 3600:
            yield path
