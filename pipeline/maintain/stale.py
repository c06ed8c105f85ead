"""Files of a dataset that nothing names any more."""

from collections.abc import Collection, Iterator
from pathlib import Path

from ...manifests.commits import DATA_FOLDERS, Commit, CommitLog
from ...manifests.dataset import open_dataset
from ...manifests.index import INDEX, read_index
from ...manifests.storage import inside
from ..report.previews import preview_path


def named_files(root: Path, without: Collection[Commit] = ()) -> set[str]:
    """Return the data files that the index or a commit, but those `without`, names below the dataset."""
    named = {shard.path for shard in read_index(root).shards} if (root / INDEX).is_file() else set()
    log = CommitLog(root)
    commits = [commit for phase in ("score", "encode") for commit in log.load(phase) if commit not in without]
    return named | {commit.file.path for commit in commits if commit.file is not None}


def unnamed_files(root: Path) -> Iterator[Path]:
    """Yield shards and score files that nothing names: of attempts that lost a race, or of what was forgotten."""
    named = named_files(root)
    for folder in DATA_FOLDERS:
        for path in sorted(inside(root, folder).glob("[!.]*")):
            if path.relative_to(root).as_posix() not in named:
                yield path


def temporary_files(root: Path) -> Iterator[Path]:
    """Yield the temporary files of writers that live or were killed."""
    yield from sorted(root.glob(".*.tmp"))
    for folder in ("shards", "report"):
        yield from sorted(inside(root, folder).glob(".*.tmp"))
    for folder in ("work", "report/previews", "selections"):
        yield from sorted(inside(root, folder).rglob(".*.tmp"))


def stale_previews(root: Path) -> Iterator[Path]:
    """Yield the films that are of no clip that is in the dataset now."""
    dataset = open_dataset(root)
    films = sorted(inside(root, "report/previews").glob("*.mp4"))
    current = {preview_path(dataset, clip) for clip in dataset.kept} if films else set()
    yield from (film for film in films if film not in current)
