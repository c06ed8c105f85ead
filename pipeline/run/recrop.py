"""The clips of a finished dataset cut with another crop policy: its scores are used again, only encode runs."""

import errno
import os
import shutil
from pathlib import Path

from rich.console import Console

from ...manifests import settings
from ...manifests.dataset import Dataset, open_dataset
from ...manifests.errors import ConfigError, DatasetError
from ...manifests.forgotten import FILE
from ...manifests.sources import Source, get_source
from ..config import Config, resolve_device
from .build import Build, BuildRequest
from .progress import BuildProgress

TABLES = ("dataset.json", "clips.parquet", "videos.parquet")
SCORED = ("work/commits/probe", "work/commits/score", "work/scores", "work/quarantine")
ENCODED = ("work/commits/encode", "shards")


def recrop(
    dataset: Dataset,
    folder: Path,
    policy: str,
    *,
    input_dir: Path | None,
    executor: str,
    num_workers: int,
    console: Console,
) -> Dataset:
    """Build a dataset of the same clips with the same splits in `folder`; it goes on where it was stopped.

    Scores, and shards where the policy is the dataset's own, are hard links: nothing of the dataset is written to.

    Args:
        dataset: a finished one; its limits decide under its own crop policy.
        folder: where the other one is to be.
        policy: a crop policy.
        input_dir: what `dataset` was built from; None for a source that makes its own videos.
        executor: `ray` or `local`.
        num_workers: 0: one per core.
        console: where progress is shown.

    Raises:
        ConfigError: an unknown policy, one that needs landmarks, or `input_dir` is missing.
        DatasetError: `dataset` was merged of others, or the clips could not all be cut again.
        HsDataError: as a build.
    """
    index = dataset.index
    if index.merged:
        raise DatasetError(f"{dataset.path}: was merged from several datasets; name one of those")
    own = index.config["crop"]["policy"]
    config = resolve_device(settings.build(Config, settings.merge(index.config, {"crop": {"policy": policy}})))
    source = get_source(index.source)
    _link_work(dataset.path, folder, with_shards=policy == own)
    request = BuildRequest(
        source=source,
        root=_root(dataset, source, input_dir),
        dataset=folder,
        preset=index.preset,
        config=config,
        selection=index.selection,
        built_select=index.built_select,
        executor=executor,
        num_workers=num_workers,
        only=frozenset(dataset.videos(["path"])["path"].to_pylist()),
        judged_as=own,
    )
    Build(request, BuildProgress(console)).run()
    made = open_dataset(folder)
    _check_clips(dataset, made)
    return made


def _root(dataset: Dataset, source: Source, input_dir: Path | None) -> Path:
    if input_dir is not None:
        return input_dir
    made = source.made_folder(dataset.path)
    if made is None:
        raise ConfigError(f"--input: name the folder that {dataset.path} was built from; its clips are cut again")
    return made


def _link_work(dataset: Path, folder: Path, *, with_shards: bool) -> None:
    """Link what is known of the clips; a dataset whose `work/` is gone restores it from its tables."""
    parts = [*SCORED, *(ENCODED if with_shards else ()), FILE]
    parts += [] if (dataset / "work" / "commits").is_dir() else TABLES
    for part in parts:
        place = dataset / part
        for file in sorted(place.rglob("[!.]*")) if place.is_dir() else [place]:
            target = folder / file.relative_to(dataset)
            if file.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(file, target)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.ENOTSUP):  # another disk, or one without links
            raise
        shutil.copy2(file, target)


def _check_clips(dataset: Dataset, made: Dataset) -> None:
    """Refuse a dataset of other clips: files that were changed or removed, or that cannot be encoded now."""
    names = ["clip_id", "num_frames", "split"]
    before, after = ({tuple(row.values()) for row in each.table(names).to_pylist()} for each in (dataset, made))
    if differing := sorted({row[0] for row in before ^ after}):
        raise DatasetError(
            f"{made.path}: {len(differing)} clips are not those of {dataset.path} ({differing[0]}, ...); see "
            f"`hs-data why {made.path} {differing[0]}`, build {dataset.path} again, or bring its videos back"
        )
