"""Train the tiny HighSync, kill it at random moments, and compare with a run that was never stopped, byte by byte."""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # sums of floats depend on the number of threads

import torch

from hs_data.trainer.checkpoint import WHOLE, checkpoints, step_of
from hs_data.trainer.launch import launch
from hs_data.trainer.metrics import read_metrics
from hs_data.trainer.request import make_setup

SHARE_WHILE_SAVING = 0.4
"""Of the kills, those that wait for a checkpoint to be written; a random moment seldom hits one."""
FORK = multiprocessing.get_context("fork")
"""A forked process has imported everything already, so that kills hit the training and not the imports."""


def train(dataset: Path, run: Path, steps: int, save_every: int) -> None:
    torch.set_num_threads(1)
    settings = ["run.validate_every=0", "run.log_every=1", "run.batch_size=2", "optim.ema_decay=0.99"]
    settings += [f"run.steps={steps}", f"run.save_every={save_every}", "run.device=cpu"]
    setup = make_setup(
        datasets=[str(dataset)],
        recipe="highsync-stage1",
        output=run,
        assignments=settings,
        over={"model": {"size": "tiny"}},
        resume=True,
    )
    launch(setup, "local", 1)


def newest(run: Path) -> int:
    found = checkpoints(run)
    return step_of(found[-1]) if found else 0


def last_logged(run: Path) -> int:
    lines = read_metrics(run) if (run / "metrics.jsonl").is_file() else []
    return lines[-1].step if lines else 0


def is_saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".step-*.tmp"))


def wait_until(process: BaseProcess, true: Callable[[], bool]) -> None:
    while process.is_alive() and not true():
        time.sleep(0.001)


def kill_once(process: BaseProcess, run: Path, chance: random.Random, longest_s: float) -> str | None:
    """Kill a run; return what it was doing, or None where it was done before."""
    if chance.random() < SHARE_WHILE_SAVING:
        before = newest(run)
        wait_until(process, lambda: newest(run) > before)
        wait_until(process, lambda: is_saving(run))
        time.sleep(chance.uniform(0, 0.02))  # somewhere between the first byte and the new name
    else:
        until = time.monotonic() + chance.uniform(0, longest_s)
        wait_until(process, lambda: time.monotonic() > until)
    stood, alive = newest(run), process.is_alive()
    process.kill()
    process.join()
    if not alive:
        return None
    if is_saving(run):
        return "saving"
    return "training" if last_logged(run) > stood else "loading"


def differences(one: Path, other: Path, steps: int) -> list[str]:
    """Return what two runs differ in: files of the last checkpoint, or losses."""
    places = [run / "checkpoints" / f"step-{steps:08}" for run in (one, other)]
    names = [*WHOLE, "state.json"]
    found = [name for name in names if (places[0] / name).read_bytes() != (places[1] / name).read_bytes()]
    losses = [
        [(line.step, line.values["loss"]) for line in read_metrics(run) if "loss" in line.values]
        for run in (one, other)
    ]
    return found + (["losses"] if losses[0] != losses[1] else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="such as the demo: hs-data build --source demo --output demo")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--save-every", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)

    def start(run: Path) -> BaseProcess:
        process = FORK.Process(target=train, args=(options.dataset, run, options.steps, options.save_every))
        process.start()
        return process

    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "straight"
        began = time.monotonic()
        start(straight).join()
        longest_s = (time.monotonic() - began) / 4
        killed: Counter[str] = Counter()
        found, rounds = [], 0
        while killed.total() < options.kills:  # a run that is done before the last kill is compared, and another begun
            rounds += 1
            broken = Path(folder) / f"broken{rounds}"
            while killed.total() < options.kills and newest(broken) < options.steps:
                if (doing := kill_once(start(broken), broken, chance, longest_s)) is not None:
                    killed[doing] += 1
            start(broken).join()
            found += differences(straight, broken, options.steps)
        print(json.dumps({"steps": options.steps, "runs": rounds, "kills": killed, "differ": found}))
        sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
