"""Films of samples while a network trains: what is in them, what they leave alone, and what stops them."""

import json
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import torch

from hs_data.manifests.schema import FRAME_COLUMNS, Column
from hs_data.pipeline.models.block_dct import BlockDct
from hs_data.trainer.checkpoint import find_checkpoint, read_weights
from hs_data.trainer.launch import launch
from hs_data.trainer.request import make_setup
from hs_data.trainer.sample_videos import SIDE_PX

NUM_FRAMES = 14
SETTINGS = (
    "run.steps=2", "run.batch_size=2", "run.device=cpu", "run.validate_every=0", "data.num_val_samples=2",
    "run.sample_steps=2", "run.sample_clips=2",
)  # fmt: skip


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(random_shards: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips to train on and three held out, that name a codec which needs no weights."""
    path = tmp_path_factory.mktemp("films") / "d"
    columns: dict[str, Column] = {name: FRAME_COLUMNS[name] for name in ("latent", "logmel", "pcm")}
    contract = {"latent": BlockDct.contract, "audio": {"id": "logmel"}, "frame_rate": 25}
    splits = ["train", "train", "val", "val", "val"]
    random_shards.write_dataset(path, [NUM_FRAMES] * 5, columns=columns, contract=contract, splits=splits)
    name_codec(path, "block_dct")
    return path


def name_codec(dataset: Path, backend: str) -> None:
    index = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    index["config"] = {"latents": {"backend": backend}}
    (dataset / "dataset.json").write_text(json.dumps(index), encoding="utf-8")


def train(dataset: Path, run: Path, *assignments: str) -> dict[str, torch.Tensor]:
    setup = make_setup(
        datasets=[str(dataset)],
        recipe="highsync-stage1",
        output=run,
        assignments=[*SETTINGS, *assignments],
        over={"model": {"size": "tiny"}},
    )
    launch(setup, "local", 1)
    return read_weights(find_checkpoint(run))


@pytest.fixture(scope="module")
def filmed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A run with a film after its second step."""
    run = tmp_path_factory.mktemp("runs") / "filmed"
    return run, train(dataset, run, "run.sample_every=2", "optim.ema_decay=0.5")


def test_a_film_shows_target_reference_and_sample_with_sound(filmed):
    films = sorted((filmed[0] / "samples").iterdir())
    assert [path.name for path in films] == ["step-00000002.mp4"]
    with av.open(str(films[0])) as film:
        pictures = [frame.to_ndarray(format="rgb24").astype(float) for frame in film.decode(video=0)]
    with av.open(str(films[0])) as film:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in film.decode(audio=0)])
    assert len(pictures) == 2 * NUM_FRAMES
    assert pictures[0].shape == (SIDE_PX, 3 * SIDE_PX, 3)
    assert len(sound) == pytest.approx(2 * NUM_FRAMES / 25 * 32_000, abs=2048)
    target, reference, sample = np.split(pictures[5], 3, axis=1)
    forehead, mouth = slice(0, SIDE_PX // 4), slice(SIDE_PX * 5 // 8, SIDE_PX * 7 // 8)
    middle = slice(SIDE_PX * 3 // 8, SIDE_PX * 5 // 8)
    # Above the mask the sample is the target but for the film's compression; inside, it is not.
    assert np.abs(target - sample)[forehead].mean() < 0.2 * np.abs(target - reference)[forehead].mean()
    assert np.abs(target - sample)[mouth, middle].mean() > 0.5 * np.abs(target - reference)[mouth, middle].mean()


def test_films_change_nothing_of_the_training(dataset, filmed, tmp_path):
    without = train(dataset, tmp_path / "run", "optim.ema_decay=0.5")
    assert all(torch.equal(without[name], value) for name, value in filmed[1].items())
    assert not (tmp_path / "run" / "samples").exists()


def test_without_the_codecs_weights_a_run_goes_on_and_says_so_once(dataset, tmp_path, caplog, monkeypatch):
    import shutil

    monkeypatch.setenv("HS_DATA_MODELS", str(tmp_path))
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    name_codec(copy, "sd_vae")
    with caplog.at_level("WARNING"):
        train(copy, tmp_path / "run", "run.sample_every=1")
    told = [record.message for record in caplog.records if "no films of samples" in record.message]
    assert len(told) == 1
    assert "models fetch" in told[0]
    assert not (tmp_path / "run" / "samples").exists()
