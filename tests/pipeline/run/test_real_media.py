"""`hs-data build --preset cpu` on all the real clips: nothing unaccounted for, nothing touched, times right."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.reasons import REASONS
from hs_data.manifests.verify import verify
from hs_data.pipeline.networks import decoder_for

pytestmark = [pytest.mark.media, pytest.mark.slow]

BROKEN = {
    "derived__dev_zerobytes.mp4": "truncated",
    "derived__dev_notvideo.mp4": "not_media",
    "derived__dev_truncated_nomoov.mp4": "truncated",
    "derived__dev_truncated_faststart.mp4": "truncated",
    "derived__dev_bitflips.mp4": "frame_count_mismatch",
    "derived__dev_audioonly.m4a": "no_video_stream",
    "derived__dev_noaudio.mp4": "no_audio_stream",
    "derived__dev_tooshort.mp4": "too_short",
    "dmlc__decord__tests_test_data_video_180.mov": "no_audio_stream",
    "dmlc__decord__tests_test_data_corrupted.mp4": "no_audio_stream",
    "Zulko__moviepy__media_no_duration.webm": "no_face",
    "WyattBlue__auto-editor__resources_testsrc-hevc.mp4": "too_short",
}
COPIES = [
    *("fps23.976.mp4", "fps29.97.mp4", "fps50.mp4", "fps60.mp4", "vfr.mp4", "wrongext.avi"),
    *("hevc_aac.mp4", "vp9_opus.webm", "av1_opus.mkv", "mpeg2_ts.ts", "mjpeg_pcm.avi", "h264_10bit_flac.mkv"),
    *("h264_pcm8k.mov", "odddims.mp4", "rotmeta90.mp4"),
]
LATE_MS = {"off+40ms": 40, "off+120ms": 120, "off+320ms": 320, "off-80ms": -80, "off-200ms": -200}


def tree_hash(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def built(media, weights, tmp_path_factory) -> Dataset:
    output = tmp_path_factory.mktemp("real") / "dataset"
    before = tree_hash(media)
    words = ["--source", "folder", "--input", str(media), "--output", str(output), "--preset", "cpu"]
    words += ["--set", f"models.dir={weights}", "--executor", "local", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "hs_data.cli", "build", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(output)
    assert tree_hash(media) == before
    return open_dataset(output)


@pytest.fixture(scope="module")
def videos(built) -> dict[str, dict]:
    return {row["path"]: row for row in built.videos().to_pylist()}


@pytest.fixture(scope="module")
def clips(built) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in built.clips().to_pylist():
        found.setdefault(row["path"], []).append(row)
    return found


def only_clip(clips: dict[str, list[dict]], name: str) -> dict:
    rows = [row for row in clips[name] if row["track"] is not None]
    assert len(rows) == 1, name
    return rows[0]


def test_every_file_is_accounted_for(built, videos):
    assert len(videos) == 128
    assert {row["outcome"] for row in videos.values()} - {"ok"} <= set(REASONS)
    counts = built.index.counts
    assert counts.kept + counts.dropped + counts.errors == counts.candidates
    assert counts.errors == 0
    assert counts.kept == counts.encoded >= 80


@pytest.mark.parametrize(("name", "reason"), BROKEN.items())
def test_broken_files_end_with_a_fitting_reason(videos, name, reason):
    assert videos[name]["outcome"] == reason


def test_the_dataset_verifies_and_decodes(built):
    assert list(verify(built, decode=decoder_for(built), num_decoded=8)) == []


def test_shards_are_memory_mapped(built):
    for clip in built:
        shard = built.shard(clip.shard)
        assert all(shard.is_mapped(clip.row_group, name) for name in shard.columns)


def test_cuts_are_found_within_a_frame(videos):
    assert videos["derived__dev_cuts.mp4"]["cuts_s"] == pytest.approx([2.40, 4.00], abs=0.04)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_have_the_length_and_face_of_the_base(clips, videos, copy):
    base, other = only_clip(clips, "derived__dev_base.mp4"), only_clip(clips, f"derived__dev_{copy}")
    assert abs(videos[f"derived__dev_{copy}"]["num_frames"] - 125) <= 1
    boxes = [np.reshape(row["boxes"], (-1, 4)) for row in (base, other)]
    num = min(map(len, boxes))
    ours, theirs = boxes[0][:num], boxes[1][:num]
    if copy == "rotmeta90.mp4":  # a portrait picture: the same talk scaled into another frame
        assert (other["width"], other["height"]) == (512, 640)
        ours = (ours - ours.mean(axis=0)) / 512 + 0.5
        theirs = (theirs - theirs.mean(axis=0)) / 512 + 0.5
    elif copy == "odddims.mp4":
        theirs = theirs * np.tile([512 / 511, 512 / 501], 2)
    size = (ours[:, 3] - ours[:, 1]).mean() if ours.max() > 2 else 1.0
    assert np.median(np.abs(ours - theirs)) / size < 0.03


@pytest.mark.parametrize(("name", "late_ms"), LATE_MS.items())
def test_known_offsets_come_back_with_the_right_sign(clips, name, late_ms):
    base = only_clip(clips, "derived__dev_base.mp4")
    moved = only_clip(clips, f"derived__dev_{name}.mp4")
    lead = moved["audio_lead_frames"] - base["audio_lead_frames"]
    assert lead == pytest.approx(-late_ms / 40, abs=1.0)


def test_two_people_are_two_tracks(clips):
    rows = [row for row in clips["derived__dev_twofaces.mp4"] if row["track"] is not None]
    assert len({row["track"] for row in rows}) == 2
    assert {row["reason"] for row in rows} == {"multiple_faces"}


def test_a_still_picture_is_static(clips):
    assert only_clip(clips, "derived__dev_frozen.mp4")["reason"] == "static_video"


def test_digital_silence_is_no_speech(clips):
    row = only_clip(clips, "derived__dev_silentaudio.mp4")
    assert row["speech_share"] == 0
    assert (row["clip_class"], row["verdict"], row["reason"]) == ("silent", "dropped", "no_speech")  # the mouth moves


def test_a_small_face_is_too_small(clips):
    assert only_clip(clips, "derived__dev_smallface.mp4")["reason"] == "face_too_small"
