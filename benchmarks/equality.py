"""Record what builds, changes of datasets and training runs give, and compare it after the code was rearranged.

A rearrangement of the code changes no value: record before it, compare after it.

    python benchmarks/equality.py record before.json
    python benchmarks/equality.py compare before.json --renamed starts_at=start_kind

Tables are compared by the values of each column, shards by the bytes of each column of each clip, training by each
tensor and each logged loss. Names of files, fingerprints and versions may differ.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from processes import MEDIA, WEIGHTS
from safetensors.numpy import load_file

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.shards import Shard

STEPS = 60
PLACES = ("shard",)
"""Columns that say where something lies, not what it is."""
LOCAL = ("--executor", "local", "--workers", "2")
FORGOTTEN, NARROWER = "two_people.mp4", "select.min_face_px=180"
Hashes = dict[str, str]


def run(*words: str) -> None:
    """Run a command of hs-data, on one thread so that sums of floats are the same on any machine."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hs_data.cli", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"hs-data {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")


def make_datasets(folder: Path, *, media: Path | None, limit: int) -> Iterator[Path]:
    """Build, merge, forget, select and split; yield each dataset."""
    demo = folder / "demo"
    run("build", "--source", "demo", "--output", str(demo), *LOCAL)
    yield demo
    if media is not None:
        words = ["--input", str(media), "--preset", "cpu", "--set", f"models.dir={WEIGHTS}", "--limit", str(limit)]
        run("build", "--source", "folder", *words, "--output", str(folder / "media"), *LOCAL)
        yield folder / "media"
    halves = []
    videos = sorted((demo / "demo_videos").iterdir())
    for name, part in (("even", videos[::2]), ("odd", videos[1::2])):
        source, half = folder / f"{name}_videos", folder / name
        source.mkdir()
        for video in part:
            os.link(video, source / video.name)
        words = ["--input", str(source), "--preset", "embedded", "--output", str(half)]
        run("build", "--source", "folder", *words, *LOCAL)
        halves.append(str(half))
    run("merge", str(folder / "merged"), *halves)
    yield folder / "merged"
    changes = {
        "forgotten": ("forget", "--source", FORGOTTEN),
        "selected": ("select", "--set", NARROWER),
        "split": ("split", "--set", "select.val_share=0.3", "--set", "select.test_share=0.3"),
    }
    for name, (command, *words) in changes.items():
        shutil.copytree(demo, folder / name)
        run(command, str(folder / name), *words)
        yield folder / name


def train(folder: Path) -> Iterator[Path]:
    """Train both stages on the demo; yield each run."""
    first, second = folder / "stage1", folder / "stage2"
    words = ["--size", "tiny", "--steps", str(STEPS)]
    run("train", str(folder / "demo"), "--recipe", "highsync-stage1", *words, "-o", str(first))
    yield first
    run("train", str(folder / "demo"), "--recipe", "highsync-stage2", *words, "--init", str(first), "-o", str(second))
    yield second


def hash_values(values: object) -> str:
    """Hash anything that JSON holds, bytes included."""
    text = json.dumps(
        values, sort_keys=True, default=lambda value: value.hex() if isinstance(value, bytes) else str(value)
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_dataset(path: Path) -> Hashes:
    """Return a hash for each column of the tables, each column of each clip in the shards, and the counts."""
    found: Hashes = {}
    for table_name in ("videos", "clips"):
        table = pq.read_table(path / f"{table_name}.parquet")
        for name in table.column_names:
            if name not in PLACES:
                found[f"{path.name}/{table_name}/{name}"] = hash_values(table[name].to_pylist())
    dataset = open_dataset(path)
    found[f"{path.name}/counts"] = hash_values(asdict(dataset.index.counts))
    for entry in dataset.index.shards:
        with closing(Shard(path / entry.path)) as shard:
            for group in range(shard.num_row_groups):
                clip = shard.clip_id(group)
                for name in shard.columns:
                    array = shard.read(group, name)
                    blob = b"".join(array) if array.dtype == object else np.ascontiguousarray(array).tobytes()
                    found[f"{path.name}/shards/{clip}/{name}"] = hashlib.sha256(blob).hexdigest()[:16]
    return found


def hash_run(path: Path) -> Hashes:
    """Return a hash for each tensor of a run's last checkpoint, and of its losses."""
    last = max((path / "checkpoints").glob("step-*"))
    found = {
        f"{path.name}/{file.stem}/{name}": hashlib.sha256(tensor.tobytes()).hexdigest()[:16]
        for file in sorted(last.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found[f"{path.name}/losses"] = hash_values([line["loss"] for line in lines if "loss" in line])
    return found


def record(media: Path | None, limit: int) -> Hashes:
    """Make everything in a temporary folder and hash it."""
    found: Hashes = {}
    with tempfile.TemporaryDirectory(prefix="equality-") as folder:
        for dataset in make_datasets(Path(folder), media=media, limit=limit):
            found |= hash_dataset(dataset)
            print(f"{dataset.name}: done", file=sys.stderr)
        for trained in train(Path(folder)):
            found |= hash_run(trained)
            print(f"{trained.name}: done", file=sys.stderr)
    return found


def rename(found: Hashes, renamed: dict[str, str]) -> Hashes:
    """Return the hashes under the new names of columns."""
    return {"/".join(renamed.get(part, part) for part in name.split("/")): value for name, value in found.items()}


def compare(before: Hashes, after: Hashes) -> dict[str, list[str]]:
    """Return the names that are gone, new and changed."""
    return {
        "gone": sorted(before.keys() - after.keys()),
        "new": sorted(after.keys() - before.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--renamed", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--limit", type=int, default=128, help="real clips")
    options = parser.parse_args()
    after = record(MEDIA if MEDIA.is_dir() and WEIGHTS.is_dir() else None, options.limit)
    if options.action == "record":
        options.file.write_text(json.dumps(after, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{len(after)} values recorded in {options.file}")
        return
    renamed: dict[str, Any] = dict(word.split("=", 1) for word in options.renamed)
    before = rename(json.loads(options.file.read_text(encoding="utf-8")), renamed)
    differences = compare(before, after)
    for kind, names in differences.items():
        for name in names:
            print(f"{kind}: {name}")
    if any(differences.values()):
        sys.exit(1)
    print(f"{len(after)} values are equal")


if __name__ == "__main__":
    main()
