"""CLIP-IQA: the score is that of torchmetrics and of CLIP itself, from a local folder, and off it costs nothing."""

import importlib.util
import math
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, ModelError
from hs_data.pipeline.config import Config
from hs_data.pipeline.faces.detect import Detections, FacesConfig
from hs_data.pipeline.faces.quality import CLIP, QualityConfig
from hs_data.pipeline.faces.tracks import TracksConfig
from hs_data.pipeline.media.costs import Costs
from hs_data.pipeline.media.decode import Frame
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.networks import make_iqa, require_iqa
from hs_data.pipeline.scenes import ScenesConfig
from hs_data.pipeline.score.candidates import CandidateClip
from hs_data.pipeline.score.metrics.picture import measure_picture
from hs_data.pipeline.score.observer import VideoObserver

SIDE = 32
ON = QualityConfig(iqa="clip_iqa")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a tiny random CLIP of 63,000 numbers, whose tokens are single bytes."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    signs = [chr(code) for code in range(33, 127)]
    words = [*signs, *(f"{sign}</w>" for sign in signs), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    torch.manual_seed(0)
    text, vision = SMALL | ends | {"vocab_size": len(words)}, SMALL | {"image_size": SIDE, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    with torch.no_grad():
        # Good and bad come out alike, so that the softmax is not saturated.
        model.text_model.final_layer_norm.bias.add_(20)
        model.logit_scale.fill_(math.log(100))
    folder = tmp_path_factory.mktemp("models") / CLIP
    model.save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    CLIPProcessor(pictures, CLIPTokenizer(vocab=vocabulary, merges=[])).save_pretrained(folder)
    return folder.parent


def _faces(height: int, width: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 60 * n, (height, width, 3), dtype=np.uint8) for n in (1, 2, 3, 4)]


def _load(models: Path) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPProcessor

    return CLIPModel.from_pretrained(models / CLIP).eval(), CLIPProcessor.from_pretrained(models / CLIP)


def _scores(models: Path, faces: list[np.ndarray]) -> list[float]:
    network = make_iqa(ON, ModelsConfig(dir=str(models), device="cpu"))
    assert network is not None
    return [network.score(face) for face in faces]


@pytest.mark.parametrize(("height", "width"), [(SIDE, SIDE), (90, 61)], ids=["as_it_is", "resized"])
def test_the_score_is_that_of_torchmetrics(models: Path, height: int, width: int):
    from torchmetrics.functional import multimodal

    clip, processor = _load(models)
    for name in ("get_text_features", "get_image_features"):  # torchmetrics 1.9 was written for transformers 4
        features = getattr(clip, name)
        setattr(clip, name, lambda *args, features=features: features(*args).pooler_output)
    faces = _faces(height, width)
    images = torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2).float()
    assess: Any = multimodal.clip_image_quality_assessment  # takes a function too, which its type does not say
    expected = assess(images, lambda: (clip, processor)).tolist()
    found = _scores(models, faces)
    assert found == pytest.approx(expected, rel=1e-4)
    assert all(0.01 < score < 0.99 for score in found)
    assert len({round(score, 3) for score in found}) == 4


def test_the_score_is_that_of_clip_for_good_and_bad_photo(models: Path):
    clip, processor = _load(models)
    faces = _faces(SIDE, SIDE)
    given = processor(text=["Good photo.", "Bad photo."], images=faces, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = clip(**given).logits_per_image.softmax(-1)[:, 0].tolist()
    assert _scores(models, faces) == pytest.approx(expected, rel=1e-4)


def test_nothing_is_asked_of_the_network(models: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_args: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(_scores(models, _faces(SIDE, SIDE))) == 4


# --- what is missing


def test_off_it_loads_nothing():
    code = "import sys; from hs_data.pipeline.score.scorer import Scorer; from hs_data.pipeline.config import Config; "
    code += "Scorer(Config()); print({'transformers', 'torchmetrics'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert Config().quality.model_names == []
    assert make_iqa(QualityConfig(), ModelsConfig()) is None


def test_absent_packages_are_named_with_the_extra(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"^quality\.iqa: torchmetrics and transformers not installed; .*'\.\[iqa\]'$"
    ):
        require_iqa(ON, ModelsConfig(dir=str(models)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.safetensors", "clip-vit-base-patch16: not in .*; put clip-vit-base-patch16/model.safetensors there"),
        ("config.json", "no config.json; copy"),
        ("processor_config.json", "no preprocessor_config.json or processor_config.json; copy"),
        ("tokenizer.json", "no tokenizer.json or vocab.json; copy"),
    ],
)
def test_a_file_that_is_missing_is_told_before_anything_is_loaded(models: Path, tmp_path: Path, name: str, said: str):
    shutil.copytree(models / CLIP, tmp_path / CLIP)
    (tmp_path / CLIP / name).unlink()
    with pytest.raises(ModelError, match=said):
        require_iqa(ON, ModelsConfig(dir=str(tmp_path)))


def test_weights_that_lack_a_tensor_are_refused(models: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(models / CLIP, tmp_path / CLIP)
    path = tmp_path / CLIP / "model.safetensors"
    tensors = load_file(path)
    del tensors["visual_projection.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"no visual_projection\.weight"):
        make_iqa(ON, ModelsConfig(dir=str(tmp_path), device="cpu"))


def test_damaged_weights_are_refused(models: Path, tmp_path: Path):
    shutil.copytree(models / CLIP, tmp_path / CLIP)
    (tmp_path / CLIP / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="CLIP cannot be loaded"):
        make_iqa(ON, ModelsConfig(dir=str(tmp_path), device="cpu"))


# --- in a build


class _OneFace:
    has_landmarks = False

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        box = np.array([[40, 20, 120, 110]], np.float32)
        return [Detections(boxes=box, scores=np.ones(1, np.float32), landmarks=None) for _ in pictures]


class _Levels:
    """Rates a picture by its mean level, and keeps the shapes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def score(self, face: np.ndarray) -> float:
        self.shapes.append(face.shape)
        return float(face.mean()) / 255


def test_one_face_a_second_is_rated_and_a_clip_has_the_median():
    rater = _Levels()
    footage = VideoObserver(
        _OneFace(),
        scenes=ScenesConfig(),
        faces=FacesConfig(),
        tracks=TracksConfig(),
        costs=Costs(),
        iqa=rater,
    )
    pictures = (np.full((160, 200, 3), index // 2, np.uint8) for index in range(110))
    footage.watch((Frame(index=index, rgb=picture) for index, picture in enumerate(pictures)), 0)
    seen = footage.evidence[footage.tracks[0].number]
    levels = {0: 0, 25: 12, 50: 25, 75: 37, 100: 50}
    assert seen.ratings == pytest.approx({frame: level / 255 for frame, level in levels.items()})
    assert rater.shapes == [(133, 120, 3)] * 5, "the box and a quarter of it on each side, within the picture"
    piece = CandidateClip(start_frame=20, end_frame=80, start_kind="cut", end_kind="cut", track=footage.tracks[0])
    assert measure_picture(piece, seen)["iqa"] == pytest.approx(25 / 255)
    seen.ratings.clear()
    assert measure_picture(piece, seen)["iqa"] is None


def _build(demo_videos: Path, folder: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    (folder / "in").mkdir()
    shutil.copy2(demo_videos / "talker_a.mp4", folder / "in")
    words = ["build", "--source", "folder", "--input", str(folder / "in"), "--output", str(folder / "out")]
    words += ["--preset", "embedded", "--executor", "local", "--workers", "1"]
    words += [
        word for setting in ("quality.iqa=clip_iqa", "models.device=cpu", *settings) for word in ("--set", setting)
    ]
    return subprocess.run([sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=False)


def test_a_build_rates_its_clips_and_states_the_model(models: Path, demo_videos: Path, tmp_path: Path):
    done = _build(demo_videos, tmp_path, f"models.dir={models}", "select.min_iqa=0.000001")
    assert done.returncode == 0, done.stderr
    dataset = open_dataset(tmp_path / "out")
    rated = [row["iqa"] for row in dataset.clips(["iqa", "track"]).to_pylist() if row["track"] is not None]
    assert rated
    assert all(0 < value < 1 for value in rated)
    assert [model["name"] for model in dataset.index.models] == [CLIP]


def test_a_build_without_the_folder_stops_before_it_decodes(demo_videos: Path, tmp_path: Path):
    done = _build(demo_videos, tmp_path, f"models.dir={tmp_path}")
    assert done.returncode == 1
    assert f"put {CLIP}/model.safetensors there" in " ".join(done.stderr.split())
    assert list((tmp_path / "out").rglob("work/scores/*")) == []
