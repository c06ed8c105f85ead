"""The preset `highsync` end to end on real clips: every network runs, with weights of random numbers.

Random networks see no faces and hear no sound, so limits are open here; what is shown is that each network is loaded
from its published format, that what it makes reaches the dataset, and that the dataset is whole.
"""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.verify import verify
from hs_data.pipeline.latents import CropEncoder, LatentsConfig
from hs_data.pipeline.networks import codec_of, decoder_for

pytestmark = pytest.mark.slow

CLIPS = ("derived__dev_base.mp4", "derived__dev_off+120ms.mp4", "FuxiVirtualHuman__styletalk_Obama_clip1_muxed.mp4")
SECONDS = 1.3
OPEN = (
    *("sync_rules=never", "max_faces=99", "min_face_px=0", "max_yaw_deg=180", "max_pitch_deg=180", "min_clip_s=1"),
    *("max_outside_share=1", "max_height_ratio=99", "min_motion=0", "min_sharpness=0"),
)
SETTINGS = (
    *(f"select.{limit}" for limit in OPEN),
    *("faces.max_side_px=128", "faces.batch=3"),
    *("sync.min_confidence=0", "sync.max_residual_ms=1000"),
)


def _run(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "hs_data.cli", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("random_weights")
    script = Path(__file__).parents[1] / "fixtures" / "random_weights.py"
    subprocess.run([sys.executable, "-W", "ignore", script, folder], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def videos(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first seconds of three real clips, cut by copying packets."""
    folder = tmp_path_factory.mktemp("videos")
    for name in CLIPS:
        with av.open(str(media / name)) as source, av.open(str(folder / name), "w") as target:
            streams = [source.streams.video[0], source.streams.audio[0]]
            copies = {stream.index: target.add_stream_from_template(stream) for stream in streams}
            for packet in source.demux(streams):
                if packet.dts is not None and packet.dts * packet.time_base < SECONDS:
                    packet.stream = copies[packet.stream.index]
                    target.mux(packet)
    return folder


@pytest.fixture(scope="module")
def dataset(videos: Path, random_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    output = tmp_path_factory.mktemp("highsync") / "dataset"
    words = ["build", "--source", "folder", "--input", videos, "--output", output, "--preset", "highsync"]
    words += [word for setting in (f"models.dir={random_weights}", *SETTINGS) for word in ("--set", setting)]
    done = _run(*map(str, words), "--executor", "local", "--workers", "2")
    assert done.returncode == 0, done.stderr
    return open_dataset(output)


@pytest.mark.media
def test_every_file_gives_clips_and_the_dataset_is_whole(dataset: Dataset):
    videos = dataset.videos(["path", "outcome"]).to_pylist()
    assert [(row["path"], row["outcome"]) for row in videos] == [(name, "ok") for name in sorted(CLIPS)]
    assert {row["path"] for row in dataset.clips(["path", "verdict"]).to_pylist() if row["verdict"] == "kept"} == set(
        CLIPS
    )
    assert list(verify(dataset, decode=decoder_for(dataset), num_decoded=1)) == []


@pytest.mark.media
def test_what_each_network_made_is_stored(dataset: Dataset):
    clip = dataset.kept[0]
    shard = dataset.shard(clip.shard)
    assert shard.read(clip.row_group, "latent").shape == (clip.num_frames, 4, 64, 64)
    states = shard.read(clip.row_group, "whisper")
    assert states.shape == (clip.num_frames, 2, 5, 64)  # narrow: the real one is 384 wide
    assert np.isfinite(states).all()
    assert states.std() > 0
    assert shard.read(clip.row_group, "landmarks").shape == (clip.num_frames, 5, 2)
    rows = dataset.clips(["sync_trust", "sync_confidence", "sync_speech_s", "lse_c", "lse_d", "verdict"])
    for row in rows.filter(np.array([verdict == "kept" for verdict in rows["verdict"].to_pylist()])).to_pylist():
        assert row["sync_trust"] == "high"
        assert row["lse_c"] is not None
        assert row["lse_d"] > 0
    crops, encoder = np.zeros((1, 512, 512, 3), np.uint8), CropEncoder(LatentsConfig(), codec_of(dataset))
    for kept in dataset.kept:
        loss = encoder.round_trip(crops, dataset.read(kept, "latent", 0, 1))
        assert loss is not None
        assert np.isfinite(loss["psnr_db"])


@pytest.mark.media
def test_the_dataset_says_which_weights_made_it(dataset: Dataset, random_weights: Path):
    models = {model["name"]: model for model in dataset.index.models}
    assert set(models) == {"retinaface", "syncnet", "whisper-tiny", "sd-vae-ft-mse"}
    assert {model["licence"] for model in models.values()} == {"random numbers"}
    clip = dataset.kept[0]
    contract = dataset.shard(clip.shard).contract
    assert contract["latent"]["sha256"] == models["sd-vae-ft-mse"]["sha256"]
    assert contract["latent"]["scaling"] == 0.18215
    assert contract["audio"]["sha256"] == models["whisper-tiny"]["sha256"]


def test_without_weights_nothing_is_decoded_and_the_command_is_told(tmp_path: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"no video")
    words = ["build", "--source", "folder", "--input", tmp_path / "videos", "--output", tmp_path / "out"]
    done = _run(*map(str, words), "--preset", "highsync", "--set", f"models.dir={tmp_path}")
    assert done.returncode == 1
    assert "hs-data models fetch retinaface syncnet whisper-tiny sd-vae-ft-mse" in done.stderr
    assert not list((tmp_path / "out").rglob("*.json")) if (tmp_path / "out").exists() else True
