"""docs/extending.md: its examples are files that other tests build and train with."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.errors import ConfigError
from hs_data.manifests.settings import build
from hs_data.manifests.sources import find_source, get_source, sources
from hs_data.pipeline.config import Config
from hs_data.pipeline.faces.detect import FacesConfig
from hs_data.pipeline.models.registry import ModelsConfig
from hs_data.pipeline.networks import make_detector

ROOT = Path(__file__).parents[1]
PLUGIN = Path(__file__).parent / "fixtures" / "plugin"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```\w+\n# (\S+\.(?:py|toml))\n(.*?)^```$", PAGE, flags=re.M | re.S))
"""Blocks of code of the page that begin with the name of their file."""


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the package on the path as installing it would, here and for the commands that are called."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PLUGIN), os.environ.get("PYTHONPATH", "")]))


def hs_data(*words: str) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run([sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def studio(demo_videos: Path, tmp_path: Path) -> Path:
    """A tree of the example's source."""
    for name, copy in {"talker_a.mp4": "anna/hello.mp4", "too_short.mp4": "anna/test1.mp4"}.items():
        (tmp_path / "in" / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(demo_videos / name, tmp_path / "in" / copy)
    (tmp_path / "in" / "anna" / "hello.txt").write_text("hello there\n")
    return tmp_path / "in"


EXAMPLES = {
    **{path.name: path for path in sorted(PLUGIN.iterdir()) if path.is_file()},
    "face_score.py": ROOT / "pipeline" / "score" / "metrics" / "face_score.py",
    "recipe.py": PLUGIN.parent / "recipes" / "pixelmlp" / "recipe.py",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_page_are_files_that_run(name: str):
    assert BLOCKS[name] == EXAMPLES[name].read_text(encoding="utf-8")


def test_every_example_of_the_page_is_a_file():
    assert BLOCKS.keys() == {*EXAMPLES, "pyproject.toml"}


def test_the_entry_points_of_the_page_are_those_of_the_package():
    points = configparser.ConfigParser()
    points.read(PLUGIN / "hs_data_studio-1.0.dist-info" / "entry_points.txt")
    declared = tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"]
    assert declared == {group: dict(points[group]) for group in points.sections()}


def test_a_source_of_another_package_is_listed_and_read(installed, studio: Path):
    assert [row["name"] for row in json.loads(hs_data("sources", "--json"))][-1] == "studio"
    found = json.loads(hs_data("sources", "studio", "--input", str(studio), "--json"))
    assert (found["files"], found["spans"], found["people"], found["takes"], found["texts"]) == (1, 1, 1, 2, 1)
    assert found["refused"] == {"annotation_missing": 1}


def test_where_the_package_is_not_installed_its_names_are_not_known():
    assert "studio" not in sources()
    assert find_source("studio") is None
    with pytest.raises(ConfigError, match="no such source"):
        get_source("studio")
    with pytest.raises(ConfigError, match=r"faces\.backend: 'studio_chair' is not possible; choose one of haar, yunet"):
        build(Config, {"faces": {"backend": "studio_chair"}})


def test_a_source_and_a_detector_of_another_package_build(installed, studio: Path, tmp_path: Path):
    words = ["--source", "studio", "--input", str(studio), "--executor", "local", "--workers", "1"]
    hs_data("build", *words, "--output", str(tmp_path / "own"))
    dataset = open_dataset(tmp_path / "own")
    assert dataset.index.source == "studio"
    assert {(row["identity"], row["transcript"]) for row in _kept(dataset)} == {("anna", "hello there")}
    outcomes = {row["path"]: row["outcome"] for row in dataset.videos(["path", "outcome"]).to_pylist()}
    assert outcomes == {"anna/hello.mp4": "ok", "anna/test1.mp4": "annotation_missing"}

    hs_data("build", *words, "--output", str(tmp_path / "chair"), "--set", "faces.backend=studio_chair")
    dataset = open_dataset(tmp_path / "chair")
    (row,) = dataset.clips(["boxes", "width", "height"]).to_pylist()
    width, height = row["width"], row["height"]
    expected = np.array([0.3 * width, 0.15 * height, 0.7 * width, 0.7 * height], np.float32)
    boxes = np.asarray(row["boxes"], np.float32).reshape(-1, 4)
    assert len(boxes) > 100
    np.testing.assert_allclose(boxes, np.broadcast_to(expected, boxes.shape), atol=0.5)


def _kept(dataset: Dataset) -> list[dict]:
    return [r for r in dataset.clips(["identity", "transcript", "verdict"]).to_pylist() if r["verdict"] == "kept"]


def test_scores_belong_to_the_version_of_the_detectors_package(installed, monkeypatch: pytest.MonkeyPatch, tmp_path):
    config = build(Config, {"faces": {"backend": "studio_chair"}})
    shutil.copytree(PLUGIN, tmp_path / "newer")
    info = tmp_path / "newer" / "hs_data_studio-1.0.dist-info"
    info.joinpath("METADATA").write_text((info / "METADATA").read_text().replace("1.0", "1.1"))
    info.rename(info.with_name("hs_data_studio-1.1.dist-info"))
    before = config.score_fingerprint()
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(PLUGIN)])
    monkeypatch.syspath_prepend(str(tmp_path / "newer"))
    assert config.score_fingerprint() != before


def test_what_is_no_detector_and_no_source_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "void-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: void\nVersion: 2.0\n")
    points = "[hs_data.detectors]\nword = builtins:repr\nraising = json:dumps\n[hs_data.sources]\nvoid = json:dumps\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, said in {
        "word": "gives str, which has not `detect`",
        "raising": "fails .TypeError: .*FacesConfig",
    }.items():
        with pytest.raises(ConfigError, match=rf"package void 2\.0: .* {said}"):
            make_detector(build(FacesConfig, {"backend": name}), ModelsConfig())
    with pytest.raises(ConfigError, match=r"package void 2\.0: .* is function, not what `load_source` returns"):
        get_source("void")
