"""The settings of the data, and the way from them to samples."""

from dataclasses import dataclass
from typing import Annotated

from ...manifests.settings import Range, check_ranges
from .clips import ClipPool, Split
from .order import Mixture, WeightedDataset, parse_datasets
from .samples import SampleReader, Samples
from .staging import stage

VALIDATION_SEED = 0
"""Runs with other seeds are still judged on the same samples."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which datasets a run trains on, and how they are read."""

    datasets: tuple[str, ...] = ()
    """Folders or URIs (`s3://`, `gs://`, `file://`); several with weights: `A=0.7,B=0.3`."""
    where: tuple[str, ...] = ()
    """Conditions on `clips.parquet` that all must hold, such as `sync_confidence>5,sharpness>20`; for both splits."""
    selection: str = ""
    """Named selection of `hs-data select --name`, which every dataset must have; empty: the datasets' own verdicts."""
    staging: str = ""
    """Folder on a local disk where datasets of a bucket are copied."""
    num_workers: Annotated[int, Range(0, 256)] = 2
    """Threads that read ahead; 0 reads when the batch is asked for."""
    num_ahead: Annotated[int, Range(1, 1000)] = 2
    """Batches that each thread may be ahead."""
    num_val_samples: Annotated[int, Range(1, 1_000_000)] = 64
    """Samples of the `val` clips that a run is judged on: always the same ones, whatever the seed of the run."""
    max_open_shards: Annotated[int, Range(1, 1_000_000)] = 400
    """Shards that stay open for each dataset, two files each; stay below half of `ulimit -n`."""

    def __post_init__(self) -> None:
        check_ranges(self)


def open_samples(config: DataConfig, recipe: SampleReader, *, seed: int) -> Samples:
    """Open the training samples; datasets in a bucket are copied first, so let one process of a machine go ahead.

    Raises:
        ConfigError: settings that cannot be used.
        DatasetError: a dataset that is missing, or does not fit the recipe or the other datasets.
    """
    return _open(config, recipe, seed, "train")


def open_validation(config: DataConfig, recipe: SampleReader) -> Samples:
    """Open the held-out samples, of which 0 .. `num_val_samples` - 1 are used; raises as `open_samples`."""
    return _open(config, recipe, VALIDATION_SEED, "val")


def _open(config: DataConfig, recipe: SampleReader, seed: int, split: Split) -> Samples:
    datasets = parse_datasets(config.datasets)
    pools = [_pool(config, recipe, dataset, split) for dataset in datasets]
    return Samples(pools, Mixture([dataset.weight for dataset in datasets]), recipe, seed)


def _pool(config: DataConfig, recipe: SampleReader, dataset: WeightedDataset, split: Split) -> ClipPool:
    return ClipPool(
        stage(dataset.location, config.staging),
        split=split,
        selection=config.selection,
        where=config.where,
        min_frames=recipe.min_frames,
        max_open_shards=config.max_open_shards,
    )
