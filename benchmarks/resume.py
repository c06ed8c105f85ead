"""Train the tiny HighSync, kill it at random moments, and compare with a run that was never stopped, byte by byte."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hs_data.trainer.checkpoint import WHOLE, checkpoints, step_of
from hs_data.trainer.metrics import read_metrics

SHARE_WHILE_SAVING = 0.4
"""Of the kills, those that wait for a checkpoint to be written; a random moment seldom hits one."""


def command(dataset: Path, run: Path, steps: int, save_every: int) -> list[str]:
    words = ["train", str(dataset), "--recipe", "highsync-stage1", "--size", "tiny", "--steps", str(steps), "--resume"]
    settings = [f"run.save_every={save_every}", "run.validate_every=0", "run.log_every=1", "run.batch_size=2"]
    settings += ["optim.ema_decay=0.99", "run.device=cpu"]
    options = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "hs_data.cli", *words, "-o", str(run), *options]


def start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def newest(run: Path) -> int:
    found = checkpoints(run)
    return step_of(found[-1]) if found else 0


def is_saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".step-*.tmp"))


def wait_until(process: subprocess.Popen[bytes], true: Callable[[], bool]) -> bool:
    while process.poll() is None:
        if true():
            return True
        time.sleep(0.001)
    return False


def kill_once(words: list[str], run: Path, chance: random.Random, longest_s: float) -> str | None:
    """Start a run and kill it; return what it was doing, or None where it was done before."""
    process = start(words)
    began = time.monotonic()
    if chance.random() < SHARE_WHILE_SAVING:
        before = newest(run)
        if wait_until(process, lambda: newest(run) > before):
            wait_until(process, lambda: is_saving(run))
            time.sleep(chance.uniform(0, 0.02))  # somewhere between the first byte and the new name
    else:
        until = began + chance.uniform(0.3, longest_s)
        wait_until(process, lambda: time.monotonic() > until)
    if process.poll() is not None:
        return None
    stood = newest(run)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if is_saving(run):
        return "saving"
    logged = read_metrics(run)[-1]["step"] if (run / "metrics.jsonl").is_file() and read_metrics(run) else 0
    return "training" if logged > stood else "loading"


def differences(one: Path, other: Path, steps: int) -> list[str]:
    """Return what two runs differ in: files of the last checkpoint, or losses."""
    places = [run / "checkpoints" / f"step-{steps:08}" for run in (one, other)]
    names = [*WHOLE, "state.json"]
    found = [name for name in names if (places[0] / name).read_bytes() != (places[1] / name).read_bytes()]
    losses = [[(line["step"], line["loss"]) for line in read_metrics(run) if "loss" in line] for run in (one, other)]
    return found + (["losses"] if losses[0] != losses[1] else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="such as the demo: hs-data build --source demo --output demo")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--save-every", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # sums of floats depend on the number of threads
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        straight, broken = Path(folder) / "straight", Path(folder) / "broken"
        began = time.monotonic()
        process = start(command(options.dataset, straight, options.steps, options.save_every))
        wait_until(process, (straight / "metrics.jsonl").is_file)
        loading_s = time.monotonic() - began
        if process.wait():
            sys.exit("the unbroken run failed")
        # Long enough to get somewhere, short enough not to be done before the last kill.
        longest_s = loading_s + 2 * (time.monotonic() - began - loading_s) / options.kills
        words = command(options.dataset, broken, options.steps, options.save_every)
        killed: Counter[str] = Counter()
        at = []
        while killed.total() < options.kills:
            doing = kill_once(words, broken, chance, longest_s)
            if doing is None:
                sys.exit(f"done after {killed.total()} kills; give more --steps")
            killed[doing] += 1
            at.append(newest(broken))
        subprocess.run(words, check=True)
        found = differences(straight, broken, options.steps)
        facts = {"steps": options.steps, "kills": killed.total(), "while": dict(killed), "saved": at, "differ": found}
        print(json.dumps(facts))
        sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
