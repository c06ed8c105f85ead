"""Runs: the same weights however often they are killed and on however many processes; what is refused; what is told."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, DatasetError, HsDataError
from hs_data.trainer import preflight
from hs_data.trainer.checkpoint import checkpoints, find_checkpoint, read_state, read_tensors, read_weights
from hs_data.trainer.config import OptimConfig
from hs_data.trainer.launch import launch
from hs_data.trainer.metrics import read_metrics
from hs_data.trainer.optimizer import EMA, lr_scale
from hs_data.trainer.prepare import prepare
from hs_data.trainer.recipes.registry import make_recipe
from hs_data.trainer.request import make_setup
from hs_data.trainer.setup import TrainSetup
from hs_data.trainer.validation import Pair, interval, summarise
from hs_data.trainer.world import World

FAST = ("run.batch_size=2", "run.log_every=1", "run.save_every=2", "run.validate_every=0", "data.num_val_samples=4")
ALONE = World(rank=0, size=1, device=torch.device("cpu"))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(random_dataset: Path) -> Path:
    return random_dataset


def setup_of(dataset: Path, run: Path, *assignments: str, recipe: str = "highsync-stage1", **options) -> TrainSetup:
    return make_setup(
        datasets=[str(dataset)],
        recipe=recipe,
        output=run,
        assignments=[*FAST, "run.device=cpu", *assignments],
        over={"model": {"size": "tiny"}},
        **options,
    )


def command(dataset: Path, run: Path, *assignments: str, more: tuple[str, ...] = ()) -> list[str]:
    words = ["train", str(dataset), "--recipe", "highsync-stage1", "--size", "tiny", "-o", str(run), *more]
    settings = [word for each in (*FAST, "run.device=cpu", *assignments) for word in ("--set", each)]
    return [sys.executable, "-m", "hs_data.cli", *words, *settings]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return read_weights(find_checkpoint(run))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def unbroken(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps in one go."""
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    launch(setup_of(dataset, run, "run.steps=6", "optim.ema_decay=0.9"), "local", 1)
    return run


# --- going on


def test_killed_and_resumed_gives_the_same_bits(dataset, unbroken, tmp_path):
    run = tmp_path / "run"
    words = command(dataset, run, "run.steps=6", "optim.ema_decay=0.9")
    with subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not checkpoints(run):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert read_state(find_checkpoint(run)).step < 6, "it was over before it could be killed"
    done = subprocess.run([*words, "--resume"], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, other = (read_tensors(find_checkpoint(place)) for place in (run, unbroken))
    for part in ("model", "average", "optimizer"):
        assert same(getattr(one, part), getattr(other, part)), part
    assert [line.step for line in read_metrics(run)] == [line.step for line in read_metrics(unbroken)]


def test_two_processes_are_one_within_rounding(dataset, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    launch(setup_of(dataset, one, "run.steps=2", "run.save_every=1"), "local", 1)
    done = subprocess.run(
        command(dataset, two, "run.steps=2", "run.save_every=1", more=("--nproc", "2")),
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, theirs = weights_of(two), weights_of(one)
    first = [read_metrics(run)[0].values["grad_norm"] for run in (one, two)]
    assert first[0] == pytest.approx(first[1], rel=1e-5)
    means = [read_tensors(checkpoints(run)[0]).optimizer for run in (one, two)]
    for name in (name for name in means[0] if name.endswith("exp_avg")):
        gradients = [mean[name] / 0.1 for mean in means]  # after one step Adam's mean is a tenth of the gradient
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-6, msg=name)
    moved = max((ours[name] - theirs[name]).abs().max().item() for name in ours)
    assert moved < 1e-5


def test_a_second_stage_begins_with_the_first(dataset, unbroken, tmp_path, caplog):
    with caplog.at_level("INFO"):
        setup = setup_of(dataset, tmp_path / "two", recipe="highsync-stage2", init=(str(unbroken),))
        training = prepare(setup, ALONE)
    begun, wanted = training.network.state_dict(), weights_of(unbroken)
    assert all(torch.equal(begun[name], value) for name, value in wanted.items())
    assert set(begun) - set(wanted) == {name for name in begun if "motion_modules" in name}
    assert "tensors loaded" in caplog.text
    trained = set(training.parameters)
    assert all("motion_modules" in name or "attn2" in name or "norm2" in name for name in trained)


# --- what is refused


def test_an_average_may_begin_where_a_run_goes_on(dataset, tmp_path):
    run = tmp_path / "run"
    launch(setup_of(dataset, run, "run.steps=2"), "local", 1)
    launch(setup_of(dataset, run, "run.steps=4", "optim.ema_decay=0.999", resume=True), "local", 1)
    tensors = read_tensors(find_checkpoint(run))
    assert tensors.average
    for name, average in tensors.average.items():
        torch.testing.assert_close(average, tensors.model[name], rtol=0, atol=1e-2, msg=name)


def test_a_checkpoint_says_what_its_steps_were_done_with(dataset, tmp_path):
    run = tmp_path / "run"
    launch(setup_of(dataset, run, "run.steps=2"), "local", 1)
    for change in ("model.masked_motion=false", "recipe.num_timesteps=500"):
        with pytest.raises(ConfigError, match=f"was begun with {change.split('=')[0]}="):
            launch(setup_of(dataset, run, "run.steps=4", change, resume=True), "local", 1)
    launch(setup_of(dataset, run, "run.steps=4", "optim.max_grad_norm=0.5", resume=True), "local", 1)
    state = read_state(find_checkpoint(run))
    assert (state.step, state.config["optim"]["max_grad_norm"]) == (4, 0.5)


def test_what_does_not_fit_is_refused(dataset, unbroken, tmp_path):
    with pytest.raises(ConfigError, match="holds a run at step 6; add --resume"):
        launch(setup_of(dataset, unbroken), "local", 1)
    with pytest.raises(ConfigError, match="was begun with --recipe highsync-stage1"):
        prepare(setup_of(dataset, unbroken, recipe="highsync-stage2", resume=True), ALONE)
    with pytest.raises(ConfigError, match=r"run\.batch_size=2"):
        prepare(setup_of(dataset, unbroken, "run.batch_size=4", resume=True), ALONE)
    with pytest.raises(DatasetError, match="--allow-other-data"):
        prepare(setup_of(dataset, unbroken, "run.seed=9", resume=True), ALONE)
    training = prepare(setup_of(dataset, unbroken, "run.seed=9", resume=True, other_data=True), ALONE)
    assert training.state.step == 6
    with pytest.raises(ConfigError, match="--init"):
        prepare(setup_of(dataset, tmp_path / "x", init=(str(tmp_path),)), ALONE)


def test_a_shard_that_was_cut_short_is_found_before_the_first_step(dataset, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    shard = copy / open_dataset(copy).index.shards[0].path
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="bytes instead of"):
        setup_of(copy, tmp_path / "run")
    shard.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        setup_of(copy, tmp_path / "run")


def test_steps_that_are_not_finite_are_skipped_and_named(dataset, tmp_path, caplog):
    training = prepare(setup_of(dataset, tmp_path / "run", "run.max_non_finite=3"), ALONE)
    batch = training.samples.batch(0, 2)
    before = {name: value.detach().clone() for name, value in training.parameters.items()}
    bad = batch.replace(latent=batch["latent"] * torch.tensor([1.0, float("nan")])[:, None, None, None, None])
    with caplog.at_level("WARNING"):
        training.learn(bad)
    assert training.samples.clip_id(1) in caplog.text
    assert training.samples.clip_id(0) not in caplog.text
    assert training.state.num_skipped == 1
    assert all(torch.equal(value, before[name]) for name, value in training.parameters.items())
    training.learn(bad)
    with pytest.raises(HsDataError, match="3 steps in a row"):
        training.learn(bad)


# --- what is told and kept


def test_metrics_and_state_say_what_happened(dataset, unbroken):
    lines = read_metrics(unbroken)
    steps = [line for line in lines if "loss" in line.values]
    assert [line.step for line in steps] == [1, 2, 3, 4, 5, 6]
    for name in ("grad_norm", "lr", "s_per_step", "samples_per_s"):
        assert all(line.values[name] > 0 for line in steps), name
    assert all(0 <= line.values["data_wait_share"] < 1 for line in steps)
    judged = [line for line in lines if "val_loss" in line.values]
    assert [line.step for line in judged] == [6]
    values = judged[0].values
    assert values["val_gap_low"] <= values["val_gap"] <= values["val_gap_high"]
    state = json.loads((find_checkpoint(unbroken) / "state.json").read_text(encoding="utf-8"))
    assert state["step"] == 6
    opened = open_dataset(dataset)
    assert state["contract"] == opened.shard(opened.kept[0].shard).contract
    assert state["audio_width"] == 80


def test_only_the_last_checkpoints_and_every_nth_are_kept(dataset, tmp_path):
    run = tmp_path / "run"
    launch(setup_of(dataset, run, "run.steps=5", "run.save_every=1", "run.keep_last=2", "run.keep_every=3"), "local", 1)
    assert [path.name[-1] for path in checkpoints(run)] == ["3", "4", "5"]
    assert not list((run / "checkpoints").glob(".*"))


def test_a_trial_tells_what_a_run_takes_and_leaves_nothing(dataset, tmp_path):
    run = tmp_path / "run"
    trial = preflight.try_out(setup_of(dataset, run, "run.steps=3600"))
    assert not run.exists()
    assert trial.trained_parameters == trial.parameters
    assert trial.hours == pytest.approx(trial.s_per_step)
    assert (trial.clips, trial.held_out_clips) == (5, 3)
    # weights and two moments of each
    assert trial.checkpoint_gb == pytest.approx(3 * 4 * trial.parameters / 1e9, rel=0.05)
    assert trial.refused is None


def test_samples_can_be_learnt_by_heart(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "OVERFIT_SAMPLES", 4)
    monkeypatch.setattr(preflight, "OVERFIT_STEPS", 40)
    assert preflight.overfit(setup_of(dataset, tmp_path / "run")).loss_after < 0.7
    with pytest.raises(HsDataError, match="--overfit"):
        preflight.overfit(setup_of(dataset, tmp_path / "run", "optim.learning_rate=1e-9"))


# --- parts


def test_learning_rates_rise_and_fall():
    recipe = make_recipe("highsync-stage1", {})
    config = OptimConfig(warmup_steps=10, schedule="cosine")
    shares = [lr_scale(step, 110, config, recipe) for step in (0, 9, 10, 60, 110)]
    assert shares == pytest.approx([0.1, 1, 1, 0.5, 0], abs=1e-9)
    assert lr_scale(60, 110, replace(config, schedule="linear"), recipe) == pytest.approx(0.5)
    assert lr_scale(49, 10_000, OptimConfig(), recipe) == pytest.approx(0.5)  # the recipe's own 100 steps


def test_an_average_follows_and_can_be_swapped_in():
    value = torch.nn.Parameter(torch.zeros(3))
    average = EMA({"a": value}, 0.5)
    with torch.no_grad():
        value.fill_(1.0)
    average.update(100)
    assert average.tensors["a"].tolist() == [0.5] * 3
    average.swap()
    assert value.tolist() == [0.5] * 3
    average.swap()
    assert value.tolist() == [1.0] * 3


def test_gaps_are_of_clips_and_not_of_samples():
    pairs = [
        Pair(clip_id="a", level=0, own=1.0, swapped=2.0),
        Pair(clip_id="a", level=0, own=1.0, swapped=2.0),
        Pair(clip_id="b", level=1, own=1.0, swapped=4.0),
        Pair(clip_id="c", level=1, own=1.0, swapped=None),
    ]
    found = summarise(pairs)
    assert found.gap is not None
    assert found.gap.mean == 2.0
    assert found.gap_by_level == {0: 1.0, 1: 3.0}
    assert interval([1.0]) is None
    numbers = interval([1.0, 2.0, 3.0])
    assert numbers is not None
    assert numbers.high - numbers.mean == pytest.approx(4.303 * np.sqrt(1 / 3), rel=1e-3)
