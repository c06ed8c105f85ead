"""Kill a build, driver and workers, at random moments; what is resumed is the same as what was never stopped."""

import random
import shutil
import subprocess
import sys
import time
from importlib import util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


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


pytestmark = pytest.mark.slow

VIDEOS = ("talker_a.mp4", "sound_early_3.mp4", "cuts.mp4", "face_hidden.mp4", "two_people.mp4", "vfr.mp4")


@pytest.fixture(scope="module")
def videos(demo_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few files of the demo; `benchmarks/kill.py` takes all of it, and more kills."""
    folder = tmp_path_factory.mktemp("videos")
    for name in VIDEOS:
        shutil.copy2(demo_videos / name, folder)
    return folder


@pytest.fixture(scope="module")
def words(videos: Path) -> list[str]:
    source = ["--source", "folder", "--input", str(videos), "--preset", "embedded"]
    return [*source, "--set", "run.unit_s=10", "--workers", "2"]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The dataset that was never stopped, and how many seconds it took."""
    output = tmp_path_factory.mktemp("whole") / "dataset"
    began = time.monotonic()
    command = processes.build_command(*words, "--executor", "local", "--output", str(output))
    subprocess.run(command, check=True, capture_output=True)
    return output, time.monotonic() - began


@pytest.mark.parametrize(("executor", "kills"), [("local", 5), ("ray", 2)])
def test_killed_and_resumed_gives_the_same_bytes(words, whole, tmp_path, executor, kills):
    chance = random.Random(7)
    unbroken, length_s = whole
    broken = [*words, "--executor", executor, "--output", str(tmp_path / "broken")]
    killed = 0
    while killed < kills:
        process = processes.start(*broken)
        time.sleep(chance.uniform(0.3, 1.5 * length_s / kills) + (executor == "ray") * 4)  # Ray takes its time to begin
        if process.poll() is not None:
            break  # faster than the first time, and done: nothing is left to kill
        processes.kill_all(process)
        killed += 1
    assert killed >= (2 if executor == "local" else 1)
    subprocess.run(processes.build_command(*broken), check=True, capture_output=True)
    assert kill.contents(tmp_path / "broken") == kill.contents(unbroken)
