"""Checkpoints that were damaged, disks that are full, weights that are none: one line, and nothing is lost."""

import io
import json
import random
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from hs_data.manifests.errors import ConfigError, DatasetError, HsDataError
from hs_data.manifests.schema import Column
from hs_data.manifests.storage import digest, sha256_file
from hs_data.trainer.checkpoint import checkpoints, find_checkpoint, read_state, read_tensors, read_weights
from hs_data.trainer.launch import Launcher, launch
from hs_data.trainer.networks import load_network
from hs_data.trainer.prepare import prepare
from hs_data.trainer.publish import publish
from hs_data.trainer.recipes.registry import make_recipe
from hs_data.trainer.request import make_setup
from hs_data.trainer.setup import TrainSetup
from hs_data.trainer.world import World

FAST = ("run.batch_size=2", "run.log_every=1", "run.save_every=2", "run.validate_every=0", "data.num_val_samples=4")
ALONE = World(rank=0, size=1, device=torch.device("cpu"))
MODEL, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(random_dataset: Path) -> Path:
    return random_dataset


def setup_of(dataset: Path, run: Path, *assignments: str, size: str = "tiny", **options) -> TrainSetup:
    return make_setup(
        datasets=[str(dataset)],
        recipe="highsync-stage1",
        output=run,
        assignments=[*FAST, "run.device=cpu", "optim.ema_decay=0.9", *assignments],
        over={"model": {"size": size}},
        **options,
    )


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps in one go; its checkpoints are of steps 2, 4 and 6."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    launch(setup_of(dataset, run, "run.steps=6"), "local", 1)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(trained, tmp_path / "run")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(b'"step": 6') + 8 if path.suffix == ".json" else len(content) - 5
    content[place] ^= 1
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [(name, damage) for name in (MODEL, AVERAGE, OPTIMIZER, STATE) for damage in (cut, flip, remove)]


# --- damage


@pytest.mark.parametrize(("name", "damage"), DAMAGES, ids=lambda value: getattr(value, "__name__", value))
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_gone_on_from(dataset, run, caplog, name, damage):
    damage(run / "checkpoints" / "step-00000006" / name)
    with caplog.at_level("WARNING"):
        training = prepare(setup_of(dataset, run, "run.steps=8", resume=True), ALONE)
    assert training.state.step == 4
    assert f"step-00000006/{name}" in caplog.text
    assert "checkpoint of step 4" in caplog.text
    assert [path.name for path in checkpoints(run)] == ["step-00000002", "step-00000004"]


def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_bytes(dataset, trained, run):
    cut(run / "checkpoints" / "step-00000006" / MODEL)
    flip(run / "checkpoints" / "step-00000004" / OPTIMIZER)
    launch(setup_of(dataset, run, "run.steps=6", "run.keep_last=1", resume=True), "local", 1)
    assert [path.name for path in checkpoints(run)] == ["step-00000006"]
    for name in (MODEL, AVERAGE, OPTIMIZER):
        ours, theirs = (place / "checkpoints" / "step-00000006" / name for place in (run, trained))
        assert ours.read_bytes() == theirs.read_bytes(), name


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(dataset, run):
    for path in checkpoints(run):
        cut(path / MODEL)
    with pytest.raises(
        DatasetError, match=r"step-00000006/model\.safetensors: has \d+ bytes.* no checkpoint before it"
    ):
        prepare(setup_of(dataset, run, resume=True), ALONE)
    assert len(checkpoints(run)) == 3


def test_a_checkpoint_knows_the_hash_of_each_of_its_files(trained):
    place = find_checkpoint(trained)
    files = json.loads((place / STATE).read_text())["files"]
    assert set(files) == {MODEL, AVERAGE, OPTIMIZER}
    for name, facts in files.items():
        assert facts == {"bytes": (place / name).stat().st_size, "sha256": sha256_file(place / name)}


@pytest.mark.parametrize("gone", [("files", "sha256", "schema_version"), ("schema_version",)], ids=["1", "1-hashed"])
def test_a_checkpoint_of_another_version_is_refused_in_one_line(dataset, run, gone):
    state = run / "checkpoints" / "step-00000006" / STATE
    table = json.loads(state.read_text())
    assert table["schema_version"] == 2
    table = {name: value for name, value in table.items() if name not in gone}
    if "sha256" in table:
        del table["sha256"]
        table["sha256"] = digest(table)
    state.write_text(json.dumps(table))
    line = (
        r"^.*step-00000006/state\.json: was written by another version of hs-data .schema 1, this one has 2.; train.*$"
    )
    for attempt in (
        lambda: prepare(setup_of(dataset, run, resume=True), ALONE),
        lambda: find_checkpoint(run),
        lambda: read_state(state.parent),
    ):
        with pytest.raises(DatasetError, match=line):
            attempt()
    assert len(checkpoints(run)) == 3  # none is set aside as damaged


def test_who_wants_the_weights_reads_no_optimizer(dataset, run, tmp_path):
    remove(run / "checkpoints" / "step-00000006" / STATE)
    place = run / "checkpoints" / "step-00000004"
    wanted = read_weights(place)
    cut(place / OPTIMIZER)
    for word in (str(run), str(place)):
        begun = prepare(setup_of(dataset, tmp_path / "two", init=(word,)), ALONE).network.state_dict()
        assert all(torch.equal(begun[name], value) for name, value in wanted.items())
    _, network = load_network(find_checkpoint(run), read_state(place), ALONE.device)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in wanted.items())
    assert publish(run, to="highsync", output=tmp_path / "published")[0].name == "denoising_unet-4.safetensors"
    assert (run / "checkpoints" / "step-00000006").is_dir()  # who reads renames nothing


def test_what_is_written_is_what_safetensors_reads(tmp_path):
    from hs_data.trainer.tensor_files import DTYPES, write_tensors

    tensors = {f"{dtype}": torch.arange(3).to(dtype) for dtype in DTYPES}
    tensors |= {"scalar": torch.tensor(7.0), "none": torch.zeros(0, 3), "turned": torch.rand(4, 3).T}
    facts = write_tensors(tmp_path / "a.safetensors", tensors)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name
    assert facts.sha256 == sha256_file(tmp_path / "a.safetensors")


# --- a full disk


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    """Let every write fail that makes a file longer, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_while_saving_is_one_line_and_keeps_the_older_ones(dataset, run):
    before = {path.name: read_tensors(path) for path in checkpoints(run)}
    setup = setup_of(dataset, run, "run.steps=80", "run.save_every=8", resume=True)
    with no_file_above(1 << 20), pytest.raises(HsDataError) as told:
        launch(setup, "local", 1)
    assert "\n" not in str(told.value)
    assert "checkpoints/step-00000008: cannot be saved (File too large)" in str(told.value)
    assert "--resume" in str(told.value)
    assert {path.name for path in checkpoints(run)} == set(before)
    assert not list((run / "checkpoints").glob(".*"))
    for path in checkpoints(run):
        assert all(
            torch.equal(value, before[path.name].model[name]) for name, value in read_tensors(path).model.items()
        )
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert 8 <= max(steps) < 30, "it went on for long without being able to save"
    launch(setup_of(dataset, run, "run.steps=8", resume=True), "local", 1)
    assert read_state(find_checkpoint(run)).step == 8


def test_a_disk_that_is_full_for_the_log_is_one_line_and_keeps_its_lines(dataset, run):
    log = run / "metrics.jsonl"
    before = log.read_text()
    with no_file_above(len(before) + 100), pytest.raises(HsDataError, match=r"metrics\.jsonl: cannot be written"):
        launch(setup_of(dataset, run, "run.steps=8", resume=True), "local", 1)
    assert log.read_text().startswith(before)


# --- weights to begin with


def junk(kind: str) -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(100)}, file)
    chance = random.Random(int(kind)) if kind.isdigit() else None
    if chance is not None:
        return chance.randbytes(chance.randrange(1, 500))
    return {"empty": b"", "words": b"hello world\n", "cut": file.getvalue()[:-200], "zip": file.getvalue()[:300]}[kind]


@pytest.mark.parametrize("kind", ["empty", "words", "cut", "zip", *map(str, range(30))])
@pytest.mark.parametrize("name", ["junk.pt", "junk.safetensors"])
def test_junk_to_begin_with_is_one_line(tmp_path, kind, name):
    from hs_data.trainer.weight_files import load_file_weights

    (tmp_path / name).write_bytes(junk(kind))
    with pytest.raises(ConfigError) as told:
        load_file_weights(torch.nn.Linear(2, 2), str(tmp_path / name), make_recipe("highsync-stage1", {}))
    assert "\n" not in str(told.value)
    assert f"{name}: cannot be read as weights" in str(told.value)
    assert "weights_only" not in str(told.value)


@pytest.fixture(scope="module")
def other_latents(random_shards: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    def make(name: str) -> Path:
        path = tmp_path_factory.mktemp("latents") / "dataset"
        columns = {"latent": Column(dtype="<f2", shape=(4, 64, 64)), "logmel": Column(dtype="<f2", shape=(4, 80))}
        contract = {"latent": {"id": name, "channels": 4, "size": 64}, "audio": {"id": "logmel"}, "frame_rate": 25}
        random_shards.write_dataset(path, [40] * 2, columns=columns, contract=contract, splits=["train", "val"])
        return path

    return make


def test_weights_that_have_learnt_other_latents_are_refused(other_latents, trained, tmp_path, monkeypatch):
    vae, distilled, blocks = map(other_latents, ("stabilityai/sd-vae-ft-mse", "madebyollin/taesd", "hs-data/block-dct"))
    first = tmp_path / "first"
    launch(setup_of(vae, first, "run.steps=1"), "local", 1)
    prepare(setup_of(distilled, tmp_path / "x", init=(str(first),)), ALONE)  # the same space
    setup = setup_of(blocks, tmp_path / "x", init=(str(first),))
    monkeypatch.setattr("hs_data.trainer.prepare.make_network", lambda *_, **__: pytest.fail("a network was built"))
    with pytest.raises(ConfigError, match="has learnt latents of stabilityai/sd-vae-ft-mse, and the dataset has"):
        prepare(setup, ALONE)
    with pytest.raises(ConfigError, match="--size full: the dataset has latents of hs-data/block-dct"):
        prepare(setup_of(blocks, tmp_path / "x", size="full"), ALONE)
    monkeypatch.undo()
    prepare(replace(setup, other_data=True), ALONE)


# --- told before the network is built


@pytest.fixture
def no_network(monkeypatch) -> None:
    monkeypatch.setattr("hs_data.trainer.prepare.make_network", lambda *_, **__: pytest.fail("a network was built"))
    monkeypatch.setattr("hs_data.trainer.prepare.open_samples", lambda *_, **__: pytest.fail("data were opened"))


@pytest.mark.parametrize("launcher", get_args(Launcher))
@pytest.mark.usefixtures("no_network")
def test_a_batch_that_cannot_be_divided_is_told_with_its_setting(dataset, tmp_path, launcher):
    with pytest.raises(ConfigError, match=r"^run\.batch_size=2: cannot be divided among 3 processes"):
        launch(setup_of(dataset, tmp_path / "run"), launcher, 3)


@pytest.mark.usefixtures("no_network")
def test_more_processes_than_gpus_are_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    setup = setup_of(dataset, tmp_path / "run")
    setup = replace(setup, config=replace(setup.config, run=replace(setup.config.run, device="cuda")))
    with pytest.raises(ConfigError, match=r"^--nproc 2: this machine has 1 GPUs"):
        launch(setup, "local", 2)


@pytest.mark.usefixtures("no_network")
def test_fewer_steps_than_are_done_are_refused(dataset, run):
    with pytest.raises(ConfigError, match=r"^run\.steps=5: .* stands at step 6 already"):
        prepare(setup_of(dataset, run, "run.steps=5", resume=True), ALONE)
