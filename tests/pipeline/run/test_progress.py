"""Progress: what a person sees of a long command, in clips and time left, on a terminal and without one."""

import io
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from hs_data.commands import terminal
from hs_data.manifests import remaining
from hs_data.manifests.remaining import Remaining
from hs_data.manifests.status import counted, current
from hs_data.pipeline.config import Config, resolve
from hs_data.pipeline.run.progress import BuildProgress
from hs_data.pipeline.workers import supervise
from hs_data.pipeline.workers.messages import Done
from hs_data.pipeline.workers.pools import Event
from hs_data.pipeline.workers.supervise import Limits, Supervisor
from hs_data.pipeline.workers.units import Item, Unit, UnitSize, encode_size, group, score_size
from hs_data.pipeline.workers.worker_status import WorkerStatus
from hs_data.trainer.metrics import TrainProgress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(time, "monotonic", ours)
    return ours


def _item(name: str, seconds: float = 10.0) -> Item:
    return {"id": name, "path": f"{name}.mp4", "seconds": seconds, "timeout_s": 30.0, "mb": seconds, "files": 1}


def _items(number: int, seconds: float = 10.0) -> list[Item]:
    return [_item(f"i{place}", seconds) for place in range(number)]


def _done(unit: Unit) -> Done:
    return Done(unit_id=unit.unit_id, seconds=unit.seconds, outcomes={}, cpu_s={}, memory_mb=1.0)


# --- the time that is left


def test_the_time_left_is_that_of_the_rest_at_the_speed_so_far(clock: Clock):
    left = Remaining(100.0, done=20.0)
    assert (left.seconds(), left.text()) == (None, "")
    clock.now += 60
    left.reached(30.0)  # 10 of 80 in a minute; what was done before took none of our time
    assert left.seconds() == pytest.approx(70 * 6)
    assert left.text() == "0:07:00 left"
    clock.now += 3600
    left.begin()
    assert left.seconds() is None
    clock.now += 10
    left.reached(65.0)
    assert left.seconds() == pytest.approx(10.0)
    assert remaining.Remaining(1.0).text() == ""


# --- the build


def test_a_clip_that_is_done_inside_a_unit_counts(clock: Clock, caplog: pytest.LogCaptureFixture):
    """One unit of 40 clips: after its first clip there is an estimate, and the log names clips."""
    caplog.set_level(logging.INFO)
    display, items = BuildProgress(Console(file=io.StringIO())), _items(40)
    unit = Unit.of("encode", "f", items)
    with display.phase("encode", items, 0):
        clock.now += 61
        display.wait(61.0, [unit.items[:1]])
        assert caplog.messages == ["encode: 1/40  0:39:39 left  oldest unit runs for 61 s"]
        clock.now += 30
        display.wait(91.0, [unit.items[:2]])
        assert len(caplog.messages) == 1, "more than a line a minute"
        display.advance(unit, _done(unit))
    assert caplog.messages[-1] == "encode: 40/40  4.4 video-h/h"


def test_the_time_left_follows_the_length_of_the_footage_and_not_the_number_of_files(clock: Clock):
    shown = io.StringIO()
    display = BuildProgress(Console(file=shown, force_terminal=True, width=120))
    items = [_item("short", 10.0), _item("long", 90.0)]
    with display.phase("score", items, 0):
        clock.now += 10
        unit = Unit.of("score", "f", items[:1])
        display.advance(unit, _done(unit))
        display._progress.refresh()
    assert "0:01:30 left" in shown.getvalue()


def test_the_line_of_a_phase_is_printed_once():
    shown = io.StringIO()
    display = BuildProgress(Console(file=shown, force_terminal=True, width=100))
    for phase in ("probe", "score", "encode"):
        items = _items(2)
        with display.phase(phase, items, 0):
            shown.truncate(shown.seek(0))
            unit = Unit.of(phase, "f", items)
            display.advance(unit, _done(unit))
        assert {name for name in ("probe", "score", "encode") if name in shown.getvalue()} == {phase}


class OnePool:
    """One worker that is through with an item at each look."""

    def __init__(self, dataset: Path, clock: Clock) -> None:
        self._beat, self._clock = WorkerStatus(dataset, "w"), clock
        self._unit: Unit | None = None
        self._at = 0

    def idle(self) -> bool:
        return self._unit is None

    def submit(self, unit: Unit) -> str:
        self._unit, self._at = unit, 0
        return "w"

    def wait(self, timeout_s: float) -> list[Event]:
        assert self._unit is not None
        self._clock.now += 1
        if self._at < len(self._unit.items):
            self._beat.turn_to(self._unit.items[self._at]["id"])
            self._at += 1
            return []
        unit, self._unit = self._unit, None
        return [Event(worker="w", unit=unit, done=_done(unit))]

    def kill(self, worker: str) -> None:
        raise AssertionError(worker)

    recycle = kill

    def close(self) -> None:
        pass


def test_the_supervisor_tells_what_workers_are_through_with(tmp_path: Path, clock: Clock):
    told: list[int] = []
    waiting: Callable = lambda _oldest_s, through: told.append(sum(map(len, through)))  # noqa: E731
    unit = Unit.of("encode", "f", _items(4))
    pool = OnePool(tmp_path, clock)
    Supervisor(pool, tmp_path, limits=Limits(recycle_mb=9.0), finished=lambda _unit, _done: None, waiting=waiting).run(
        [unit]
    )
    assert told == [0, 1, 2, 3, 0]
    assert supervise.POLL_S < 1


# --- the size of units


def _config(*assignments: str, preset: str = "cpu") -> Config:
    return resolve(preset=preset, source={}, saved={}, file=None, assignments=assignments)


@pytest.mark.parametrize(
    ("preset", "settings", "number", "mb", "units"),
    [
        ("cpu", (), 47, 10.0, 24),  # a small build: two clips at a time, not 47
        ("cpu", (), 2, 10.0, 1),  # 20 s of footage are encoded as fast as a worker starts
        ("highsync", (), 4, 5.0, 4),  # networks take minutes for a clip
        ("cpu", (), 40_000, 10.0, 1053),  # a large one has shards of full size
        ("cpu", ("run.shard_mb=10",), 47, 10.0, 47),
    ],
)
def test_a_small_build_has_work_for_every_worker(preset: str, settings: tuple, number: int, mb: float, units: int):
    size = encode_size(_config(*settings, preset=preset))
    items = [{**_item(f"i{place}"), "mb": mb} for place in range(number)]
    groups = group(items, most=size.of(items), weight=size.weight)
    assert len(groups) == units
    assert [item for part in groups for item in part] == items


def test_scoring_is_cut_into_as_many():
    items = _items(40, 20.0)
    size = score_size(_config())
    assert size == UnitSize(weight="seconds", least=30.0, most=300.0)
    assert len(group(items, most=size.of(items), weight="seconds")) == 40
    assert size.of(_items(4000, 20.0)) == 300.0


# --- training


@pytest.mark.parametrize("begun", [0, 100])
def test_training_tells_the_time_left_after_three_steps(
    clock: Clock, caplog: pytest.LogCaptureFixture, begun: int, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("TERM", "dumb")
    with TrainProgress(step=begun, steps=begun + 103) as display:
        for number in range(1, 21):
            clock.now += 600 if number == 1 else 10  # the first step compiles
            display.stepped(begun + number)
    lines = [f"step {begun + 3} of {begun + 103}: 0:16:40 left", f"step {begun + 9} of {begun + 103}: 0:15:40 left"]
    assert caplog.messages[:3] == [f"step {begun + 1} of {begun + 103}", *lines]
    assert len(caplog.messages) == 4


# --- all the others


def test_a_command_without_a_display_prints_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(terminal, "LINE_EVERY_S", 0.1)
    end = terminal.follow("verify")
    for _ in counted(range(3), "shards"):
        time.sleep(0.15)
    end()
    told = capsys.readouterr().err.splitlines()
    time.sleep(0.25)
    assert "verify: 1 min, shards 0/3" in told
    assert any("shards 2/3" in line for line in told)
    assert capsys.readouterr().err == ""
    assert current() == ""
