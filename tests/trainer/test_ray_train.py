"""Ray Train as the launcher: a worker that is killed costs the steps since its last checkpoint and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ray.train import WorkerGroupError

from hs_data.manifests.errors import ConfigError, HsDataError
from hs_data.trainer.checkpoint import checkpoints, find_checkpoint, read_state, read_tensors
from hs_data.trainer.launch import launch
from hs_data.trainer.metrics import read_metrics
from hs_data.trainer.request import make_setup

STEPS = 12


def workers() -> list[int]:
    """Return the processes in which Ray Train runs a training function."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"RayTrainWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue
    return found


def words(dataset: Path, run: Path, launcher: str) -> list[str]:
    settings = ["run.batch_size=2", f"run.steps={STEPS}", "run.save_every=2", "run.validate_every=0", "run.log_every=1"]
    settings += ["optim.ema_decay=0.9", "run.device=cpu"]
    command = ["train", str(dataset), "--recipe", "highsync-stage1", "--size", "tiny", "-o", str(run)]
    options = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "hs_data.cli", *command, "--launcher", launcher, *options]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_worker_is_started_again_and_ends_with_the_same_weights(random_dataset, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run, unbroken = tmp_path / "run", tmp_path / "unbroken"
    words_ray = words(random_dataset, Path("run"), "ray")  # below the folder of the command, as people write it
    done = subprocess.run(words(random_dataset, unbroken, "local"), env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    with subprocess.Popen(words_ray, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        while not checkpoints(run):
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.05)
        killed = workers()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        at = read_state(find_checkpoint(run)).step
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told.decode()
    assert len(killed) == 1
    assert at < STEPS, "it was over before it could be killed"
    one, other = (read_tensors(find_checkpoint(place)) for place in (run, unbroken))
    for part in ("model", "average", "optimizer"):
        left, right = getattr(one, part), getattr(other, part)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left), part
    assert [line.step for line in read_metrics(run)] == [line.step for line in read_metrics(unbroken)]


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(random_dataset, tmp_path):
    run = tmp_path / "run"
    command = [*words(random_dataset, run, "ray"), "--steps", "5000", "--set", "run.save_every=5000"]
    with subprocess.Popen(command, cwd=tmp_path, process_group=0, stderr=subprocess.PIPE, text=True) as process:
        while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=300)
    assert process.returncode == 130, told
    step = read_state(find_checkpoint(run)).step
    assert 0 < step < 5000
    assert f"stopped; saved up to step {step}; to go on: hs-data train" in told.splitlines()[-1]
    assert not (run / ".stop").exists()


def test_why_a_run_failed_is_told_and_not_where(random_dataset, tmp_path, monkeypatch):
    def fail(_trainer: object) -> None:
        raise WorkerGroupError("Traceback ...", {0: ConfigError("run.steps: cannot be used")})

    monkeypatch.setattr("hs_data.trainer.ray_launch.TorchTrainer.fit", fail)
    monkeypatch.setenv("RAY_ADDRESS", "a cluster that nobody asks")
    setup = make_setup(
        datasets=[str(random_dataset)],
        recipe="highsync-stage1",
        output=tmp_path / "run",
        assignments=["run.device=cpu"],
    )
    with pytest.raises(HsDataError, match=r"^run\.steps: cannot be used$"):
        launch(setup, "ray", 1)
