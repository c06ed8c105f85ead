"""Another model is one folder: it trains, is judged, goes on, generates and ships by the paths of those that ship."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError
from hs_data.manifests.schema import FRAME_COLUMNS, Column
from hs_data.trainer import recipes
from hs_data.trainer.checkpoint import find_checkpoint, read_state
from hs_data.trainer.launch import launch
from hs_data.trainer.metrics import read_metrics
from hs_data.trainer.networks import load_network
from hs_data.trainer.publish import publish
from hs_data.trainer.recipes.recipe import SamplingConfig
from hs_data.trainer.recipes.registry import find_recipe, make_recipe, recipe_names
from hs_data.trainer.request import make_setup
from hs_data.trainer.sampling import generate_latents

FOLDER = Path(__file__).parents[1] / "fixtures" / "recipes"
TRAINER = Path(__file__).parents[2] / "trainer"
NUM_FRAMES = 12
NUM_STEPS = 6

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def pixelmlp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the folder of the fixtures lie beside those of `trainer/recipes`."""
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(FOLDER)])
    yield
    for name in [name for name in sys.modules if name.startswith(f"{recipes.__name__}.pixelmlp")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def dataset(random_shards: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips to train on and two held out."""
    path = tmp_path_factory.mktemp("another") / "d"
    columns: dict[str, Column] = {name: FRAME_COLUMNS[name] for name in ("latent", "logmel")}
    splits = ["train"] * 4 + ["val"] * 2
    contract = {**random_shards.CONTRACT, "audio": {"id": "logmel"}}
    random_shards.write_dataset(path, [NUM_FRAMES] * 6, columns=columns, contract=contract, splits=splits)
    return path


def train(dataset: Path, run: Path, steps: int, *, resume: bool = False) -> None:
    settings = [f"run.steps={steps}", "run.log_every=1", "run.device=cpu", "data.num_val_samples=4"]
    over = {"model": {"size": "tiny"}}
    setup = make_setup(
        datasets=[str(dataset)], recipe="pixelmlp", output=run, assignments=settings, over=over, resume=resume
    )
    launch(setup, "local", 1)


@pytest.mark.usefixtures("pixelmlp")
def test_a_folder_is_a_recipe_that_trains_and_generates(dataset: Path, tmp_path: Path):
    run = tmp_path / "run"
    train(dataset, run, NUM_STEPS - 2)
    train(dataset, run, NUM_STEPS, resume=True)
    lines = read_metrics(run)
    losses = [line.values["loss"] for line in lines if "loss" in line.values]
    assert len(losses) == NUM_STEPS
    assert losses[-1] < losses[0]
    assert np.isfinite(lines[-1].values["val_loss"])
    assert np.isfinite(lines[-1].values["val_gap"])

    checkpoint = find_checkpoint(run)
    recipe, network = load_network(checkpoint, read_state(checkpoint), torch.device("cpu"))
    assert {name: tuple(value.shape) for name, value in network.named_parameters()}["latent.weight"] == (6, 4)
    clip = open_dataset(dataset).split("val")[0]
    made = {
        (seed, frames): generate_latents(
            clip, recipe, recipe.make_sampler(network, SamplingConfig(steps=3, seed=seed)), frames
        )
        for seed, frames in ((0, None), (1, None), (0, 5))
    }
    assert made[0, None].shape == (NUM_FRAMES, *clip.latents().shape[1:])
    assert made[0, 5].shape[0] == 5
    assert np.isfinite(made[0, None]).all()
    assert np.abs(made[0, None] - made[1, None]).max() > 0.1

    (file,) = publish(run, to="plain", output=tmp_path / "out")
    assert file.name == f"plain-{NUM_STEPS}.safetensors"
    assert torch.equal(load_file(file)["out.weight"], network.state_dict()["out.weight"])
    with pytest.raises(ConfigError, match="pixelmlp has no such format"):
        publish(run, to="diffusers", output=tmp_path / "other")


def test_it_is_unknown_without_its_folder():
    assert "pixelmlp" not in recipe_names()
    with pytest.raises(ConfigError, match="--recipe pixelmlp: no such recipe"):
        make_recipe("pixelmlp", {})


# --- recipes of other packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with two entry points: a recipe, and something else."""
    info = tmp_path / "their_recipes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-recipes\nVersion: 1.0\n")
    points = "theirs = their_recipes:THEIRS\nnone = their_recipes:NONE\n"
    (info / "entry_points.txt").write_text(f"[hs_data.recipes]\n{points}")
    source = "from dataclasses import replace\nfrom hs_data.trainer.recipes.registry import find_recipe\n"
    source += "THEIRS = replace(find_recipe('highsync-stage1'), tiny={'run': {'batch_size': 3}})\nNONE = 1\n"
    (tmp_path / "their_recipes.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_recipes", raising=False)


@pytest.mark.usefixtures("package")
def test_a_package_brings_a_recipe():
    assert {"theirs", "none", "highsync-stage1"} <= set(recipe_names())
    assert find_recipe("theirs").tiny == {"run": {"batch_size": 3}}
    assert make_recipe("theirs", {"batch_size": 5}).batch_size == 5
    with pytest.raises(ConfigError, match=r"package their-recipes 1\.0: .*none = .* names no RecipeSpec"):
        find_recipe("none")


# --- what knows what


def test_the_trainer_names_no_recipe_of_its_own():
    """Preset and crop policy of the same name are the pipeline's, and no recipe."""
    found = []
    for path in sorted(TRAINER.rglob("*.py")):
        if "highsync" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = [getattr(node, "module", None), getattr(node, "id", None), getattr(node, "value", None)]
            words += [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            texts = [word.lower() for word in words if isinstance(word, str)]
            found += [(path.name, text) for text in texts if "highsync" in text and "--preset highsync" not in text]
    assert found == [("ablation.py", "highsync")]
