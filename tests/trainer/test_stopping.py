"""Runs that are asked to stop: Ctrl-C and SIGTERM save and say how to go on, a second Ctrl-C ends at once."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hs_data.manifests.errors import HsDataError
from hs_data.trainer.checkpoint import checkpoints, find_checkpoint, read_state
from hs_data.trainer.processes import run_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
SETTINGS = ("run.batch_size=2", "run.log_every=1", "run.validate_every=0", "data.num_val_samples=4", "run.device=cpu")


def command(dataset: Path, run: Path, *assignments: str, more: tuple[str, ...] = ()) -> list[str]:
    words = ["train", str(dataset), "--recipe", "highsync-stage1", "--size", "tiny", "-o", str(run), *more]
    settings = [word for each in (*SETTINGS, *assignments) for word in ("--set", each)]
    return [sys.executable, "-m", "hs_data.cli", *words, *settings]


@contextmanager
def started(words: list[str], run: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield a command in a process group of its own, as a shell starts it, once it has done a step."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}
    with subprocess.Popen(
        words, text=True, env=environment, process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while not (run / "metrics.jsonl").is_file() or not (run / "metrics.jsonl").read_text():
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.05)
            yield process
        finally:
            with_children = [process.pid, *children(process.pid)]
            for pid in with_children if process.poll() is None else []:
                os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    """Do what a terminal does: the signal goes to everybody of the group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize(
    ("number", "more"),
    [
        pytest.param(signal.SIGINT, (), id="ctrl-c"),
        pytest.param(signal.SIGTERM, (), id="sigterm"),
        pytest.param(signal.SIGINT, ("--nproc", "2"), id="ctrl-c of two", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, ("--nproc", "2"), id="sigterm of two", marks=pytest.mark.slow),
    ],
)
def test_asked_to_stop_it_saves_and_says_the_true_command(random_dataset, tmp_path, number, more):
    run = tmp_path / "my run"
    words = command(random_dataset, run, "run.steps=5000", "run.save_every=5000", more=more)
    with started(words, run) as process:
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=200)
    assert process.returncode == 130, told
    step = read_state(find_checkpoint(run)).step
    assert 0 < step < 5000
    assert "Traceback" not in told
    last = told.splitlines()[-1]
    assert f"{run}: stopped; saved up to step {step}; to go on: hs-data train" in last
    again = shlex.split(last.split("to go on: ")[1])
    assert again == ["hs-data", *words[3:], "--resume"]
    if number == signal.SIGTERM:
        return  # one way of going on is enough
    again = [sys.executable, "-m", "hs_data.cli", *again[1:], "--set", f"run.steps={step + 1}"]
    done = subprocess.run(again, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert read_state(find_checkpoint(run)).step == step + 1


@pytest.mark.slow
def test_under_torchrun_ctrl_c_saves_too(random_dataset, tmp_path):
    run = tmp_path / "run"
    ours = command(random_dataset, run, "run.steps=5000", "run.save_every=5000")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *ours[1:]]
    with started(words, run) as process:
        press_ctrl_c(process)
        _, told = process.communicate(timeout=200)
    step = read_state(find_checkpoint(run)).step
    assert 0 < step < 5000
    assert f"saved up to step {step}; to go on:" in told


@pytest.mark.slow
def test_a_second_ctrl_c_ends_two_processes_at_once_though_one_hangs(random_dataset, tmp_path):
    run = tmp_path / "run"
    words = command(
        random_dataset, run, "run.steps=5000", "run.save_every=2", "run.keep_last=9999", more=("--nproc", "2")
    )
    with started(words, run) as process:
        workers = children(process.pid)
        assert len(workers) == 2
        while not checkpoints(run):
            time.sleep(0.05)
        os.kill(workers[1], signal.SIGSTOP)
        press_ctrl_c(process)
        time.sleep(1)
        assert process.poll() is None, "the first one waits until all have saved"
        press_ctrl_c(process)
        _, told = process.communicate(timeout=60)  # the one that hangs would never have saved
    assert process.returncode == 130
    assert re.search(r"stopped; saved up to step \d*[02468]; to go on:", told.splitlines()[-1])
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


BUSY = """
import hashlib, sys, time
from pathlib import Path
from functools import partial
from hs_data.trainer.config import TrainConfig
from hs_data.trainer.train import end_at_once, say_that_it_stops
from hs_data.trainer.setup import TrainSetup
from hs_data.trainer.stopping import stop_requests

setup = TrainSetup(recipe="", config=TrainConfig(), options={}, run="run", go_on="COMMAND")
with stop_requests(Path("run"), say_that_it_stops, partial(end_at_once, setup)):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in one call of C
"""


def test_a_second_ctrl_c_ends_at_once_inside_a_long_call(tmp_path):
    words, pipe = [sys.executable, "-c", BUSY], subprocess.PIPE
    with subprocess.Popen(words, text=True, cwd=tmp_path, process_group=0, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        press_ctrl_c(process)
        press_ctrl_c(process)  # a launcher that passes on what the terminal has sent already
        time.sleep(1)
        assert process.poll() is None
        press_ctrl_c(process)
        began = time.monotonic()
        _, told = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert process.returncode == 130
    assert "Ctrl-C again ends at once" in told
    assert "nothing is saved yet; to go on: COMMAND" in told


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(random_dataset, tmp_path):
    run = tmp_path / "run"
    with started(command(random_dataset, run, "run.steps=5000", more=("--nproc", "2")), run) as process:
        workers = children(process.pid)
        process.kill()
        process.wait()
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/cmdline").exists() and _is_alive(pid) for pid in workers):
            assert time.monotonic() < end, "they go on without it"
            time.sleep(0.05)
    assert len(workers) == 2


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_why_one_of_two_processes_failed_is_one_line(random_dataset, tmp_path):
    run = tmp_path / "run"
    words = command(random_dataset, run, "run.steps=2", "run.save_every=1", more=("--nproc", "2"))
    run.mkdir()
    (run / "checkpoints").write_text("in the way")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert len(lines) == 1, done.stderr
    assert "cannot be saved (Not a directory)" in lines[0]


@pytest.mark.slow
def test_a_process_that_was_killed_is_told_with_its_signal(random_dataset, tmp_path):
    run = tmp_path / "run"
    with started(command(random_dataset, run, "run.steps=5000", more=("--nproc", "2")), run) as process:
        os.kill(children(process.pid)[1], signal.SIGKILL)
        _, told = process.communicate(timeout=200)
    assert process.returncode == 1
    assert re.search("process [01] of 2 ended by SIGKILL", told.splitlines()[-1])


def test_a_setup_that_cannot_be_read_ends_all_processes(tmp_path):
    with pytest.raises(HsDataError, match=r"process [01] of 2 ended with exit status 1"):
        run_processes(tmp_path, "no JSON", 2)


@pytest.mark.slow
def test_two_processes_go_on_from_the_same_checkpoint_though_the_newest_is_damaged(random_dataset, tmp_path):
    run = tmp_path / "run"
    words = command(random_dataset, run, "run.steps=4", "run.save_every=2", more=("--nproc", "2"))
    subprocess.run(words, check=True, capture_output=True, timeout=300)
    (run / "checkpoints" / "step-00000004" / "optimizer.safetensors").write_bytes(b"")
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "step-00000004/optimizer.safetensors: has 0 bytes instead of" in done.stderr
    assert "going on from the checkpoint of step 2" in done.stderr
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "step-00000002", "step-00000004", "step-00000004.damaged",
    ]  # fmt: skip
