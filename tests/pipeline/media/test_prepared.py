"""Folders that LatentSync's and HighSync's own scripts prepared: read as they are, with the sound where it belongs."""

import json
import pickle
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from builds import build

from hs_data.manifests.dataset import Dataset
from hs_data.manifests.errors import MediaError
from hs_data.manifests.sources import get_source
from hs_data.pipeline.crop import CropConfig, crop_boxes
from hs_data.pipeline.media import audio, decode, image_folder
from hs_data.pipeline.media.decode import DecodeConfig, DecodeStats
from hs_data.pipeline.media.probe import probe
from hs_data.pipeline.report.facts import notes

BASE = "derived__dev_base.mp4"
CUTS = "derived__dev_cuts.mp4"
SECONDS = 3.6
PRIMING_MS = 64
"""1024 samples of AAC at 16 kHz: with a late start nothing says that they are to be skipped, so they come first."""


def _copy(source: Path, target: Path, delay_s: Fraction = Fraction(0), seconds: float = 99) -> None:
    """Copy the packets, the sound's with later timestamps: what `ffmpeg -itsoffset S -c copy` does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = [old.streams.video[0], old.streams.audio[0]]
        copies = {stream.index: new.add_stream_from_template(stream) for stream in streams}
        for packet in old.demux(streams):
            if packet.dts is None or packet.pts is None or packet.dts * packet.time_base >= seconds:
                continue
            if packet.stream.type == "audio":
                packet.pts += int(delay_s / packet.time_base)
                packet.dts += int(delay_s / packet.time_base)
            packet.stream = copies[packet.stream.index]
            new.mux(packet)


def _rows(table, key: str = "path") -> dict[str, dict]:
    return {row[key]: row for row in table.to_pylist()}


# --- LatentSync


@pytest.fixture(scope="module")
def latentsync(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("latentsync") / "in"
    last = root / "high_visual_quality" / "a"
    _copy(media / BASE, last / "x_shot_001_000.mp4", seconds=SECONDS)
    _copy(media / BASE, last / "x_shot_001_001.mp4", Fraction(120, 1000), SECONDS)
    _copy(media / BASE, last / "y_000.mp4", Fraction(240, 1000), SECONDS)
    _copy(media / CUTS, last / "cuts.mp4")
    for number, path in enumerate(("av_synced_3.0/a/y_000.mp4", "av_synced_3.0/a/z_000.mp4", "resampled/a/x.mp4")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes((last / "y_000.mp4").read_bytes() + bytes([number]))
    (last / "x_shot_001_000_mel.pt").write_bytes(b"not opened")
    return build("latentsync", root)


@pytest.mark.media
def test_the_last_stage_of_latentsync_is_used_and_the_others_are_told(latentsync: Dataset):
    rows = _rows(latentsync.videos(["path", "outcome", "detail"]))
    assert {path: row["outcome"] for path, row in rows.items()} == {
        **{f"high_visual_quality/a/{n}.mp4": "ok" for n in ("x_shot_001_000", "x_shot_001_001", "y_000", "cuts")},
        "av_synced_3.0/a/y_000.mp4": "duplicate",
        "av_synced_3.0/a/z_000.mp4": "annotation_missing",
        "resampled/a/x.mp4": "annotation_missing",
    }
    clips = latentsync.clips(["annotation", "identity", "split"]).to_pylist()
    whose = {row["annotation"]: row["identity"] for row in clips}
    assert (whose["x_shot_001_000"], whose["x_shot_001_001"], whose["y_000"]) == ("a/x", "a/x", "a/y")
    assert len({row["split"] for row in clips if row["identity"] == "a/x"}) == 1


@pytest.mark.media
def test_a_prepared_crop_is_taken_whole_and_still_checked(latentsync: Dataset):
    clips = _rows(latentsync.clips(), "annotation")
    for name in ("x_shot_001_000", "x_shot_001_001", "y_000"):
        assert (clips[name]["verdict"], clips[name]["crop_policy"]) == ("kept", "whole")
        assert clips[name]["mouth_activity"] > 0.005
        assert clips[name]["audio_lead_frames"] is not None
    for clip in latentsync:
        assert (latentsync.read(clip, "crop") == [0, 0, 512, 512]).all()
    videos = _rows(latentsync.videos(["path", "cuts_s"]))
    assert len(videos["high_visual_quality/a/cuts.mp4"]["cuts_s"]) >= 1
    assert videos["high_visual_quality/a/x_shot_001_000.mp4"]["cuts_s"] == []
    assert latentsync.index.models == (), "no detector"


@pytest.mark.media
@pytest.mark.parametrize(("name", "delay_ms"), [("x_shot_001_001", 120), ("y_000", 240)])
def test_sound_that_latentsync_delayed_by_timestamps_is_put_there_and_told(latentsync, name, delay_ms):
    clips = _rows(latentsync.clips(["annotation", "clip_id", "padded_audio_s", "audio_shift_samples"]), "annotation")
    pcm = {c.clip_id: latentsync.read(c, "pcm").reshape(-1) for c in latentsync}
    on_time, late = (pcm[clips[n]["clip_id"]] for n in ("x_shot_001_000", name))
    shift, begins_ms = 16 * delay_ms, delay_ms - PRIMING_MS
    assert clips[name]["audio_shift_samples"] == 0
    assert clips[name]["padded_audio_s"] == pytest.approx(begins_ms / 1000, abs=0.001)
    assert (late[shift:] == on_time[:-shift]).all()
    assert (late[: 16 * begins_ms] == 0).all()
    videos = _rows(latentsync.videos(["path", "detail"]))
    told = videos[f"high_visual_quality/a/{name}.mp4"]["detail"]
    assert told == f"the sound's stream begins {begins_ms} ms late; repaired: placed by its timestamps"
    assert any(line.startswith("2 files: sound that timestamps begin late") for line in _warnings(latentsync))


def _warnings(dataset: Dataset) -> list[str]:
    return list(notes(dataset))


def test_only_late_sound_of_latentsync_is_told():
    late_note = get_source("latentsync").late_note
    assert late_note(Fraction(-1, 50)) is None
    assert late_note(None) is None
    assert get_source("folder").late_note(0.2) is None
    assert late_note(0.064) == "the sound's stream begins 64 ms late; repaired: placed by its timestamps"


def test_a_stage_of_latentsync_may_be_named_itself_and_a_tree_without_crops_is_refused(tmp_path: Path):
    for path in ("crops/b/1_000.mp4", "early/resampled/c.mp4", "early/shot/c_shot_001.mp4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    list_videos = get_source("latentsync").list_videos
    assert [(v.path, v.reason, v.identity) for v in list_videos(tmp_path / "crops")] == [("b/1_000.mp4", None, "b/1")]
    assert {video.reason for video in list_videos(tmp_path / "early")} == {"annotation_missing"}


def test_a_whole_picture_is_the_crop_whatever_the_box():
    boxes = np.array([[10, 20, 30, 40], [0, -9, 50, 60]], np.float32)
    crops = crop_boxes(boxes, None, CropConfig(policy="whole"), (256, 200))
    assert crops.tolist() == [[0, 0, 256, 200]] * 2


# --- HighSync


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return (Path.touch, (self._path,))


def _prepare(video_path: Path, root: Path, stem: str, num_frames: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Write what HighSync's two steps do of a video; return its pictures and samples."""
    video = probe(video_path)
    frames = decode.frames(video_path, video, end_frame=num_frames, config=DecodeConfig())
    pictures = np.stack([frame.rgb for frame in frames])
    (root / "images" / stem).mkdir(parents=True)
    for number, rgb in enumerate(pictures, start=1):
        cv2.imwrite(str(root / "images" / stem / f"{number:04d}.png"), rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    pcm = audio.read(video_path, video, start_frame=0, end_frame=num_frames)
    (root / "audios").mkdir(exist_ok=True)
    with wave.open(str(root / "audios" / f"{stem}.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.repeat(pcm, 2).astype("<i2").tobytes())
    return pictures, pcm


@pytest.mark.media
def test_highsync_pictures_and_sound_become_clips_without_another_encode(tmp_path: Path, media: Path):
    root, bomb = tmp_path / "in", tmp_path / "opened"
    pictures, pcm = _prepare(media / BASE, root, "0GRnvFxj8IU_C1")
    _copy(media / BASE, root / "videos" / "0GRnvFxj8IU_C2.mp4", seconds=SECONDS)
    (root / "images" / "0GRnvFxj8IU_C2").mkdir()
    (root / "images" / "0GRnvFxj8IU_C2" / "0001.png").touch()
    (root / "audios" / "AQEr_KL4DKc_C0.wav").touch()
    (root / "audio_emb_whisper").mkdir()
    (root / "audio_emb_whisper" / "0GRnvFxj8IU_C1.pt").write_bytes(pickle.dumps(_Bomb(bomb)))
    lists = {"train": ["gone_C9", "0GRnvFxj8IU_C2"], "val": ["0GRnvFxj8IU_C1"]}
    for split, stems in lists.items():
        entries = [{"image_path": f"/workspace/images/{stem}", "audio_emb": "../../x.pt"} for stem in stems]
        (root / f"vfhq_{split}.json").write_text(json.dumps([*entries, 7]))
    dataset = build("highsync", root)
    assert not bomb.exists()
    assert {path: row["outcome"] for path, row in _rows(dataset.videos(["path", "outcome"])).items()} == {
        "images/0GRnvFxj8IU_C1": "ok",
        "videos/0GRnvFxj8IU_C2.mp4": "ok",
        "images/0GRnvFxj8IU_C2": "duplicate",
        "images/AQEr_KL4DKc_C0": "unavailable",
        "images/gone_C9": "unavailable",
        "vfhq_train.json:entry 3": "annotation_unreadable",
        "vfhq_val.json:entry 2": "annotation_unreadable",
    }
    clips = dataset.clips(["clip_id", "path", "verdict", "split", "youtube_id", "identity", "num_frames"])
    [images, video] = clips.to_pylist()
    assert (images["path"], images["verdict"], images["num_frames"]) == ("images/0GRnvFxj8IU_C1", "kept", 90)
    assert (video["path"], video["verdict"], video["num_frames"]) == ("videos/0GRnvFxj8IU_C2.mp4", "kept", 93)
    assert images["identity"] == video["identity"] == images["youtube_id"] == "0GRnvFxj8IU"
    # The lists put one person into two splits: all of it is held out.
    assert images["split"] == video["split"] == "val"
    [clip] = [clip for clip in dataset if clip.clip_id == images["clip_id"]]
    assert (dataset.read(clip, "pcm").reshape(-1) == pcm).all()
    assert (dataset.read(clip, "crop") == [0, 0, 512, 512]).all()
    other = next(c for c in dataset if c.clip_id == video["clip_id"])
    assert np.abs(dataset.read(other, "latent")[:90].astype(float) - dataset.read(clip, "latent")).max() == 0
    folder = root / "images" / "0GRnvFxj8IU_C1"
    shown = decode.frames(folder, image_folder.probe(folder), config=DecodeConfig())
    assert all((frame.rgb == rgb).all() for frame, rgb in zip(shown, pictures, strict=True))


def _drawn(root: Path, numbers: list[int], size: int = 32) -> Path:
    folder = root / "images" / "x"
    folder.mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.full((size, size, 3), number, np.uint8))
    return folder


def test_a_picture_that_is_missing_or_damaged_shows_the_one_before(tmp_path: Path):
    folder = _drawn(tmp_path, [n for n in range(3, 43) if n not in (10, 11)])
    (folder / "0020.png").write_bytes(b"\x89PNG")
    (folder / "0030.png").write_bytes((folder / "0031.png").read_bytes())
    cv2.imwrite(str(folder / "0040.png"), np.zeros((16, 16, 3), np.uint8))
    video = image_folder.probe(folder)
    assert (video.num_frames, video.num_packets, video.width, video.fps, video.audio_codec) == (40, 38, 32, 25.0, None)
    stats = DecodeStats()
    shown = list(decode.frames(folder, video, config=DecodeConfig(), stats=stats, check=False))
    assert [frame.index for frame in shown if frame.is_stale] == [7, 8, 17, 37]
    expected = list(range(3, 43))
    for place, number in ((7, 9), (8, 9), (17, 19), (27, 31), (37, 39)):
        expected[place] = number
    assert [int(frame.rgb[0, 0, 0]) for frame in shown] == expected
    assert (stats.num_missing, stats.num_decoded) == (4, 36)
    later = decode.frames(folder, video, start_frame=8, end_frame=10, config=DecodeConfig(), check=False)
    assert [int(frame.rgb[0, 0, 0]) for frame in later] == [9, 12]
    with pytest.raises(MediaError, match="4 of 40 frames are missing"):
        list(decode.frames(folder, video, config=DecodeConfig()))


def test_a_folder_is_told_apart_by_all_of_its_files(tmp_path: Path):
    folder = _drawn(tmp_path, [1, 2, 3])
    before, stats = image_folder.sha256(folder), image_folder.facts(folder)
    (tmp_path / "audios").mkdir()
    (tmp_path / "audios" / "x.wav").write_bytes(b"RIFF")
    assert image_folder.sha256(folder) != before
    assert image_folder.facts(folder)[0] == stats[0] + 4
    (folder / "0001.png").write_bytes(b"")
    with pytest.raises(MediaError, match="the first picture cannot be read"):
        image_folder.probe(folder)


def test_a_damaged_list_is_told_and_the_clips_are_used(tmp_path: Path):
    _drawn(tmp_path, [1])
    (tmp_path / "a_val.json").write_text("[{")
    (tmp_path / "stray.mp4").touch()
    found = {video.path: video.reason for video in get_source("highsync").list_videos(tmp_path)}
    assert found == {"images/x": None, "a_val.json": "annotation_unreadable", "stray.mp4": "annotation_missing"}
