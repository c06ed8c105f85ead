"""The report of a million made-up clips: seconds, memory, and the size of the page."""

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hs_data.manifests import settings
from hs_data.manifests.counts import Counts
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.index import DatasetIndex, Fingerprints, write_index
from hs_data.manifests.schema import VIDEO_SCHEMA
from hs_data.pipeline.config import resolve
from hs_data.pipeline.report.page import write_report
from hs_data.pipeline.score.registry import CLIP_SCHEMA, SCORE_SCHEMA
from hs_data.pipeline.select import select

ROWS = 1_000_000
MOST_S, MOST_MB, MOST_PAGE_MB = 60, 2000, 30
NUM_FRAMES = 75
"""Three seconds, the shortest clip; longer ones make the per-frame columns longer."""
ROW_GROUP = 4096
CLIPS_A_VIDEO, VIDEOS_AN_IDENTITY = 20, 10
NUM_FACES = 64
SPREADS = {
    "face_height_p5_px": (180, 50),
    "face_height_p50_px": (200, 50),
    "face_height_p95_px": (220, 50),
    "height_ratio": (1.15, 0.1),
    "yaw_p95_deg": (20, 15),
    "pitch_p95_deg": (12, 10),
    "sharpness": (90, 40),
    "brightness": (130, 40),
    "contrast": (50, 10),
    "motion": (3, 1),
    "speech_share": (0.8, 0.2),
    "sync_speech_s": (2.4, 0.3),
    "loudness_db": (-28, 5),
    "mouth_activity": (0.03, 0.01),
    "sync_confidence": (5, 1.8),
    "sync_spread_frames": (0.4, 0.3),
    "residual_lead_ms": (0, 8),
}
"""Mean and deviation of made-up scores; those that are not listed are near 0."""


def write_dataset(path: Path, num_rows: int) -> None:
    """Write tables and index of a dataset whose clips were scored but not encoded.

    Args:
        path: folder to write.
        num_rows: candidate clips.
    """
    random = np.random.default_rng(0)
    config = resolve(preset="cpu", source={}, saved={}, file=None, assignments=["select.sync_rules=always"])
    path.mkdir(parents=True, exist_ok=True)
    faces = [_face(random) for _ in range(NUM_FACES)]
    boxes = random.normal(300, 50, ROW_GROUP * NUM_FRAMES * 4).astype(np.float32)
    counts = dict.fromkeys(("kept", "dropped"), 0)
    with pq.ParquetWriter(path / "clips.parquet", CLIP_SCHEMA, compression="zstd") as writer:
        for first in range(0, num_rows, ROW_GROUP):
            table = _clips(random, first, min(ROW_GROUP, num_rows - first), boxes, faces)
            verdicts = select(table.select(SCORE_SCHEMA.names), config.select, config.crop.policy)
            for name in verdicts.column_names:
                table = table.set_column(CLIP_SCHEMA.get_field_index(name), CLIP_SCHEMA.field(name), verdicts[name])
            for verdict in counts:
                counts[verdict] += verdicts["verdict"].to_pylist().count(verdict)
            writer.write_table(table, row_group_size=ROW_GROUP)
    num_videos = -(-num_rows // CLIPS_A_VIDEO)
    pq.write_table(_videos(num_videos), path / "videos.parquet")
    counts |= {"inputs": num_videos, "inputs_ok": num_videos, "candidates": num_rows, "errors": 0}
    table = settings.to_table(config)
    index = DatasetIndex(
        hs_data_version=metadata.version("hs-data"),
        key="made up",
        source="folder",
        preset="cpu",
        config=table,
        selection={},
        built_select=table["select"],
        fingerprints=Fingerprints(score=config.score_fingerprint(), encode=config.encode_fingerprint()),
        models=(),
        counts=Counts(**counts),
    )
    write_index(path, index)


def _clips(random: np.random.Generator, first: int, number: int, boxes: np.ndarray, faces: list[bytes]) -> pa.Table:
    serial = np.arange(first, first + number)
    video, frames = serial // CLIPS_A_VIDEO, np.full(number, NUM_FRAMES)
    columns: dict[str, object] = {
        "clip_id": [f"{word:020x}" for word in random.integers(0, 2**62, number)],
        "video_id": [f"{word:064x}" for word in video],
        "path": [f"part{word % 100:02d}/video{word:07d}.mp4" for word in video],
        "source": ["folder"] * number,
        "identity": [f"id{word // VIDEOS_AN_IDENTITY:06d}" for word in video],
        "track": np.zeros(number, np.int32),
        "start_frame": serial % CLIPS_A_VIDEO * NUM_FRAMES,
        "num_frames": frames,
        "start_s": serial % CLIPS_A_VIDEO * NUM_FRAMES / 25,
        "duration_s": frames / 25,
        "boxes": _lists(boxes[: number * NUM_FRAMES * 4], number),
        "mouth_opening": _lists(random.random(number * NUM_FRAMES, np.float32), number),
        "sync_curve": _lists(random.normal(0, 1, number * 5).astype(np.float32), number),
        "num_faces": random.choice([1, 1, 1, 1, 2], number),
        "sync_trust": ["high"] * number,
        "audio_lead_frames": random.standard_t(2, number),
        "thumbnail": [faces[place] for place in random.integers(0, len(faces), number)],
    }
    arrays = []
    for field in CLIP_SCHEMA:
        if field.name in columns:
            value = columns[field.name]
            arrays.append(value if isinstance(value, pa.Array) else pa.array(value).cast(field.type))
        elif field.type == pa.float32():
            mean, deviation = SPREADS.get(field.name, (0.0, 0.1))
            arrays.append(pa.array(random.normal(mean, deviation, number).astype(np.float32)))
        else:
            arrays.append(pa.nulls(number, field.type) if field.nullable else pa.array([""] * number, field.type))
    return pa.table(arrays, schema=CLIP_SCHEMA)


def _lists(flat: np.ndarray, number: int) -> pa.Array:
    offsets = np.arange(number + 1, dtype=np.int32) * (len(flat) // number)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


def _face(random: np.random.Generator) -> bytes:
    """Return a JPEG of about the size that a real face of 112 px has, 3 kB."""
    rough = Image.fromarray(random.integers(0, 255, (28, 28, 3), np.uint8))
    file = io.BytesIO()
    rough.resize((112, 112), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()


def _videos(number: int) -> pa.Table:
    known = {
        "video_id": [f"{word:064x}" for word in range(number)],
        "path": [f"part{word % 100:02d}/video{word:07d}.mp4" for word in range(number)],
        "source": ["folder"] * number,
        "outcome": ["ok"] * number,
        "num_frames": np.full(number, CLIPS_A_VIDEO * NUM_FRAMES),
        "duration_s": np.full(number, CLIPS_A_VIDEO * NUM_FRAMES / 25),
        "fps": np.full(number, 25.0),
        "height": np.full(number, 720),
        **{name: np.full(number, value) for name, value in (("size_bytes", 10**7), ("num_clips", 20), ("num_kept", 9))},
    }
    arrays = [
        pa.array(known[f.name]).cast(f.type) if f.name in known else pa.nulls(number, f.type) for f in VIDEO_SCHEMA
    ]
    return pa.table(arrays, schema=VIDEO_SCHEMA)


def measure(path: Path) -> dict[str, float]:
    """Write the report in a process of its own and return its seconds, its peak memory and the size of the page."""
    words = [sys.executable, __file__, "--report", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def _report(path: Path) -> None:
    began = time.perf_counter()
    page = write_report(open_dataset(path), {})
    facts = {"seconds": time.perf_counter() - began, "page_mb": page.stat().st_size / 1e6}
    # Not getrusage: what it tells begins with the memory of the process that started this one.
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    print(json.dumps(facts | {"peak_mb": int(peak) / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--keep", type=Path, help="folder to make the dataset in, or where an earlier run left it")
    parser.add_argument("--report", type=Path, help="only write the report of this dataset and print what it took")
    options = parser.parse_args()
    if options.report:
        _report(options.report)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.keep or Path(folder) / "dataset"
        if not (path / "dataset.json").is_file():
            write_dataset(path, options.rows)
        found = measure(path)
        table_gb = (path / "clips.parquet").stat().st_size / 1e9
    print(
        f"{options.rows:,} clips, a table of {table_gb:.2f} GB: {found['seconds']:.1f} s, "
        f"peak {found['peak_mb']:.0f} MB, page {found['page_mb']:.1f} MB"
    )
    if found["seconds"] > MOST_S or found["peak_mb"] > MOST_MB or found["page_mb"] > MOST_PAGE_MB:
        sys.exit(f"above {MOST_S} s, {MOST_MB} MB or {MOST_PAGE_MB} MB")


if __name__ == "__main__":
    main()
