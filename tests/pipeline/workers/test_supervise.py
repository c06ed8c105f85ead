"""Supervise: whatever workers do, every item ends done or set aside, and a bad one costs only itself."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hs_data.manifests.errors import HsDataError
from hs_data.pipeline.workers import local_pool, supervise
from hs_data.pipeline.workers.gpus import GpuShare
from hs_data.pipeline.workers.messages import Done, WorkerSetup
from hs_data.pipeline.workers.pools import WORKER_VARIABLES, Event, environment
from hs_data.pipeline.workers.supervise import Limits, Quarantine, QuarantineEntry, Supervisor
from hs_data.pipeline.workers.units import Item, Phase, Unit
from hs_data.pipeline.workers.worker_status import WorkerStatus

LIMITS = Limits(recycle_mb=3000.0)
TRACE = "File decode.py, line 1 in frames\n"


def _item(name: str, timeout_s: float = 30.0) -> Item:
    return {"id": name, "path": f"{name}.mp4", "seconds": 1.0, "timeout_s": timeout_s}


def _unit(*names: str, phase: Phase = "score", fingerprint: str = "f", timeout_s: float = 30.0) -> Unit:
    return Unit.of(phase, fingerprint, [_item(name, timeout_s) for name in names])


def _again(phase: str, name: str) -> str:
    return f"; remove work/quarantine/{phase}/{name}.json to try again"


class FakePool:
    """Workers in memory. `script` says what happens at an item; a worker does the items of its unit in order."""

    def __init__(self, dataset: Path, script: Callable[[str, int], str], num_workers: int = 2) -> None:
        self._dataset = dataset
        self._script = script
        self._numbers = itertools.count()
        self._workers: dict[str, Unit | None] = {}
        self._events: list[tuple[Event, bool]] = []
        self._hanging: dict[str, Unit] = {}
        self.tries: Counter[str] = Counter()
        self.done: list[str] = []
        self.killed: list[str] = []
        self.recycled: list[str] = []
        self.units: list[tuple[str, ...]] = []
        self.memory_mb = 100.0
        for _ in range(num_workers):
            self._start()

    def _start(self) -> None:
        self._workers[f"w{next(self._numbers)}"] = None

    def idle(self) -> bool:
        return None in self._workers.values()

    def submit(self, unit: Unit) -> str:
        worker = next(name for name, held in self._workers.items() if held is None)
        self._workers[worker] = unit
        self.units.append(tuple(item["id"] for item in unit.items))
        self._work(worker, unit)
        return worker

    def _work(self, worker: str, unit: Unit) -> None:
        beat = WorkerStatus(self._dataset, worker)
        for item in unit.items:
            name = item["id"]
            self.tries[name] += 1
            what = self._script(name, self.tries[name])
            if what == "die early":
                return self._end(worker, Event(worker=worker, unit=unit))
            beat.turn_to(name)
            if what == "die":
                return self._end(worker, Event(worker=worker, unit=unit))
            if what == "stall":
                beat.trace.write_text(TRACE, encoding="utf-8")
                return self._end(worker, Event(worker=worker, unit=unit))
            if what == "hang":
                self._hanging[worker] = unit
                return None
            if what in ("raise", "fatal"):
                event = Event(worker=worker, unit=unit, failed="ValueError: no", fatal=what == "fatal")
                return self._end(worker, event, died=False)
            assert what == "ok"
        beat.turn_to(None)
        self.done += [item["id"] for item in unit.items]
        done = Done(unit_id=unit.unit_id, seconds=unit.seconds, outcomes={}, cpu_s={}, memory_mb=self.memory_mb)
        return self._end(worker, Event(worker=worker, unit=unit, done=done), died=False)

    def _end(self, worker: str, event: Event, *, died: bool = True) -> None:
        self._events.append((event, died))

    def wait(self, timeout_s: float) -> list[Event]:
        """Give one event; until then its worker counts as busy, as in the real pools."""
        assert 0 < timeout_s < 5
        if not self._events:
            return []
        event, died = self._events.pop(0)
        if died:
            del self._workers[event.worker]
            self._start()
        else:
            self._workers[event.worker] = None
        return [event]

    def kill(self, worker: str) -> None:
        self.killed.append(worker)
        self._end(worker, Event(worker=worker, unit=self._hanging.pop(worker)))

    def recycle(self, worker: str) -> None:
        assert self._workers[worker] is None, "a busy worker must not be recycled"
        del self._workers[worker]
        self.recycled.append(worker)
        self._start()

    def close(self) -> None:
        self._workers = {}


@dataclasses.dataclass
class Run:
    pool: FakePool
    finished: Counter[str]
    """How often each item was reported, as done or set aside."""
    set_aside: dict[str, QuarantineEntry]


def _run(
    dataset: Path,
    units: Iterable[Unit],
    script: dict[str, Callable[[int], str]],
    *,
    memory_mb: float = 100.0,
    num_workers: int = 2,
) -> Run:
    """Run the units; `script` maps an item to what happens at its n-th try, and what is not named is fine."""
    units = list(units)
    pool = FakePool(dataset, lambda name, number: script.get(name, lambda _: "ok")(number), num_workers)
    pool.memory_mb = memory_mb
    finished: Counter[str] = Counter()
    aside: Counter[str] = Counter()

    def report(unit: Unit, done: Done | None) -> None:
        finished.update(item["id"] for item in unit.items)
        if done is None:
            aside.update(item["id"] for item in unit.items)

    Supervisor(pool, dataset, limits=LIMITS, finished=report).run(units)
    set_aside = Quarantine(dataset).load(units[0].phase if units else "score", "f")
    assert set(aside) == set(set_aside)
    assert set(finished.values()) <= {1}, "an item was reported twice"
    assert set(pool.done) | set(set_aside) == set(finished)
    assert not set(pool.done) & set(set_aside)
    return Run(pool, finished, set_aside)


def _always(what: str) -> Callable[[int], str]:
    return lambda number: what


def _times(most: int, what: str) -> Callable[[int], str]:
    return lambda number: what if number <= most else "ok"


UNITS = (_unit("a", "b", "c"), _unit("d"), _unit("e", "f"))
ALL = set("abcdef")


def test_nothing_to_do_is_done(tmp_path: Path):
    assert _run(tmp_path, [], {}).finished == {}


def test_all_units_are_done_once_and_in_order(tmp_path: Path):
    run = _run(tmp_path, UNITS, {})
    assert run.pool.done == list("abcdef")
    assert run.pool.units == [("a", "b", "c"), ("d",), ("e", "f")]
    assert set(run.finished) == ALL
    assert run.set_aside == {}


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("bad", sorted(ALL))
def test_an_item_that_kills_twice_is_set_aside_and_costs_only_itself(tmp_path: Path, bad: str, num_workers: int):
    run = _run(tmp_path, UNITS, {bad: _always("die")}, num_workers=num_workers)
    assert set(run.pool.done) == ALL - {bad}
    assert set(run.set_aside) == {bad}
    entry = run.set_aside[bad]
    assert (entry.reason, entry.path, entry.trace) == ("internal_error", f"{bad}.mp4", "")
    assert entry.detail == "killed its worker 2 times" + _again("score", bad)
    assert run.pool.tries[bad] == 2


def test_many_items_that_kill_are_all_found(tmp_path: Path):
    names = [f"i{number}" for number in range(40)]
    bad = {name for number, name in enumerate(names) if number % 3 == 0}
    units = [_unit(*names[start : start + 8]) for start in range(0, 40, 8)]
    run = _run(tmp_path, units, {name: _always("die") for name in bad})
    assert set(run.set_aside) == bad
    assert set(run.pool.done) == set(names) - bad
    assert max(run.pool.tries[name] for name in bad) == 2


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path):
    run = _run(tmp_path, UNITS, {"b": _times(1, "die"), "d": _times(1, "die")})
    assert set(run.pool.done) == ALL
    assert run.set_aside == {}


@pytest.mark.parametrize("bad", ["a", "c", "d"])
def test_a_stalled_decode_is_set_aside_at_once(tmp_path: Path, bad: str):
    run = _run(tmp_path, UNITS, {bad: _always("stall")})
    assert set(run.pool.done) == ALL - {bad}
    assert set(run.set_aside) == {bad}
    assert run.set_aside[bad].reason == "decode_timeout"
    assert run.set_aside[bad].detail == "decoding took more than 30 s" + _again("score", bad)
    assert run.set_aside[bad].trace == TRACE
    assert run.pool.tries[bad] == 1


STALLS = {
    "first": ("a", [("a", "b", "c"), ("a",), ("b", "c")]),
    "last": ("c", [("a", "b", "c"), ("c",), ("a", "b")]),
}


@pytest.mark.parametrize(("bad", "units"), STALLS.values(), ids=STALLS)
def test_a_stalled_decode_of_an_encode_is_set_aside_only_when_it_is_alone(
    tmp_path: Path, bad: str, units: list[tuple[str, ...]]
):
    unit = _unit("a", "b", "c", phase="encode", timeout_s=45.0)
    run = _run(tmp_path, [unit], {bad: _always("stall")}, num_workers=1)
    assert run.pool.units == units
    assert set(run.pool.done) == {"a", "b", "c"} - {bad}
    assert set(run.set_aside) == {bad}
    entry = run.set_aside[bad]
    assert (entry.reason, entry.trace) == ("decode_timeout", TRACE)
    assert entry.detail == "decoding took more than 45 s" + _again("encode", bad)
    assert run.pool.tries[bad] == 2


def test_a_clip_that_only_stalled_beside_others_is_encoded(tmp_path: Path):
    """The run of clips stalled while it was waited for; alone it is done."""
    run = _run(tmp_path, [_unit("a", "b", "c", phase="encode")], {"b": _times(1, "stall")}, num_workers=1)
    assert run.set_aside == {}
    assert run.pool.units == [("a", "b", "c"), ("b",), ("a", "c")]
    assert set(run.pool.done) == {"a", "b", "c"}


def test_a_clip_that_is_alone_and_stalls_is_set_aside_at_once(tmp_path: Path):
    run = _run(tmp_path, [_unit("a", phase="encode"), _unit("b", phase="encode")], {"a": _always("stall")})
    assert (set(run.set_aside), run.pool.done, run.pool.tries["a"]) == ({"a"}, ["b"], 1)


def test_an_old_stall_does_not_speak_for_a_later_death(tmp_path: Path):
    """The trace of one item must not be read again when the next one dies."""
    run = _run(tmp_path, [_unit("a", "b")], {"a": _always("stall"), "b": _times(1, "die")}, num_workers=1)
    assert set(run.set_aside) == {"a"}
    assert run.pool.done == ["b"]
    assert list((tmp_path / "work" / "beats").glob("*.trace")) == []


def test_a_unit_that_raises_is_split_until_the_item_is_found(tmp_path: Path):
    run = _run(tmp_path, [_unit("a", "b", "c", "d")], {"c": _always("raise")}, num_workers=1)
    assert set(run.pool.done) == {"a", "b", "d"}
    assert set(run.set_aside) == {"c"}
    assert (run.set_aside["c"].reason, run.set_aside["c"].trace) == ("internal_error", "ValueError: no")
    assert run.pool.units[:3] == [("a", "b", "c", "d"), ("c",), ("a", "b", "d")]


def test_a_unit_that_raises_once_is_done(tmp_path: Path):
    run = _run(tmp_path, UNITS, {"c": _times(1, "raise")})
    assert set(run.pool.done) == ALL


def test_a_fatal_failure_ends_the_run_with_its_words(tmp_path: Path):
    with pytest.raises(HsDataError, match="score: ValueError: no"):
        _run(tmp_path, UNITS, {"b": _always("fatal")})


def test_workers_that_die_before_they_begin_end_the_run(tmp_path: Path):
    with pytest.raises(HsDataError, match="workers fail before they begin"):
        _run(tmp_path, UNITS, {"a": _always("die early")})
    assert Quarantine(tmp_path).load("score", "f") == {}


def test_a_worker_that_dies_twice_before_it_begins_is_forgiven(tmp_path: Path):
    run = _run(tmp_path, UNITS, {"a": _times(2, "die early")})
    assert set(run.pool.done) == ALL
    assert run.set_aside == {}


def test_an_overdue_worker_is_killed_and_its_item_is_the_suspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervise, "GRACE_S", 0.01)
    run = _run(tmp_path, [_unit("a", "b", "c", timeout_s=0.01)], {"b": _always("hang")})
    assert len(run.pool.killed) == 2
    assert set(run.pool.done) == {"a", "c"}
    assert run.set_aside["b"].reason == "internal_error"


def test_a_worker_that_hung_once_is_killed_and_the_item_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervise, "GRACE_S", 0.01)
    units = [_unit("a", "b", "c", timeout_s=0.01), _unit("d", timeout_s=0.01), _unit("e", "f", timeout_s=0.01)]
    run = _run(tmp_path, units, {"e": _times(1, "hang")})
    assert len(run.pool.killed) == 1
    assert set(run.pool.done) == ALL


def test_the_deadline_of_a_unit_is_that_of_all_its_items():
    unit = Unit.of("score", "f", [_item("short", 30.0), _item("long", 1000.0)])
    assert LIMITS.deadline_s(unit) == 120.0 + 30.0 + 1000.0


@pytest.mark.parametrize(("memory_mb", "num_recycled"), [(2999.0, 0), (3000.0, 0), (3001.0, 3)])
def test_a_worker_that_has_grown_too_large_is_replaced(tmp_path: Path, memory_mb: float, num_recycled: int):
    run = _run(tmp_path, UNITS, {}, memory_mb=memory_mb, num_workers=1)
    assert len(run.pool.recycled) == num_recycled
    assert set(run.pool.done) == ALL


def test_the_quarantine_is_kept_by_phase_and_an_item_without_its_file_is_free(tmp_path: Path):
    quarantine = Quarantine(tmp_path)
    quarantine.add(_unit("a", "z"), _item("a"), reason="decode_timeout", detail="d", trace="t")
    quarantine.add(_unit("b", phase="encode"), _item("b"), reason="internal_error", detail="d", trace="")
    assert set(quarantine.load("score", "f")) == {"a"}
    assert set(quarantine.load("encode", "f")) == {"b"}
    assert quarantine.load("probe", "f") == {}
    path = tmp_path / quarantine.load("score", "f")["a"].detail.split()[2]
    assert path == tmp_path / "work" / "quarantine" / "score" / "a.json"
    path.unlink()
    assert quarantine.load("score", "f") == {}


def test_what_was_set_aside_under_other_settings_is_tried_again(tmp_path: Path):
    quarantine = Quarantine(tmp_path)
    quarantine.add(_unit("a"), _item("a"), reason="decode_timeout", detail="d", trace="t")
    quarantine.add(_unit("b", fingerprint="g"), _item("b"), reason="decode_timeout", detail="d", trace="t")
    assert set(quarantine.load("score", "f")) == {"a"}
    assert set(quarantine.load("score", "g")) == {"b"}
    assert quarantine.load("score", "h") == {}
    assert quarantine.load("score", "f")["a"] == QuarantineEntry(
        id="a",
        path="a.mp4",
        reason="decode_timeout",
        detail="d" + _again("score", "a"),
        trace="t",
        fingerprint="f",
    )
    quarantine.add(_unit("a", fingerprint="g"), _item("a"), reason="internal_error", detail="d", trace="")
    assert quarantine.load("score", "f") == {}
    assert set(quarantine.load("score", "g")) == {"a", "b"}


# --- the environment and the names of workers


def test_a_worker_counts_one_thread_and_gives_memory_back():
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    memory = {"MALLOC_MMAP_THRESHOLD_": "262144", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    assert {**dict.fromkeys(names, "1"), **memory} == WORKER_VARIABLES
    base = {"PATH": "/bin", "OMP_NUM_THREADS": "8"}
    assert environment(base) == {"PATH": "/bin", **WORKER_VARIABLES}
    assert base == {"PATH": "/bin", "OMP_NUM_THREADS": "8"}, "the driver's own was changed"


class NoProcess:
    """Stands for a child; nothing is started."""

    def __init__(self, name: str, setup: dict, gpu: int | None, answers: object) -> None:
        self.name, self.unit, self.gpu = name, None, gpu

    def stop(self) -> None:
        pass


def test_workers_of_several_hosts_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch):
    """Process ids repeat from host to host, and the folder of beats is shared."""
    monkeypatch.setattr(local_pool, "_Child", NoProcess)
    pools = [
        local_pool.LocalPool(GpuShare(num_workers=4), WorkerSetup(config={}, root="", dataset="")) for _ in range(2)
    ]
    for pool in pools:
        pool.recycle(pool._children[0].name)
    names = [child.name for pool in pools for child in pool._children]
    assert len(set(names)) == 8
    assert all(re.fullmatch("local-[0-9a-f]{12}", name) for name in names)
