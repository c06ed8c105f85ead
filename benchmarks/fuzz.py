"""Damage files in every way, build a dataset of them, and hold the build to account.

    python benchmarks/fuzz.py --files 2000 --seed 0

Each file must have a row with an outcome of the closed set, none of them `internal_error`; no traceback, no hang,
bounded memory, and the inputs as they were. Exit 1 where that does not hold.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

os.environ.setdefault("SVT_LOG", "0")

import fuzz_bases
import pyarrow.parquet as pq
from fuzz_bases import Base
from fuzz_bombs import write_bombs, write_links, write_lists
from fuzz_mutations import MUTATIONS, SUFFIXES
from processes import build_command, watch_memory

from hs_data.manifests.reasons import REASONS

MOST_MB = 1500
LONGEST_S = 3.0
"""Wall time a file may take on the average before the build counts as hung, besides two minutes."""
SETTINGS = {
    "tracks.min_track_frames": 5, "select.min_clip_s": 0.4, "select.min_face_px": 10,
    "run.max_error_rate": 1.0, "run.unit_s": 20,
}  # fmt: skip
"""Short clips of small faces are kept, so that damaged files reach the encoder; a failure is counted, not fatal."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", choices=("pyav", "decord"), default="pyav")
    parser.add_argument("--keep", type=Path, help="folder for the files and the dataset; else a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        (root / "bases").mkdir(parents=True)
        (root / "inputs").mkdir()
        bases = fuzz_bases.write_all(root / "bases")
        made = write_inputs(root / "inputs", bases, options.files, options.seed)
        print(f"{len(made)} files of {len(bases)} kinds, {len(MUTATIONS)} mutations, seed {options.seed}", flush=True)
        sys.exit(1 if judge(root, made, options) else 0)


def write_inputs(folder: Path, bases: dict[str, Path], num_files: int, seed: int) -> dict[str, str]:
    """Write the damaged files and those made by hand; return name to mutation."""
    made = {}
    kinds = {kind.name: kind for kind in fuzz_bases.KINDS if kind.name in bases}
    for number in range(num_files):
        chance = Random(f"{seed}/{number}")
        mutation, name = list(MUTATIONS)[number % len(MUTATIONS)], chance.choice(sorted(kinds))
        suffix = chance.choice(SUFFIXES) if mutation == "wrong_ending" else kinds[name].suffix
        path = folder / f"{number:05}-{mutation}-{name}{suffix}"
        MUTATIONS[mutation](Base(kind=kinds[name], path=bases[name], others=list(bases.values())), chance, path)
        made[path.name] = mutation
    content = [bases[name].read_bytes() for name in ("mp4-h264-aac", "webm-vp8-opus", "avi-mjpeg-pcm")]
    made |= {path.name: "bomb" for path in write_bombs(folder, *content)}
    made |= {path.name: "list" for path in write_lists(folder, bases["mp4-h264-aac"])}
    return made | {path.name: "link" for path in write_links(folder, bases["mp4-h264-aac"])}


def judge(root: Path, made: dict[str, str], options: argparse.Namespace) -> list[str]:
    """Build, print the table, and return what is wrong."""
    before = hashes(root / "inputs")
    began = time.monotonic()
    code, output, memory = build(root, options, limit_s=120 + LONGEST_S * len(made))
    wall_s = time.monotonic() - began
    rows = {row["path"]: row for row in outcomes(root / "dataset")}
    wrong = [f"no row: {name}" for name in made if name not in rows]
    wrong += [f"not asked for: {name}" for name in rows if name not in made]
    wrong += [f"no reason of ours: {n}: {row['outcome']}" for n, row in rows.items() if row["outcome"] not in KNOWN]
    wrong += [f"internal_error: {n}: {row['detail']}" for n, row in rows.items() if row["outcome"] == "internal_error"]
    wrong += [f"internal_error: clip of {path}" for path in failed_clips(root / "dataset")]
    wrong += [f"not refused: {name}" for name, kind in made.items() if kind == "list" and is_read(rows.get(name))]
    if code not in (0, 1):
        wrong.append(f"exit code {code}: {output[-300:]}")
    wrong += [f"output: {line}" for line in output.splitlines() if "Traceback" in line]
    if max(memory, default=0) > MOST_MB:
        wrong.append(f"memory: {max(memory):.0f} MB")
    if hashes(root / "inputs") != before:
        wrong.append("an input was changed")
    show(made, rows)
    peak = f"largest worker {max(memory, default=0):.0f} MB"
    print(f"{len(made)} files in {wall_s:.0f} s, {wall_s / len(made):.2f} s a file, exit code {code}, {peak}")
    print("\n".join(wrong) or "nothing is wrong")
    return wrong


KNOWN = {*REASONS, "ok"}


def is_read(row: dict | None) -> bool:
    return row is not None and row["outcome"] != "not_media"


def build(root: Path, options: argparse.Namespace, *, limit_s: float) -> tuple[int, str, list[float]]:
    """Run the build; return its exit code, what it printed and the memory of the largest worker over time."""
    words = ["--source", "folder", "--input", str(root / "inputs"), "--output", str(root / "dataset")]
    words += ["--preset", "embedded", "--executor", "local", "--workers", str(options.workers)]
    for name, value in {**SETTINGS, "decode.backend": options.backend}.items():
        words += ["--set", f"{name}={value}"]
    with (root / "output.txt").open("w+") as file:
        process = subprocess.Popen(build_command(*words), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        killer = threading.Timer(limit_s, process.kill)
        killer.start()
        memory = watch_memory(process, 0.5)
        killer.cancel()
        file.seek(0)
        return process.returncode, file.read(), memory


def outcomes(dataset: Path) -> list[dict]:
    """Return what the dataset says of each file."""
    path = dataset / "videos.parquet"
    return (
        pq.read_table(path, columns=["path", "outcome", "detail", "num_clips", "num_kept"]).to_pylist()
        if path.is_file()
        else []
    )


def failed_clips(dataset: Path) -> list[str]:
    path = dataset / "clips.parquet"
    rows = pq.read_table(path, columns=["path", "reason"]).to_pylist() if path.is_file() else []
    return [row["path"] for row in rows if row["reason"] == "internal_error"]


def hashes(folder: Path) -> dict[str, str]:
    """Return name to the hash of what a file holds; links and pipes are not followed."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def show(made: dict[str, str], rows: dict[str, dict]) -> None:
    """Print how many files of each mutation ended how."""
    counts: dict[str, Counter[str]] = {}
    for name, mutation in made.items():
        counts.setdefault(mutation, Counter())[rows.get(name, {}).get("outcome", "MISSING")] += 1
    for mutation, ended in counts.items():
        print(f"{mutation:18} {ended.total():4}  " + ", ".join(f"{what} {n}" for what, n in ended.most_common()))
    total = sum(counts.values(), Counter())
    kept = sum(bool(row["num_kept"]) for row in rows.values())
    print(f"{'all':18} {total.total():4}  " + ", ".join(f"{what} {n}" for what, n in total.most_common()))
    print(f"{kept} files gave clips that were encoded")


if __name__ == "__main__":
    main()
