"""The loader against a raw memory map of the same bytes, threads against processes, and what noise costs.

Run: python benchmarks/loader.py [--clips 200] [--turns 30]
It makes its own shards in a temporary folder: 5 MB a clip, so 200 clips are 1.01 GB. Everything is read warm. The ways
take short turns. Samples a second are those of the best turn; the ratios are medians of CPU time, which a machine that
others use disturbs less.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hs_data.manifests.index import DatasetIndex, Fingerprints, ShardEntry, write_index
from hs_data.manifests.schema import FRAME_COLUMNS, VIDEO_SCHEMA, Column
from hs_data.manifests.shards import Shard, ShardWriter
from hs_data.manifests.storage import sha256_file
from hs_data.pipeline.score.registry import CLIP_SCHEMA
from hs_data.trainer.data.clips import ClipPool
from hs_data.trainer.data.config import DataConfig, open_samples
from hs_data.trainer.data.loader import Loader
from hs_data.trainer.data.order import Mixture
from hs_data.trainer.data.samples import Batch, Samples
from hs_data.trainer.recipes.highsync.config import HighSyncConfig, Stage1Config
from hs_data.trainer.recipes.highsync.recipe import HighSyncStage1, HighSyncStage2
from hs_data.trainer.recipes.noise import sample_noise

CONTRACT = {
    "latent": {"id": "made-up", "channels": 4, "size": 64, "dtype": "float16"},
    "audio": {"id": "whisper"},
    "frame_rate": 25,
}
TURN_S = 0.2
HAND = "raw memory map, by hand"
SAME = "raw memory map, our samples"


def write_dataset(
    path: Path,
    lengths: Sequence[int],
    *,
    columns: Mapping[str, Column],
    contract: Mapping[str, Any],
    splits: Sequence[str] | None = None,
    fields: Sequence[Mapping[str, Any]] | None = None,
    clips_per_shard: int = 50,
    seed: int = 0,
) -> None:
    """Write a finished dataset of random numbers: clip `c0007` has `lengths[7]` frames.

    Args:
        path: folder to make.
        lengths: frames of each clip.
        columns: frame columns of the shards.
        contract: what goes into their footers.
        splits: `train` or `val` of each clip; all `train` when not given.
        fields: more columns of `clips.parquet`, clip by clip.
        clips_per_shard: clips of one file.
        seed: of the numbers.
    """
    generator = np.random.default_rng(seed)
    path.mkdir(parents=True)
    (path / "shards").mkdir()
    rows: list[dict[str, Any]] = []
    shards = []
    for number, first in enumerate(range(0, len(lengths), clips_per_shard)):
        name = f"shards/{number:05d}.parquet"
        with ShardWriter(path / name, columns, contract) as writer:
            for clip in range(first, min(first + clips_per_shard, len(lengths))):
                arrays = {n: _random(generator, c, lengths[clip]) for n, c in columns.items()}
                group = writer.write_clip(f"c{clip:04d}", arrays)
                rows.append(_row(f"c{clip:04d}", lengths[clip], name, group))
                rows[-1] |= {"split": splits[clip]} if splits else {}
                rows[-1] |= fields[clip] if fields else {}
        file = path / name
        rows_here = pq.read_metadata(file).num_rows
        shards.append(ShardEntry(path=name, sha256=sha256_file(file), bytes=file.stat().st_size, rows=rows_here))
    pq.write_table(pa.Table.from_pylist(rows, schema=CLIP_SCHEMA), path / "clips.parquet")
    pq.write_table(pa.Table.from_pylist([], schema=VIDEO_SCHEMA), path / "videos.parquet")
    tables = {name: sha256_file(path / name) for name in ("clips.parquet", "videos.parquet")}
    index = DatasetIndex(
        hs_data_version="0",
        key="made up",
        source="made-up",
        preset="cpu",
        config={},
        selection={},
        built_select={},
        fingerprints=Fingerprints(score="s", encode="e"),
        models=(),
        shards=tuple(shards),
        tables=tables,
    )
    write_index(path, index)


def _row(clip_id: str, length: int, shard: str, group: int) -> dict[str, Any]:
    texts = {"clip_id": clip_id, "video_id": clip_id, "path": f"{clip_id}.mp4", "source": "made-up"}
    numbers = {"start_frame": 0, "num_frames": length, "start_s": 0.0, "duration_s": length / 25}
    return {**texts, **numbers, "verdict": "kept", "split": "train", "shard": shard, "row_group": group}


def _random(generator: np.random.Generator, column: Column, length: int) -> np.ndarray:
    shape = (length, *column.shape)
    if np.dtype(column.dtype).kind in "iu":
        return generator.integers(0, 100, shape).astype(column.dtype)
    return generator.standard_normal(shape, dtype=np.float32).astype(column.dtype)


def raw_batches(raw: Path, like: Batch) -> Iterator[object]:
    """Copy random frames out of plain files of the same bytes into new tensors, as one would write it by hand.

    The files hold [frames, 4, 64, 64] and [frames, 2, 5, 384] float16; a window is cut anywhere, clips are not known.
    """
    maps = open_raw(raw)
    num_samples, num_frames = like["latent"].shape[:2]
    num_slots, last = num_frames + 4, len(maps["latent"]) - num_frames - 4
    while True:
        blobs = {name: torch.empty_like(like[name]) for name in ("latent", "reference", "whisper")}
        rows = {name: blob.numpy() for name, blob in blobs.items()}
        for place in range(num_samples):
            start, reference = random.randint(2, last), random.randint(0, last)
            rows["latent"][place] = maps["latent"][start : start + num_frames]
            rows["reference"][place] = maps["latent"][reference]
            rows["whisper"][place] = maps["whisper"][start - 2 : start - 2 + num_slots]
        yield blobs


def open_raw(raw: Path) -> dict[str, np.ndarray]:
    """Map plain files as [frames, ...]."""
    return {
        name: np.memmap(raw / f"{name}.bin", np.float16, "r").reshape(-1, *FRAME_COLUMNS[name].shape)
        for name in ("latent", "whisper")
    }


def write_raw(path: Path, raw: Path) -> None:
    """Write the columns of a dataset's shards one after the other into plain files."""
    raw.mkdir()
    for shard in (Shard(file) for file in sorted((path / "shards").iterdir())):
        for name in ("latent", "whisper"):
            with (raw / f"{name}.bin").open("ab") as file:
                for group in range(shard.num_row_groups):
                    file.write(shard.read(group, name).tobytes())


class RawFrames:
    """A clip in plain files: what `ClipFrames` is to a shard."""

    def __init__(self, maps: Mapping[str, np.ndarray], first: int, num_frames: int) -> None:
        self._maps, self._first, self.num_frames = maps, first, num_frames

    def __contains__(self, column: str) -> bool:
        return column in self._maps

    def __getitem__(self, column: str) -> np.ndarray:
        return self._maps[column][self._first : self._first + self.num_frames]


class RawSamples(Samples):
    """The same samples in the same order, out of plain files."""

    def read_from(self, raw: Path, num_frames: int) -> "RawSamples":
        maps = open_raw(raw)
        self._pools[0].frames = lambda index: RawFrames(maps, index * num_frames, num_frames)  # type: ignore[method-assign]
        return self


class Processes(IterableDataset):
    """The same batches from worker processes of torch's DataLoader, to compare with."""

    def __init__(self, samples: Samples, batch_size: int) -> None:
        self._samples, self._batch_size = samples, batch_size

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        info = get_worker_info()
        assert info is not None
        step = info.id
        while True:
            yield dict(self._samples.batch(step * self._batch_size, self._batch_size).tensors)
            step += info.num_workers


def turn(batches: Iterator[object], batch_size: int) -> tuple[float, float]:
    """Return samples a second, and CPU seconds of this process a sample."""
    for _ in range(8):  # what was read ahead while others had their turn
        next(batches)
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - start) < TURN_S:
        batch = next(batches)  # held while the next one is made, as in training
        count += batch_size
    del batch
    return count / passed, (time.process_time() - cpu) / count


def compare(samples: Samples, same: Samples, raw: Path, batch_size: int, turns: int) -> None:
    """Print samples a second of each way, and its CPU time against both ways of reading a raw memory map."""
    ways = {f"DataLoader, {n} processes": _processes(samples, batch_size, n) for n in (1, 2)}
    ways[SAME] = Loader(same, batch_size=batch_size).batches()
    ways[HAND] = raw_batches(raw, samples.batch(0, batch_size))
    ways |= {f"loader, {n} threads": Loader(samples, batch_size=batch_size, num_workers=n).batches() for n in (0, 1, 2)}
    found = {name: [] for name in ways}
    for _ in range(turns):
        for name, batches in ways.items():
            found[name].append(turn(batches, batch_size))
    size = sum(t[0].numel() * t.element_size() for t in samples.batch(0, 1).tensors.values())
    print(f"batch {batch_size}, {size / 1e3:.0f} KB a sample, {turns} turns of {TURN_S} s")
    for name, turns_of_way in found.items():
        best = max(rate for rate, _ in turns_of_way)
        line = f"  {name:28} {best:6.0f} samples/s {best * size / 1e6:6.0f} MB/s"
        if "processes" not in name:
            cpu = [statistics.median(seconds for _, seconds in found[way]) for way in (name, SAME, HAND)]
            line += f"   CPU {cpu[0] * 1e6:3.0f} us a sample: {cpu[1] / cpu[0]:4.0%} of our samples, "
            line += f"{cpu[2] / cpu[0]:4.0%} of by hand"
        print(line, flush=True)


def _processes(samples: Samples, batch_size: int, num_workers: int) -> Iterator[object]:
    return iter(DataLoader(Processes(samples, batch_size), batch_size=None, num_workers=num_workers))


def noise_cost(batch: Batch) -> None:
    """Print what the noise of a batch costs on this CPU."""
    shape = batch["latent"].shape
    start = time.perf_counter()
    for _ in range(20):
        sample_noise(shape, batch["noise_seed"], offset=0.05, device=torch.device("cpu"))
    print(f"noise: {(time.perf_counter() - start) / 20 / len(batch) * 1e3:.2f} ms a sample of {shape[1]} frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--turns", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, raw = Path(folder) / "dataset", Path(folder) / "raw"
        columns = {name: FRAME_COLUMNS[name] for name in ("latent", "whisper")}
        write_dataset(path, [125] * args.clips, columns=columns, contract=CONTRACT)
        write_raw(path, raw)
        for recipe in (HighSyncStage2(HighSyncConfig()), HighSyncStage1(Stage1Config())):
            samples = open_samples(DataConfig(datasets=(str(path),)), recipe, seed=1)
            pool = ClipPool(path, split="train")
            same = RawSamples([pool], Mixture([Fraction(1)]), recipe, 1).read_from(raw, 125)
            assert torch.equal(samples.batch(0, 40)["latent"], same.batch(0, 40)["latent"])
            print(recipe.name, end=": ")
            compare(samples, same, raw, recipe.batch_size, args.turns)
            noise_cost(samples.batch(0, recipe.batch_size))


if __name__ == "__main__":
    main()
