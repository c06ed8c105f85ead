"""In a real terminal: no program that a library starts is stopped by it, and a signal ends everything quietly."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pseudo_terminal
import pytest

BUILD = ["build", "--source", "folder", "--preset", "embedded", "--workers", "2"]


@pytest.fixture(scope="module")
def videos(demo_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    shutil.copy2(demo_videos / "talker_a.mp4", folder)
    return folder


def _words(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "hs_data.cli", *map(str, words)]


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_build_ends_where_ffmpeg_plays_with_the_terminal(videos: Path, tmp_path: Path, executor: str):
    variables = pseudo_terminal.put_on_path(tmp_path / "bin", is_bold=True)
    words = _words(*BUILD, "--input", videos, "--output", tmp_path / "out", "--executor", executor)
    ended = pseudo_terminal.run(words, timeout_s=400, variables=variables)
    assert ended.code == 0, ended.text[-2000:]
    called = pseudo_terminal.callers(variables)
    assert len(called) >= 2, "no worker called the stand-in"
    assert set(called.values()) == {"/dev/null"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_training_ends_where_ffmpeg_plays_with_the_terminal(random_dataset: Path, tmp_path: Path, launcher: str):
    """Nothing that training imports starts ffmpeg today; here Python itself does, before our first line."""
    variables = pseudo_terminal.put_on_path(tmp_path / "bin", is_bold=False)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import subprocess\nsubprocess.call(['ffmpeg'])\n")
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    sets = ["run.steps=2", "run.batch_size=2", "run.device=cpu", "run.validate_every=0"]
    words = _words("train", random_dataset, "--recipe", "highsync-stage1", "--size", "tiny", "-o", tmp_path / "run")
    words += ["--launcher", launcher, "--nproc", "2", *(word for one in sets for word in ("--set", one))]
    ended = pseudo_terminal.run(words, timeout_s=400, variables={**variables, "PYTHONPATH": path})
    assert ended.code == 0, ended.text[-2000:]
    called = pseudo_terminal.callers(variables)
    called.pop(ended.pid)  # the command itself, before its first line
    assert len(called) >= 2, "no worker called the stand-in"
    # Ray gives processes of its own a pipe, by which they notice its end.
    assert {name for name in called.values() if not name.startswith("pipe:") or launcher != "ray"} == {"/dev/null"}


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_build_that_is_told_to_stop_says_one_line(
    videos: Path, tmp_path: Path, executor: str, number: int, code: int
):
    words = _words(*BUILD, "--input", videos, "--output", tmp_path / "out", "--executor", executor)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        beats = tmp_path / "out" / "work" / "beats"
        while not (beats.is_dir() and any(beats.glob("*.json"))):  # a worker is at an item
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        workers = pseudo_terminal.descendants(process.pid)[:-1]
        process.send_signal(number)
        said, told = process.communicate(timeout=200)
    assert process.returncode == code, told
    lines = [line for line in told.splitlines() if not line.startswith(("INFO", "WARNING"))]
    assert lines == ["stopped; run the same command again to go on"], told
    assert said == ""
    until = time.monotonic() + 60
    while left := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, f"{left} live on"
        time.sleep(0.1)
