"""A build as a user runs it: the demo's truth, resuming, selecting again, parts, odd names, crashes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.verify import verify
from hs_data.pipeline.demo.truth import ClipTruth, truth
from hs_data.pipeline.networks import decoder_for

FEW = ("talker_a.mp4", "sound_early_5.mp4", "cuts.mp4", "silent_digital.mp4", "cut_off.mp4")
"""Demo files for tests that need real runs but not all of the demo."""


def run(*words: str, code: int = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run the command line and check how it ended."""
    command = [sys.executable, "-m", "hs_data.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})})
    assert done.returncode == code, done.stderr
    return done


def build(videos: Path, output: Path, *words: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Build a folder of demo files with the demo's own settings and return what was said."""
    settings = ["--set", "select.sync_rules=always", "--set", "select.min_sync_confidence=0.27"]
    settings += ["--set", "sync.correct=true", "--set", "run.unit_s=10", "--set", "run.shard_mb=8"]
    words = ("--source", "folder", "--input", str(videos), "--output", str(output), "--preset", "embedded", *words)
    executor = () if "--executor" in words else ("--executor", "local", "--workers", "2")
    return run("build", *words, *executor, *settings, code=code, env=env).stderr


def contents(dataset: Path) -> dict[str, str]:
    """Return the hash of every file that makes a dataset, its workings and its report left out."""
    paths = [*dataset.glob("*.parquet"), *dataset.glob("shards/*"), dataset / "dataset.json"]
    return {p.relative_to(dataset).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def times(folder: Path) -> dict[str, int]:
    """Return when each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="session")
def few(demo_videos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    for name in FEW:
        shutil.copy(demo_videos / name, folder)
    return folder


@pytest.fixture(scope="session")
def reference(few, tmp_path_factory) -> Path:
    """A dataset of the few files, built in one go by one local worker."""
    output = tmp_path_factory.mktemp("reference") / "dataset"
    build(few, output, "--executor", "local", "--workers", "1")
    return output


def test_the_demo_comes_out_as_it_was_constructed(demo_dataset):
    dataset = open_dataset(demo_dataset)
    videos = {row["path"]: row for row in dataset.videos().to_pylist()}
    clips = dataset.clips().to_pylist()
    assert set(videos) == set(truth())
    for name, file in truth().items():
        found = [row for row in clips if row["path"] == name]
        assert videos[name]["outcome"] == file.outcome, name
        assert (videos[name]["cuts_s"] or []) == pytest.approx(list(file.cuts_s), abs=0.04), name
        if file.clips:
            assert len(found) == len(file.clips), name
            for row, clip in zip(found, file.clips, strict=True):
                check_clip(row, clip)
    assert dataset.index.counts.kept == dataset.index.counts.encoded
    assert list(verify(dataset)) == []


def check_clip(row: dict, clip: ClipTruth) -> None:
    where = f"{row['path']} at {row['start_s']}"
    assert row["start_s"] == pytest.approx(clip.start_s, abs=clip.tolerance_s), where
    assert row["start_s"] + row["duration_s"] == pytest.approx(clip.end_s, abs=clip.tolerance_s), where
    if clip.verdict == "kept_or_dropped":
        assert row["verdict"] == "kept" or row["reason"] == clip.reason, where
    else:
        assert (row["verdict"], row["reason"]) == (clip.verdict, clip.reason), where
    if row["track"] is not None:
        assert row["clip_class"] == clip.clip_class, where
    if clip.audio_lead_frames is not None and row["verdict"] == "kept" and row["clip_class"] == "speech":
        assert row["audio_lead_frames"] == pytest.approx(clip.audio_lead_frames, abs=1.25), where
        moved = row["audio_shift_samples"] / 640
        left = clip.audio_lead_frames - moved  # what is left of the true lead in the samples a trainer reads
        assert abs(left) <= 1.25, where
        assert row["residual_lead_ms"] == pytest.approx(left * 40, abs=50), where


@pytest.mark.parametrize(
    ("executor", "workers"), [("local", 2), pytest.param("ray", 1, marks=pytest.mark.slow), ("ray", 2)]
)
def test_any_executor_and_number_of_workers_gives_the_same_bytes(few, reference, tmp_path, executor, workers):
    build(few, tmp_path / "dataset", "--executor", executor, "--workers", str(workers))
    assert contents(tmp_path / "dataset") == contents(reference)


def test_a_second_run_does_nothing_and_writes_nothing(few, reference):
    before = times(reference)
    words = ("--source", "folder", "--input", str(few), "--output", str(reference), "--dry-run", "--json")
    assert json.loads(run("build", *words).stdout)["finished"] is True
    build(few, reference)
    assert times(reference) == before


def test_work_may_be_deleted(few, reference, tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(reference, copy)
    shutil.rmtree(copy / "work")
    shards = times(copy / "shards")
    build(few, copy)
    assert contents(copy) == contents(reference)
    assert times(copy / "shards") == shards
    assert not list((copy / "work" / "plan").glob("score*"))  # nothing was scored or encoded again
    assert not list((copy / "work" / "plan").glob("encode*"))


def test_added_files_leave_the_rest_alone(few, reference, demo_videos, tmp_path):
    videos, copy = tmp_path / "videos", tmp_path / "dataset"
    shutil.copytree(few, videos, copy_function=shutil.copy2)
    shutil.copytree(reference, copy, copy_function=shutil.copy2)
    shards = times(copy / "shards")
    shutil.copy(demo_videos / "talker_b_stereo_48k.mp4", videos)
    build(videos, copy)
    grown = open_dataset(copy)
    assert {row["path"] for row in grown.videos(["path"]).to_pylist()} == {*FEW, "talker_b_stereo_48k.mp4"}
    assert {path: time for path, time in times(copy / "shards").items() if path in shards} == shards
    old = {clip.clip_id for clip in open_dataset(reference)}
    assert old < {clip.clip_id for clip in grown}
    assert list(verify(grown)) == []


def test_parts_of_a_job_array_make_the_same_dataset(few, reference, tmp_path):
    output = tmp_path / "dataset"
    for part in (1, 2, 3):
        said = build(few, output, "--shard", f"{part}/3")
        assert "without --shard" in said
        assert not (output / "dataset.json").exists()
    build(few, output)
    whole, parts = open_dataset(reference), open_dataset(output)
    columns = ["clip_id", "verdict", "reason", "value", "audio_shift_samples"]
    assert parts.clips(columns).equals(whole.clips(columns))
    for ours, theirs in zip(whole, parts, strict=True):
        for name in ("latent", "pcm", "logmel"):
            assert (whole.read(ours, name) == parts.read(theirs, name)).all()


def test_select_changes_verdicts_and_the_next_build_encodes_what_is_new(few, reference, tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(reference, copy, copy_function=shutil.copy2)
    before = contents(copy)
    change = json.loads(run("select", str(copy), "--set", "select.min_clip_s=5", "--json").stdout)
    assert change["newly_dropped"] == {"too_short": 2}
    assert list(verify(open_dataset(copy))) == []
    preview = run("select", str(copy), "--set", "select.max_lead_frames=2", "--dry-run", "--json").stdout
    assert json.loads(preview)["newly_dropped"] == {"offset_out_of_range": 1}
    build(few, copy)  # the selection is remembered
    assert {clip.clip_id for clip in open_dataset(copy)} < {clip.clip_id for clip in open_dataset(reference)}
    back = json.loads(run("select", str(copy), "--reset", "--json").stdout)
    assert (back["newly_kept"], back["to_encode"]) == (2, 0)
    build(few, copy)
    assert {k: v for k, v in contents(copy).items() if k != "dataset.json"} == {
        k: v for k, v in before.items() if k != "dataset.json"
    }


def test_select_then_build_encodes_only_what_is_newly_kept(few, tmp_path):
    output = tmp_path / "dataset"
    build(few, output, "--set", "select.min_clip_s=5")
    first = times(output / "shards")
    change = json.loads(run("select", str(output), "--set", "select.min_clip_s=3", "--json").stdout)
    assert (change["newly_kept"], change["to_encode"]) == (2, 2)
    build(few, output, "--set", "select.min_clip_s=5")
    dataset = open_dataset(output)
    assert dataset.index.counts.kept == dataset.index.counts.encoded
    assert {path: time for path, time in times(output / "shards").items() if path in first} == first
    assert list(verify(dataset)) == []


@pytest.mark.slow
def test_odd_names_and_equal_names_do_not_mix(demo_videos, tmp_path):
    videos, output = tmp_path / "videos", tmp_path / "dataset"
    names = ["a b.mp4", "é'\".mp4", "$x.mp4", "-y.mp4", "名.mp4", "one/00001.mp4", "two/00001.mp4"]
    for number, name in enumerate(names):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        # Trailing bytes make another content of the same pictures, so that no file counts as a duplicate.
        (videos / name).write_bytes((demo_videos / "talker_a.mp4").read_bytes() + bytes([number]))
    shutil.copy(videos / "one" / "00001.mp4", videos / "zz copy.mp4")
    build(videos, output)
    rows = {row["path"]: row for row in open_dataset(output).videos().to_pylist()}
    assert {path for path, row in rows.items() if row["num_kept"] == 1} == set(names)
    assert (rows["zz copy.mp4"]["outcome"], rows["zz copy.mp4"]["detail"]) == (
        "duplicate",
        "same content as one/00001.mp4",
    )
    assert len({clip.clip_id for clip in open_dataset(output)}) == len(names)


def test_a_name_that_is_not_utf8_is_told_and_the_run_goes_on(demo_videos, tmp_path):
    videos, output = tmp_path / "videos", tmp_path / "dataset"
    videos.mkdir()
    shutil.copy(demo_videos / "talker_a.mp4", videos)
    shutil.copy(demo_videos / "talker_a.mp4", os.fsencode(videos) + b"/caf\xe9.mp4")
    build(videos, output)
    rows = {row["path"]: row for row in open_dataset(output).videos().to_pylist()}
    assert rows["talker_a.mp4"]["num_kept"] == 1
    assert rows["caf\\xe9.mp4"]["outcome"] == "unavailable"
    assert "not UTF-8" in rows["caf\\xe9.mp4"]["detail"]


PATCH = """
    import os, signal, time
    from hs_data.pipeline.media import pyav_backend
    from hs_data.pipeline.score.scorer import Scorer

    score, frames = Scorer.score, pyav_backend.frames

    def fatal_score(self, item, *more):
        if item.path == {crash!r}:
            os.kill(os.getpid(), signal.SIGSEGV)
        if item.path == {bug!r}:
            raise ZeroDivisionError("planted")
        return score(self, item, *more)

    def stalled_frames(path, video, slots, guard, stats, limits):
        if path.name == {stall!r}:
            with guard:
                while True:
                    sum(range(1000))  # holds the interpreter's lock, as a stuck decoder does
        return frames(path, video, slots, guard, stats, limits)

    Scorer.score = fatal_score
    pyav_backend.frames = stalled_frames
"""


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_crash_a_bug_and_a_stall_cost_one_file_each(demo_videos, tmp_path, executor):
    videos, output, patch = tmp_path / "videos", tmp_path / "dataset", tmp_path / "patch"
    videos.mkdir()
    patch.mkdir()
    for number, name in enumerate(("good.mp4", "crash.mp4", "bug.mp4", "stall.mp4", "also_good.mp4")):
        (videos / name).write_bytes((demo_videos / "talker_a.mp4").read_bytes() + bytes([number]))
    text = textwrap.dedent(PATCH).format(crash="crash.mp4", bug="bug.mp4", stall="stall.mp4")
    (patch / "sitecustomize.py").write_text(text)
    limits = [
        "--set",
        "decode.min_timeout_s=3",
        "--set",
        "decode.timeout_factor=0.3",
        "--set",
        "run.max_error_rate=0.5",
    ]
    build(videos, output, "--executor", executor, *limits, env={"PYTHONPATH": str(patch)})
    rows = {row["path"]: row for row in open_dataset(output).videos().to_pylist()}
    assert {path: row["outcome"] for path, row in rows.items()} == {
        "good.mp4": "ok",
        "also_good.mp4": "ok",
        "crash.mp4": "internal_error",
        "bug.mp4": "internal_error",
        "stall.mp4": "decode_timeout",
    }
    assert "planted" in rows["bug.mp4"]["detail"]
    traces = [json.loads(path.read_text())["trace"] for path in (output / "work" / "quarantine").rglob("*.json")]
    assert any("stalled_frames" in trace for trace in traces)
    assert len(open_dataset(output)) == 2


def test_nothing_kept_is_a_failure_that_names_the_reason(demo_videos, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(demo_videos / "nobody.mp4", videos)
    assert "no_face" in build(videos, tmp_path / "dataset", code=1)
    assert (tmp_path / "dataset" / "dataset.json").exists()


def test_latents_decode_to_faces(reference):
    dataset = open_dataset(reference)
    assert list(verify(dataset, decode=decoder_for(dataset), num_decoded=4)) == []


@pytest.mark.slow
def test_estimate_writes_nothing_and_is_near(few, reference, tmp_path):
    words = ("--source", "folder", "--input", str(few), "--output", str(tmp_path / "new"), "--preset", "embedded")
    guess = json.loads(run("build", *words, "--executor", "local", "--estimate", "--json").stdout)
    assert not (tmp_path / "new").exists()
    assert guess["files"] == guess["files_tried"] == len(FEW)
    assert guess["core_hours"] > 0
    assert guess["disk_gigabytes"] > 0
