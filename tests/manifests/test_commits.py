"""The commit log: what is done, once, and only when it is whole."""

import json
import threading
from pathlib import Path

import pytest

from hs_data.manifests.commits import Commit, CommitLog, CommittedFile
from hs_data.manifests.errors import DatasetError


def _commit(unit: str = "u1", phase: str = "score", fingerprint: str = "f1", **values) -> Commit:
    return Commit(
        phase=phase, unit=unit, fingerprint=fingerprint, **{"receipts": {"item": {"outcome": "ok"}}, **values}
    )


def test_a_commit_comes_back_as_it_went(tmp_path: Path):
    commit = _commit(
        receipts={"é": {"outcome": "ok", "cuts": [1, 2], "value": 0.1, "detail": None}},
        file=CommittedFile(path="shards/u1.parquet", sha256="00", bytes=5, rows=2),
        costs={"faces": 1.25, "footage_s": 10.0},
    )
    log = CommitLog(tmp_path)
    assert log.add(commit) is True
    assert list(CommitLog(tmp_path).load("score")) == [commit]


def test_a_unit_without_rows_commits_too(tmp_path: Path):
    log = CommitLog(tmp_path)
    assert log.add(_commit(receipts={}))
    [commit] = log.load("score")
    assert (commit.unit, commit.receipts, commit.file) == ("u1", {}, None)


def test_the_first_attempt_stands(tmp_path: Path):
    log = CommitLog(tmp_path)
    assert log.add(_commit(costs={"faces": 1.0})) is True
    assert log.add(_commit(costs={"faces": 2.0})) is False
    assert [commit.costs for commit in log.load("score")] == [{"faces": 1.0}]


@pytest.mark.parametrize("num_before", [0, 1, 2])
def test_a_later_attempt_stands_where_it_is_asked_to(tmp_path: Path, num_before: int):
    """A probe is tried again on a file that could not be read, under the unit id that it had."""
    log = CommitLog(tmp_path)
    for _ in range(num_before):
        log.add(_commit(receipts={"item": {"outcome": "unavailable"}}, costs={"probe": 1.0}))
    log.add(_commit("u2"))
    assert log.add(_commit(receipts={"item": {"outcome": "ok"}}, costs={"probe": 2.0}), replace=True) is True
    found = {commit.unit: commit for commit in log.load("score")}
    assert sorted(found) == ["u1", "u2"]
    assert (found["u1"].receipts, found["u1"].costs) == ({"item": {"outcome": "ok"}}, {"probe": 2.0})
    assert log.add(_commit(costs={"probe": 3.0})) is False
    assert sorted(path.name for path in (tmp_path / "work" / "commits" / "score").iterdir()) == ["u1.json", "u2.json"]


def test_commits_are_told_apart_by_phase_and_fingerprint_and_come_in_order(tmp_path: Path):
    log = CommitLog(tmp_path)
    for unit, phase, fingerprint in [
        ("b", "score", "f1"),
        ("a", "score", "f2"),
        ("c", "score", "f1"),
        ("a", "probe", "f1"),
    ]:
        assert log.add(_commit(unit, phase, fingerprint))
    assert [c.unit for c in log.load("score")] == ["a", "b", "c"]
    assert [c.unit for c in log.load("score", "f1")] == ["b", "c"]
    assert [c.unit for c in log.load("score", "f3")] == []
    assert [c.unit for c in log.load("encode")] == []
    assert [c.unit for c in log.load("probe")] == ["a"]


def test_what_a_crash_leaves_behind_is_no_commit(tmp_path: Path):
    log = CommitLog(tmp_path)
    log.add(_commit("u1"))
    (tmp_path / "work" / "commits" / "score" / ".u2.json.0a1b2c3d.tmp").write_text('{"half', encoding="utf-8")
    assert [c.unit for c in log.load("score")] == ["u1"]
    assert log.add(_commit("u2")) is True
    assert [c.unit for c in log.load("score")] == ["u1", "u2"]


def test_a_damaged_commit_is_named(tmp_path: Path):
    log = CommitLog(tmp_path)
    log.add(_commit("u1"))
    path = tmp_path / "work" / "commits" / "score" / "u1.json"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match=r"u1\.json: damaged"):
        list(log.load("score"))


@pytest.mark.parametrize(
    "change", [{"file": {"path": "shards/u1.parquet", "sha256": "00"}}, {"strange": 1}, {"receipts": None, "costs": 1}]
)
def test_a_commit_with_other_fields_is_named(tmp_path: Path, change: dict[str, object]):
    log = CommitLog(tmp_path)
    log.add(_commit("u1"))
    path = tmp_path / "work" / "commits" / "score" / "u1.json"
    table = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in table.items() if value is not None}))
    with pytest.raises(DatasetError, match=r"u1\.json: no commit of hs-data"):
        list(log.load("score"))


def test_of_two_attempts_that_race_one_is_recorded(tmp_path: Path):
    log, barrier = CommitLog(tmp_path), threading.Barrier(4)
    won: list[float] = []

    def attempt(number: float) -> None:
        barrier.wait()
        if log.add(_commit(costs={"attempt": number})):
            won.append(number)

    threads = [threading.Thread(target=attempt, args=(float(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert [commit.costs["attempt"] for commit in log.load("score")] == won
