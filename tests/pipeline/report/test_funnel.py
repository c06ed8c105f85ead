"""The funnel adds up: what goes in less what is lost comes out, at every stage, whatever was annotated or overlaps."""

import io
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import DatasetError
from hs_data.manifests.index import DatasetIndex, Fingerprints, write_index
from hs_data.manifests.reasons import REASONS
from hs_data.manifests.schema import VIDEO_SCHEMA
from hs_data.pipeline.report.clip_columns import ClipColumns
from hs_data.pipeline.report.funnel import Stage, StageLoss, funnel
from hs_data.pipeline.report.terminal import funnel_table, length
from hs_data.pipeline.score.registry import CLIP_SCHEMA

Row = dict[str, Any]
HOUR = 25 * 3600


def write(path: Path, videos: list[Row], clips: list[Row]) -> list[Stage]:
    """Write tables that say no more than a funnel reads, and return it."""
    path.mkdir()
    named = [{"source": "x", "size_bytes": 1, "num_clips": 0, "num_kept": 0, **row} for row in videos]
    pq.write_table(pa.Table.from_pylist(named, schema=VIDEO_SCHEMA), path / "videos.parquet")
    filled = [
        {"clip_id": f"{place:020x}", "path": row["video_id"], "source": "x", "start_s": 0.0, "verdict": "kept", **row}
        | {"duration_s": row["num_frames"] / 25}
        for place, row in enumerate(clips)
    ]
    pq.write_table(pa.Table.from_pylist(filled, schema=CLIP_SCHEMA), path / "clips.parquet")
    write_index(
        path,
        DatasetIndex(
            hs_data_version="0",
            key="made up",
            source="folder",
            preset="cpu",
            config={},
            selection={},
            built_select={},
            fingerprints=Fingerprints(score="s", encode="e"),
            models=(),
        ),
    )
    dataset = open_dataset(path)
    return funnel(dataset, ClipColumns(dataset))


def file(name: str, num_frames: int | None, outcome: str = "ok", **more: object) -> Row:
    return {"video_id": name, "path": name, "outcome": outcome, "num_frames": num_frames, **more}


def clip(name: str, start: int, stop: int, track: int | None = 0, reason: str | None = None) -> Row:
    row: Row = {"video_id": name, "start_frame": start, "num_frames": stop - start, "track": track}
    return row | {"reason": reason, "verdict": "dropped" if reason else "kept"}


def losses(stage: Stage) -> dict[str, tuple[int, int]]:
    return {loss.reason: (loss.number, loss.num_frames) for loss in stage.losses}


def check(table: list[Row]) -> None:
    """Add up what is shown: JSON to its last digit, which is 4 ms."""
    for stage in table:
        left = stage["hours_in"] - sum(loss["hours"] for loss in stage["losses"])
        assert left == pytest.approx(stage["hours_out"], abs=1e-6 * (2 + len(stage["losses"]))), stage["name"]
        assert stage["number_in"] - sum(loss["number"] for loss in stage["losses"]) == stage["number_out"]
    for before, after in itertools.pairwise(table):
        assert after["hours_in"] == pytest.approx(before["hours_out"] + after["hours_repeated"], abs=3e-6)
    reasons = [loss["reason"] for stage in table[:2] for loss in stage["losses"]]
    assert len(reasons) == len(set(reasons)), "no reason stands in two stages of footage"
    assert set(reasons) <= set(REASONS)


def test_what_no_annotation_names_has_a_line(tmp_path):
    """A file as VFHQ has them: 30 s, of which 5 s are annotated."""
    videos = [file("a", 750, chunks=[250], chunk_ends=[375], chunk_outcomes=["ok"])]
    stages = write(tmp_path / "dataset", videos, [clip("a", 250, 375)])
    assert losses(stages[0]) == {"outside_annotation": (0, 625)}
    assert [(stage.frames_in, stage.frames_out) for stage in stages] == [(750, 125), (125, 125), (125, 125)]
    check([stage.to_json() for stage in stages])


def test_two_faces_at_once_count_twice_and_it_is_said(tmp_path):
    clips = [clip("a", 0, 200), clip("a", 100, 300, track=1), clip("b", 0, 50), clip("a", 120, 180, track=2)]
    stages = write(tmp_path / "dataset", [file("b", 50), file("a", 300)], clips)
    read, find, select = stages
    assert (read.frames_out, find.frames_out, select.frames_in) == (350, 350, 510)
    assert (read.frames_repeated, find.frames_repeated, select.frames_repeated) == (0, 0, 160)
    lines = shown(stages)
    assert "several faces at once count each" in lines
    assert "+6.40 s" in lines
    check([stage.to_json() for stage in stages])


def test_no_face_is_lost_once(tmp_path):
    """A file without a face and a stretch without one are the same loss, of footage, in one stage."""
    videos = [file("a", 300, cuts_s=[4.0]), file("b", 100, "no_face"), file("c", 80, "no_audio_stream")]
    clips = [clip("a", 0, 98), clip("a", 102, 300, None, "no_face"), clip("b", 0, 100, None, "no_face")]
    read, find, select = write(tmp_path / "dataset", videos, clips)
    assert losses(read) == {"no_audio_stream": (1, 80)}
    assert losses(find) == {"no_face": (1, 298), "between_clips": (0, 4)}
    assert (select.number_in, select.frames_in, select.losses) == (1, 98, [])


def test_a_stretch_that_failed_is_told_and_so_is_a_file(tmp_path):
    videos = [
        file("a", 900, chunks=[0, 300, 600], chunk_outcomes=["ok", "decode_error", "ok"]),
        file("b", 500, chunks=[100, 300], chunk_ends=[200, 350], chunk_outcomes=["ok", "decode_timeout"]),
        file("c", 400, "decode_error", chunks=[0, 200], chunk_outcomes=["decode_error", "ok"]),
        file("d", None, "truncated"),
        file("e", 120, chunks=[0, 60]),  # written before the outcome of each was kept
    ]
    clips = [clip("a", 0, 300), clip("a", 600, 900, reason="too_short"), clip("b", 100, 200), clip("e", 0, 60)]
    clips += [clip("c", 200, 400, None, "no_face")]
    read, find, select = write(tmp_path / "dataset", videos, clips)
    assert losses(read) == {
        "decode_error": (1, 700),
        "outside_annotation": (0, 350),
        "decode_timeout": (0, 50),
        "truncated": (1, 0),
    }
    assert losses(find) == {"between_clips": (0, 60)}
    assert losses(select) == {"too_short": (1, 300)}
    check([stage.to_json() for stage in [read, find, select]])


def test_a_merged_file_that_two_builds_annotated_otherwise_adds_up(tmp_path):
    """The row is of the first build, the clips are of both."""
    videos = [file("a", 750, chunks=[0], chunk_ends=[100], chunk_outcomes=["ok"])]
    stages = write(tmp_path / "dataset", videos, [clip("a", 0, 100), clip("a", 400, 600)])
    assert losses(stages[0]) == {"outside_annotation": (0, 450)}
    assert stages[-1].frames_out == 300


@pytest.mark.parametrize("seed", range(5))
def test_any_dataset_adds_up_and_footage_counts_once(seed, tmp_path):
    random = np.random.default_rng(seed)
    videos, clips = [], []
    seen = faces = 0
    for number in range(40):
        frames = int(random.integers(1, 2000))
        outcome = str(random.choice(["ok", "ok", "no_face", "duplicate"]))
        spans = np.sort(random.choice(frames + 1, 4, replace=False)) if frames > 4 and random.random() < 0.5 else None
        ends = None if spans is None else spans[1::2].tolist()
        chunks = [0] if spans is None else spans[::2].tolist()
        videos.append(file(f"v{number}", frames, outcome, chunks=chunks, chunk_ends=ends))
        for first, last in zip(chunks, ends or [frames], strict=True):
            marks = np.zeros((2, frames), bool)
            for _ in range(int(random.integers(0, 6)) if last > first and outcome != "duplicate" else 0):
                start, stop = np.sort(random.integers(first, last + 1, 2)).tolist()
                track = None if outcome == "no_face" or random.random() < 0.3 else 1
                reason = "no_face" if track is None else (None, "too_short", "no_speech")[int(random.integers(3))]
                clips.append(clip(f"v{number}", start, stop, track, reason))
                marks[int(track is not None), start:stop] = True
            seen, faces = seen + int(marks.any(axis=0).sum()), faces + int(marks[1].sum())
    clips = [clips[place] for place in random.permutation(len(clips))]
    read, find, select = write(tmp_path / "dataset", videos, clips)
    assert read.frames_in == sum(row["num_frames"] for row in videos)
    assert find.frames_out == faces
    assert losses(find).get("no_face", (0, 0))[1] == seen - faces
    assert select.frames_in == sum(row["num_frames"] for row in clips if row["track"] is not None)
    check([stage.to_json() for stage in [read, find, select]])


def test_a_stage_that_does_not_add_up_is_refused(tmp_path):
    lost = [StageLoss(reason="too_short", number=1, num_frames=5)]
    with pytest.raises(DatasetError, match=r"funnel, read: 1 files and 15 frames are left of 2 and 20, not 1 and 16"):
        Stage(name="read", unit="files", number_in=2, frames_in=20, number_out=1, frames_out=16, losses=lost)
    with pytest.raises(DatasetError, match="funnel, read: 1 files are shorter than their clips"):
        write(tmp_path / "dataset", [file("a", 50)], [clip("a", 0, 80)])


def test_lengths_have_one_unit_in_a_table():
    assert [length(hours, 0.9) for hours in (0.9, 0.002, 0)] == ["3,240.00 s", "7.20 s", "0.00 s"]
    assert [length(hours, 20) for hours in (20, 0.002, 0)] == ["20.000 h", "0.002 h", "0.000 h"]


# --- of what was built


def shown(stages: list[Stage]) -> str:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(funnel_table(stages))
    return console.export_text()


def read_back(text: str) -> list[Row]:
    """Return the stages that a terminal shows, in seconds."""
    stages: list[Row] = []
    for line in text.splitlines()[1:]:
        last = line.split()[-2].lstrip("+-").replace(",", "") if line.endswith(" s") else "0"  # no length is known
        seconds = float(last)
        if " in " in line:
            stages.append({"in": seconds, "lost": []})
        elif "out (" in line:
            stages[-1]["out"] = seconds
        elif "+" not in line:
            stages[-1]["lost"].append((line.split()[0], seconds))
    return stages


def test_the_demo_adds_up_in_terminal_json_and_page_alike(demo_dataset, tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(demo_dataset, copy, ignore=shutil.ignore_patterns("demo_videos"))
    words = [sys.executable, "-m", "hs_data.cli", "report", str(copy)]
    text = subprocess.run([*words, "--previews", "0"], capture_output=True, text=True, check=True).stdout
    answer = subprocess.run([*words, "--previews", "0", "--json"], capture_output=True, text=True, check=True).stdout
    table = json.loads(answer)
    facts = json.loads((copy / "report" / "report.json").read_text(encoding="utf-8"))
    page = (copy / "report" / "index.html").read_text(encoding="utf-8")
    assert table == facts["funnel"]
    check(table)
    assert table[0]["hours_in"] == facts["hours_in"]
    assert table[2]["hours_out"] == facts["kept_hours"]
    assert losses_of(table, "no_face") == [("find faces", 1)]
    for stage, rows in zip(table, read_back(text), strict=True):
        total = max(each["hours_in"] for each in table)
        assert rows["in"] - sum(seconds for _, seconds in rows["lost"]) == pytest.approx(rows["out"], abs=1e-6)
        assert rows["in"] == pytest.approx(stage["hours_in"] * 3600, abs=0.006)
        assert [name for name, _ in rows["lost"]] == [loss["reason"] for loss in stage["losses"]]
        for hours in (stage["hours_in"], stage["hours_out"], *(loss["hours"] for loss in stage["losses"])):
            assert length(hours, total) in page


def losses_of(table: list[Row], reason: str) -> list[tuple[str, int]]:
    return [(stage["name"], loss["number"]) for stage in table for loss in stage["losses"] if loss["reason"] == reason]


@pytest.mark.media
@pytest.mark.slow
def test_a_build_of_real_spans_adds_up(tmp_path, media, weights):
    """A file in the layout of VFHQ, not all of which is annotated."""
    source = tmp_path / "in"
    (source / "raw").mkdir(parents=True)
    (source / "meta_info").mkdir()
    shutil.copy(media / "derived__dev_fps29.97.mp4", source / "raw" / "-_raOc3-IRs.mp4")
    note = "Video ID: x\nH: 512\nW: 512\nFPS: 29.97\n\nFRAME INDEX X0 Y0 W H\n\nCROP: 50 50 400 400\n"
    (source / "meta_info" / "Clip+-_raOc3-IRs+P0+C0+F20-130.txt").write_text(note)
    words = ["build", "--source", "vfhq", "--input", str(source), "--output", str(tmp_path / "out"), "--json"]
    words += ["--preset", "cpu", "--set", f"models.dir={weights}", "--executor", "local", "--workers", "1"]
    done = subprocess.run([sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=True)
    table = json.loads(done.stdout)["funnel"]
    check(table)
    [outside] = [loss for loss in table[0]["losses"] if loss["reason"] == "outside_annotation"]
    assert outside["hours"] > 0
    [row] = open_dataset(tmp_path / "out").videos(["num_frames", "chunks", "chunk_ends", "chunk_outcomes"]).to_pylist()
    annotated = row["chunk_ends"][0] - row["chunks"][0]
    assert row["chunk_outcomes"] == ["ok"]
    assert outside["hours"] * HOUR == pytest.approx(row["num_frames"] - annotated, abs=0.1)
