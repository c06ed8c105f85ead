"""Kill a build, driver and workers, at random moments; what is resumed is the same as what was never stopped."""

import random
import subprocess
import sys
import time
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load(name: str):
    spec = util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


processes = load("processes")
kill = load("kill")


@pytest.mark.parametrize(("executor", "kills"), [("local", 5), ("ray", 2)])
def test_killed_and_resumed_gives_the_same_bytes(tmp_path, executor, kills):
    chance = random.Random(7)
    words = ["--source", "demo", "--set", "run.unit_s=20", "--executor", executor, "--workers", "2", "--output"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    began = time.monotonic()
    subprocess.run(processes.build_command(*words, str(whole)), check=True, capture_output=True)
    length_s = time.monotonic() - began
    killed = 0
    while killed < kills:
        process = processes.start(*words, str(broken))
        time.sleep(chance.uniform(0.3, 1.5 * length_s / kills))
        if process.poll() is not None:
            break  # faster than the first time, and done: nothing is left to kill
        processes.kill_all(process)
        killed += 1
    assert killed >= 2 or executor == "ray"
    subprocess.run(processes.build_command(*words, str(broken)), check=True, capture_output=True)
    assert kill.contents(broken) == kill.contents(whole)
