"""The lock of a dataset: one writer at a time, and one that was killed keeps nobody out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hs_data.cli import app
from hs_data.manifests import lock
from hs_data.manifests.errors import DatasetError
from hs_data.manifests.lock import lock_dataset, lock_written

HOLD = """
import sys, time
from pathlib import Path
from hs_data.manifests.lock import lock_dataset
part = tuple(map(int, sys.argv[2].split("/"))) if sys.argv[2] else None
with lock_dataset(Path(sys.argv[1]), "build", part):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen]]:
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def _hold(dataset: Path, part: str, holders: list[subprocess.Popen]) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, dataset, part], stdout=subprocess.PIPE, text=True)
    holders.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _edit(dataset: Path, name: str = "all", **fields: object) -> Path:
    path = dataset / lock.FOLDER / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return path


def test_a_lock_that_is_let_go_leaves_nothing(tmp_path: Path):
    (tmp_path / "there").mkdir()
    for name in ("there", "new"):
        with lock_dataset(tmp_path / name, "build"):
            assert [path.name for path in (tmp_path / name / lock.FOLDER).iterdir()] == ["all.json"]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == ["there"]


def test_the_second_writer_is_told_who_the_first_one_is(tmp_path: Path, holders: list[subprocess.Popen]):
    process = _hold(tmp_path, "", holders)
    host = os.uname().nodename
    told = rf": `hs-data build`, process {process.pid} on {host}, writes it since 20.* UTC; wait for it, or stop it$"
    with pytest.raises(DatasetError, match=told), lock_dataset(tmp_path, "forget"):
        pass
    assert (tmp_path / lock.FOLDER / "all.json").is_file(), "the second one took the lock of the first one away"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_was_killed_is_told_from_one_that_stands_still(
    tmp_path: Path, holders: list[subprocess.Popen], number: int
):
    process = _hold(tmp_path, "", holders)
    process.send_signal(number)  # nobody has asked how it ended: it is a zombie, as in a container without an init
    time.sleep(0.2)
    if number == signal.SIGKILL:
        with lock_dataset(tmp_path, "build"):
            pass
    else:
        with pytest.raises(DatasetError, match=f"process {process.pid}"), lock_dataset(tmp_path, "build"):
            pass


def test_another_process_with_the_same_id_is_not_the_holder(tmp_path: Path, holders: list[subprocess.Popen]):
    _hold(tmp_path, "", holders)
    path = _edit(tmp_path)
    began = json.loads(path.read_text())["began"]
    _edit(tmp_path, began=began - 1)
    with lock_dataset(tmp_path, "build"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(("silent_s", "refused"), [(0, True), (500, True), (700, False)])
def test_a_holder_on_another_machine_is_known_by_its_heartbeat(
    tmp_path: Path, holders: list[subprocess.Popen], silent_s: int, refused: bool
):
    _hold(tmp_path, "", holders)
    path = _edit(tmp_path, host="elsewhere", machine="another boot")
    then = time.time() - silent_s
    os.utime(path, (then, then))
    if refused:
        hint = rf"on elsewhere, .*its last sign of life is {silent_s}\d? s old; .*remove {path}$"
        with pytest.raises(DatasetError, match=hint.replace("500", "50")), lock_dataset(tmp_path, "build"):
            pass
    else:
        with lock_dataset(tmp_path, "build"):
            pass


def test_a_holder_shows_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.05)
    with lock_dataset(tmp_path, "build"):
        path = tmp_path / lock.FOLDER / "all.json"
        os.utime(path, (1.0, 1.0))
        until = time.monotonic() + 10
        while path.stat().st_mtime < 2:
            assert time.monotonic() < until
            time.sleep(0.02)


SHARING = [
    ("1/2", (2, 2), True),
    ("1/2", (1, 2), False),
    ("1/2", (2, 3), False),  # the parts of two and of three have files in common
    ("1/2", None, False),
    ("", (1, 2), False),
]


@pytest.mark.parametrize(("held", "asked", "shared"), SHARING)
def test_parts_of_one_build_share_a_dataset(
    tmp_path: Path, holders: list[subprocess.Popen], held: str, asked: tuple[int, int] | None, shared: bool
):
    _hold(tmp_path, held, holders)
    if shared:
        with lock_dataset(tmp_path, "build", asked):
            assert len(list((tmp_path / lock.FOLDER).iterdir())) == 2
        assert len(list((tmp_path / lock.FOLDER).iterdir())) == 1
    else:
        with pytest.raises(DatasetError, match="writes it since"), lock_dataset(tmp_path, "build", asked):
            pass


def test_of_many_that_begin_at_once_one_gets_it(tmp_path: Path):
    words = [sys.executable, "-c", HOLD.replace("sleep(60)", "sleep(3)"), str(tmp_path), ""]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60) for process in started]
    held = [out for out, _ in said if out]
    assert len(held) + sum("DatasetError" in err for _, err in said) == 4
    assert held


def test_what_only_reads_takes_no_lock(tmp_path: Path, holders: list[subprocess.Popen]):
    _hold(tmp_path, "", holders)
    with lock_written(tmp_path, "select", writes=False):
        pass
    (tmp_path / "strange").mkdir()
    with lock_written(tmp_path / "strange", "select"):
        assert list((tmp_path / "strange").iterdir()) == [], "a folder that is no dataset was written to"


WRITING = [
    ["forget", "DATASET", "--source", "a.mp4"],
    ["split", "DATASET", "--set", "select.val_share=0.5"],
    ["gc", "DATASET", "--delete"],
    ["select", "DATASET", "--set", "select.min_face_px=1"],
    ["merge", "DATASET", "a", "b"],
    ["build", "--source", "demo", "--output", "DATASET"],
]


@pytest.mark.parametrize("words", WRITING, ids=lambda words: words[0])
def test_a_command_that_writes_stops_in_one_line(
    small_dataset: Path, tmp_path: Path, holders: list[subprocess.Popen], words: list[str]
):
    dataset = shutil.copytree(small_dataset, tmp_path / "dataset", copy_function=os.link)
    _hold(dataset, "", holders)
    before = _times(dataset)
    done = CliRunner().invoke(app, [str(dataset) if word == "DATASET" else word for word in words])
    assert isinstance(done.exception, DatasetError), done.exception
    assert f"process {holders[0].pid} on" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert done.stdout == ""
    assert _times(dataset) == before


def _times(dataset: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if lock.FOLDER not in path.parts}
