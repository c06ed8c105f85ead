"""A million candidate clips through build, report, select, split and verify: seconds and peak memory of each.

The build is the real one, and only what its workers do is made up: 50,000 empty files, scores whose columns are as
long as those of clips of three seconds, and shards of three small frames a clip, so that it all fits on a disk.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from hs_data.manifests import settings
from hs_data.manifests.commits import Commit, CommitLog, CommittedFile
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.index import CLIPS, INDEX, VIDEOS
from hs_data.manifests.records import Video, pack
from hs_data.manifests.schema import Column
from hs_data.manifests.shards import ShardWriter
from hs_data.manifests.sources import get_source
from hs_data.manifests.storage import sha256_file
from hs_data.manifests.verify import verify
from hs_data.pipeline.config import resolve
from hs_data.pipeline.maintain.reselect import reselect
from hs_data.pipeline.maintain.resplit import resplit
from hs_data.pipeline.report.page import write_report
from hs_data.pipeline.run.build import Build, BuildRequest
from hs_data.pipeline.run.progress import BuildProgress
from hs_data.pipeline.score.registry import SCORE_SCHEMA
from hs_data.pipeline.workers.units import Unit

ROWS = 1_000_000
MOST_MB = 3000
CLIPS_A_VIDEO, VIDEOS_AN_IDENTITY = 20, 10
NUM_FRAMES = 75
"""Frames that the per-frame columns of scores are as long as."""
STORED_FRAMES = 3
THUMBNAIL_BYTES = 3000
STEPS = ("build", "report", "select", "split", "verify")
COLUMNS = {"latent": Column(dtype="<f2", shape=(4, 2, 2)), "pcm": Column(dtype="<i2", shape=(640,))}
SETTINGS = ("select.min_clip_s=0.1", "select.sync_rules=never")
SPREADS = {
    "face_height_p5_px": (120, 30),
    "height_ratio": (1.15, 0.1),
    "sharpness": (40, 20),
    "brightness": (130, 40),
    "motion": (3, 1),
    "speech_share": (0.8, 0.2),
    "mouth_activity": (0.03, 0.01),
}
"""Mean and deviation of made-up scores; the others are near 0."""


class MadeUp(Build):
    """A build whose workers make everything up."""

    def _do(self, units: Sequence[Unit], *, silently: bool = False) -> None:
        log = CommitLog(self._dataset)
        for unit in units:
            receipts, file = {"probe": _probe, "score": _score, "encode": _encode}[unit.phase](unit, self._dataset)
            about = {"phase": unit.phase, "unit": unit.unit_id, "fingerprint": unit.fingerprint}
            log.add(Commit(**about, receipts=receipts, file=file, costs={"made up": 0.0}))


def make(folder: Path, num_rows: int) -> None:
    """Make a dataset in `folder/dataset` of the files in `folder/videos`."""
    for number in range(-(-num_rows // CLIPS_A_VIDEO)):
        path = folder / "videos" / f"id{number // VIDEOS_AN_IDENTITY:06d}" / f"video{number:07d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    MadeUp(_request(folder), _display()).run()


def _display() -> BuildProgress:
    return BuildProgress(Console(quiet=True))


def _request(folder: Path) -> BuildRequest:
    config = resolve(preset="embedded", source={}, saved={}, file=None, assignments=SETTINGS)
    return BuildRequest(
        source=get_source("folder"),
        root=folder / "videos",
        dataset=folder / "dataset",
        preset="embedded",
        config=config,
        selection={},
        built_select=settings.to_table(config.select),
        executor="local",
        num_workers=1,
    )


def _probe(unit: Unit, dataset: Path) -> tuple[dict, None]:
    num_frames = CLIPS_A_VIDEO * NUM_FRAMES
    length = Fraction(num_frames, 25)
    video = Video(
        container="mov",
        video_codec="h264",
        width=1280,
        height=720,
        rotation_deg=0,
        fps=25.0,
        is_vfr=False,
        num_packets=num_frames,
        num_frames=num_frames,
        start_s=Fraction(0),
        duration_s=length,
        keyframes_s=(Fraction(0),),
        audio_codec="aac",
        audio_start_s=Fraction(0),
        audio_duration_s=length,
        sample_rate_hz=48_000,
        num_channels=1,
        num_audio_streams=1,
    )
    told = {"outcome": "ok", "video": pack(video)}
    receipts = {}
    for item in unit.items:
        facts = {"facts": [item["size_bytes"], item["changed_ns"], None]}
        receipts[item["id"]] = {"video_id": hashlib.sha256(item["path"].encode()).hexdigest(), **facts, **told}
    return receipts, None


def _score(unit: Unit, dataset: Path) -> tuple[dict, CommittedFile]:
    random = np.random.default_rng(int(unit.unit_id[:12], 16))
    number = CLIPS_A_VIDEO * len(unit.items)
    serial = np.arange(number) % CLIPS_A_VIDEO
    of_item = [item for item in unit.items for _ in range(CLIPS_A_VIDEO)]
    ids = [hashlib.sha256(f"{i['id']} {n}".encode()).hexdigest()[:20] for i, n in zip(of_item, serial, strict=True)]
    columns: dict[str, object] = {
        "clip_id": ids,
        **{name: [item[name] for item in of_item] for name in ("video_id", "path", "source")},
        "track": np.zeros(number, np.int32),
        "start_frame": serial * NUM_FRAMES,
        "num_frames": np.full(number, STORED_FRAMES),
        "start_s": serial * NUM_FRAMES / 25,
        "duration_s": np.full(number, STORED_FRAMES / 25),
        "boxes": _lists(random, number, NUM_FRAMES * 4),
        "landmarks": _lists(random, number, NUM_FRAMES * 10),
        "mouth_opening": _lists(random, number, NUM_FRAMES),
        "sync_curve": _lists(random, number, 31),
        "num_faces": np.ones(number, np.int32),
        "thumbnail": [random.bytes(THUMBNAIL_BYTES) for _ in range(number)],
    }
    table = pa.table([_column(random, f, columns.get(f.name), number) for f in SCORE_SCHEMA], schema=SCORE_SCHEMA)
    path = Path("work") / "scores" / f"{unit.unit_id}.parquet"
    (dataset / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, dataset / path, compression="zstd")
    told = {"outcome": "ok", "detail": None, "cuts": [], "cut_scores": [], "num_decoded": 0, "num_decode_errors": 0}
    places = enumerate(unit.items)
    receipts = {i["id"]: told | {"first_row": n * CLIPS_A_VIDEO, "num_clips": CLIPS_A_VIDEO} for n, i in places}
    return receipts, _facts(dataset, path)


def _lists(random: np.random.Generator, number: int, length: int) -> pa.Array:
    values = random.integers(0, 1000, number * length).astype(np.float32)
    return pa.ListArray.from_arrays(pa.array(np.arange(number + 1, dtype=np.int32) * length), pa.array(values))


def _column(random: np.random.Generator, field: pa.Field, value: object, number: int) -> pa.Array:
    if value is not None:
        return value if isinstance(value, pa.Array) else pa.array(value).cast(field.type)
    if field.type == pa.float32():
        mean, deviation = SPREADS.get(field.name, (0.0, 0.1))
        return pa.array(random.normal(mean, deviation, number).astype(np.float32))
    return pa.nulls(number, field.type)


def _encode(unit: Unit, dataset: Path) -> tuple[dict, CommittedFile]:
    path, receipts = Path("shards") / f"{unit.unit_id}.parquet", {}
    (dataset / path).parent.mkdir(exist_ok=True)
    random = np.random.default_rng(int(unit.unit_id[:12], 16))
    with ShardWriter(dataset / path, COLUMNS, {"latent": {"id": "made up"}}) as writer:
        for item in unit.items:
            number = round(item["seconds"] * 25)
            arrays = {n: (100 * random.random((number, *c.shape))).astype(c.dtype) for n, c in COLUMNS.items()}
            receipts[item["id"]] = {"row_group": writer.write_clip(item["clip_id"], arrays), "audio_shift_samples": 0}
    return receipts, replace(_facts(dataset, path), rows=writer.num_rows, row_groups=writer.num_clips)


def _facts(dataset: Path, path: Path) -> CommittedFile:
    whole = dataset / path
    return CommittedFile(path=path.as_posix(), sha256=sha256_file(whole), bytes=whole.stat().st_size)


def step(folder: Path, name: str) -> None:
    """Do one step in this process and print seconds and peak memory as JSON."""
    dataset = folder / "dataset"
    if name == "build":  # what is left of it once all workers are done: the ledgers, select, finalize
        for file in (INDEX, CLIPS, VIDEOS):
            (dataset / file).unlink(missing_ok=True)
    began = time.perf_counter()
    done: object = None
    match name:
        case "build":
            done = Build(_request(folder), _display()).run().num_units
        case "report":
            done = write_report(open_dataset(dataset), {}).stat().st_size
        case "select":
            words = ["select.min_face_px=110"]
            done = reselect(dataset, assignments=words, config_file=None, reset=False, dry_run=False)["kept_now"]
        case "split":
            done = resplit(dataset, assignments=["select.val_share=0.2"], dry_run=False)["moved"]
        case "verify":
            done = len(list(verify(open_dataset(dataset))))
    seconds = {"seconds": time.perf_counter() - began, "cpu_s": time.process_time()}
    # Not getrusage: what it tells begins with the memory of the process that started this one.
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    print(json.dumps({"step": name, "result": done, **seconds, "peak_mb": int(peak) / 1024}))


def measure(folder: Path, steps: Sequence[str]) -> Iterator[dict]:
    """Do each step in a process of its own."""
    for name in steps:
        words = [sys.executable, __file__, "--folder", str(folder), "--step", name]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: exit status {done.returncode}")
        yield json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, help="where it is made, or where an earlier run left it")
    parser.add_argument("--step", help="only this one, in this process", choices=("make", *STEPS))
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hs-data-scale-"))
    if options.step == "make":
        make(folder, options.rows)
    elif options.step:
        step(folder, options.step)
    else:
        if not (folder / "dataset" / INDEX).is_file():
            words = [sys.executable, __file__, "--folder", str(folder), "--rows", str(options.rows), "--step", "make"]
            subprocess.run(words, check=True)
        found = []
        for facts in measure(folder, STEPS):
            found.append(facts)
            print(
                "{step:<8} {seconds:8.1f} s  CPU {cpu_s:7.1f} s  peak {peak_mb:6.0f} MB  ({result})".format(**facts),
                flush=True,
            )
        if not options.folder:
            shutil.rmtree(folder)
        if max(facts["peak_mb"] for facts in found) > MOST_MB:
            sys.exit(f"above {MOST_MB} MB")


if __name__ == "__main__":
    main()
