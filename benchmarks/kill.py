"""Kill builds (the driver, a worker, or all, SIGKILL) at random moments; what is resumed must be the same dataset.

A round builds a few files of the demo into a new folder, is killed a few times and resumed each time, is then run to
its end, and compared byte for byte with a build that was never stopped.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from processes import build_command, descendants, kill_all, start

from hs_data.pipeline.demo.source import make_demo

VIDEOS = ("talker_a.mp4", "sound_early_3.mp4", "cuts.mp4", "face_hidden.mp4", "two_people.mp4", "vfr.mp4")
KILLS_A_ROUND = 6
STARTUP_S = {"local": 3.0, "ray": 9.0}
PHASES = ("start", "probe", "score", "encode", "finalize")
WORKERS = (b"hs_data.pipeline.workers.local_worker", b"ray::RayWorker")


def contents(dataset: Path) -> dict[str, str]:
    """Return the hash of every file that makes the dataset."""
    paths = [*dataset.glob("*.parquet"), *dataset.glob("shards/[!.]*"), dataset / "dataset.json"]
    return {p.relative_to(dataset).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def workers_of(process: subprocess.Popen) -> list[int]:
    """Return the workers of a build that run now."""
    found = []
    for pid in descendants(process.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if any(name in words for name in WORKERS):
            found.append(pid)
    return found


def phase_of(dataset: Path) -> str:
    """Return how far a build is: the newest phase that has a commit, "finalize" once a table is being written."""
    if any(dataset.glob("*.parquet")) or (dataset / "dataset.json").is_file():
        return "finalize"
    commits = dataset / "work" / "commits"
    reached = [phase for phase in PHASES if any((commits / phase).glob("*.json"))]
    return reached[-1] if reached else "start"


def wait_until(dataset: Path, phase: str, process: subprocess.Popen) -> None:
    """Wait until a build has come as far as a phase, or has ended."""
    while process.poll() is None and PHASES.index(phase_of(dataset)) < PHASES.index(phase):
        time.sleep(0.02)


def kill(process: subprocess.Popen, target: str, chance: random.Random) -> bool:
    """Kill the driver, one of its workers or everything; False where there was nothing to kill."""
    if process.poll() is not None:
        return False
    if target == "all":
        kill_all(process)
        return True
    pids = workers_of(process) if target == "worker" else [process.pid]
    if not pids:
        return False
    os.kill(chance.choice(pids), signal.SIGKILL)
    return True


def one_round(words: list[str], dataset: Path, executor: str, length_s: float, chance: random.Random) -> Counter[str]:
    """Kill and resume until a round has had its kills or the build is done; return what was killed, and when.

    Half of the kills fall at a random moment, half shortly after a phase that is drawn has its first commit: else few
    would reach the short phases at the end.
    """
    killed: Counter[str] = Counter()
    while sum(killed.values()) < KILLS_A_ROUND:
        process, target = start(*words, "--output", str(dataset)), chance.choice(("driver", "worker", "all"))
        if chance.random() < 0.5:
            wait_until(dataset, chance.choice(PHASES[2:]), process)
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            time.sleep(chance.uniform(0.3, STARTUP_S[executor] + 1.5 * length_s / KILLS_A_ROUND))
        family = descendants(process.pid)
        try:
            if not kill(process, target, chance):
                if process.poll() is not None:
                    break
                continue
            killed[f"{target}, {phase_of(dataset)}"] += 1
            if target == "worker":  # the run goes on without it; one death is not laid at a clip's door
                time.sleep(chance.uniform(0.3, 3.0))
        finally:
            if process.poll() is None:
                kill_all(process)
            wait_for(family)
    return killed


def wait_for(pids: list[int]) -> None:
    """Wait until processes of a dead driver are gone; those of Ray end when they notice, which takes seconds."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        make_demo(folder / "all")
        (folder / "videos").mkdir()
        for video in VIDEOS:
            shutil.move(folder / "all" / video, folder / "videos")
        words = ["--source", "folder", "--input", str(folder / "videos"), "--preset", "embedded", "--workers", "2"]
        words += ["--set", "run.unit_s=10", "--executor", options.executor]
        began = time.monotonic()
        subprocess.run(build_command(*words, "--output", str(folder / "whole")), check=True, capture_output=True)
        length_s, killed, num_rounds, differ = time.monotonic() - began, Counter(), 0, []
        while sum(killed.values()) < options.kills:
            broken = folder / f"broken{num_rounds}"
            killed += one_round(words, broken, options.executor, length_s, chance)
            subprocess.run(build_command(*words, "--output", str(broken)), check=True, capture_output=True)
            one, two = contents(folder / "whole"), contents(broken)
            differ += sorted(f"{broken.name}/{n}" for n in one.keys() | two.keys() if one.get(n) != two.get(n))
            shutil.rmtree(broken)
            num_rounds += 1
    facts = {"executor": options.executor, "unbroken_s": round(length_s, 1), "rounds": num_rounds}
    print(json.dumps({**facts, "kills": dict(sorted(killed.items())), "total": sum(killed.values()), "differ": differ}))
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
