"""Durable writes: whole or absent, created once, and equal things have equal digests."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hs_data.manifests import storage
from hs_data.manifests.errors import DatasetError


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- atomic_path


def test_a_failure_leaves_nothing(tmp_path: Path):
    def fail(target: Path) -> None:
        with storage.atomic_path(target) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail(tmp_path / "new" / "file.bin")
    assert _names(tmp_path / "new") == []


def test_a_failure_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def fail() -> None:
        with storage.atomic_path(target) as temporary:
            temporary.write_bytes(b"ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_bytes() == b"old"
    assert _names(tmp_path) == ["file.bin"]


def test_the_temporary_file_is_hidden_and_beside_its_target(tmp_path: Path):
    with storage.atomic_path(tmp_path / "clips.parquet") as temporary:
        temporary.write_bytes(b"x")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".tmp", "a reader that looks for *.parquet must not see it"
        assert not (tmp_path / "clips.parquet").exists()
    assert _names(tmp_path) == ["clips.parquet"]


def test_a_reader_never_sees_a_half_file(tmp_path: Path):
    target, size, rounds = tmp_path / "file.bin", 300_000, 40
    storage.write_bytes(target, b"a" * size)
    seen: set[tuple[int, bytes]] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            content = target.read_bytes()
            seen.add((len(content), bytes(sorted(set(content)))))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(rounds):
        storage.write_bytes(target, (b"b" if number % 2 == 0 else b"a") * size)
    stop.set()
    reader.join()
    assert seen <= {(size, b"a"), (size, b"b")}
    assert seen


# --- write_bytes, json


def test_equal_content_is_not_written_again(tmp_path: Path):
    target = tmp_path / "a" / "file.bin"
    storage.write_bytes(target, b"same")
    os.utime(target, ns=(1_000, 1_000))
    inode = target.stat().st_ino
    storage.write_bytes(target, b"same")
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == (1_000, inode)
    storage.write_bytes(target, b"diff")  # of the same length
    assert target.read_bytes() == b"diff"
    assert target.stat().st_mtime_ns != 1_000


def test_json_comes_back_as_it_went(tmp_path: Path):
    value = {"b": [1, 2.5, None, True], "a": {"é": "名"}}
    storage.write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert storage.read_json(tmp_path / "x.json") == value
    assert text.index('"b"') < text.index('"a"'), "people read it in the order given"
    assert "名" in text


def test_json_that_cannot_be_read_back_is_not_written(tmp_path: Path):
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b'{"a": 1', "damaged"), (b"\xff", "damaged")]
)
def test_bad_json_is_named(tmp_path: Path, content: bytes | None, words: str):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        storage.read_json(path)
    assert str(path) in str(caught.value)


# --- create_if_absent


def test_the_first_one_stands(tmp_path: Path):
    target = tmp_path / "new" / "marker.json"
    assert storage.create_if_absent(target, lambda path: path.write_bytes(b"first") and None) is True
    assert storage.create_if_absent(target, lambda path: path.write_bytes(b"second") and None) is False
    assert target.read_bytes() == b"first"
    assert _names(target.parent) == ["marker.json"]


def test_of_many_racing_threads_exactly_one_wins(tmp_path: Path):
    num_threads, rounds = 6, 20
    for number in range(rounds):
        target = tmp_path / f"{number}.json"
        barrier = threading.Barrier(num_threads)
        won: list[int] = []

        def race(me: int, target: Path = target, barrier: threading.Barrier = barrier, won: list[int] = won) -> None:
            def write(path: Path) -> None:
                path.write_text(str(me) * 1000, encoding="utf-8")
                barrier.wait()  # all have written before the first one links

            if storage.create_if_absent(target, write):
                won.append(me)

        threads = [threading.Thread(target=race, args=(me,)) for me in range(num_threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert target.read_text(encoding="utf-8") == str(won[0]) * 1000
    assert len(_names(tmp_path)) == rounds, "temporary files were left behind"


RACE = """
import sys, time
from pathlib import Path
from hs_data.manifests.storage import create_if_absent

folder, me = Path(sys.argv[1]), sys.argv[2]
(folder / f"ready-{me}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.001)
print(sum(create_if_absent(folder / f"{n}.json", lambda p: p.write_text(me) and None) for n in range(100)))
"""


def test_of_two_racing_processes_exactly_one_wins_each_file(tmp_path: Path):
    command = [sys.executable, "-c", RACE, str(tmp_path)]
    both = [subprocess.Popen([*command, me], stdout=subprocess.PIPE, text=True) for me in ("a", "b")]
    wins = [int(process.communicate(timeout=60)[0]) for process in both]
    assert sum(wins) == 100
    written = [(tmp_path / f"{n}.json").read_text(encoding="utf-8") for n in range(100)]
    assert [written.count("a"), written.count("b")] == wins


CRASH = """
import os, sys
from pathlib import Path
from hs_data.manifests import storage

def write(path):
    path.write_text("whole")
    if sys.argv[2] == "in_write":
        os._exit(9)

os.link = lambda *names: os._exit(9)
storage.create_if_absent(Path(sys.argv[1]), write)
"""


@pytest.mark.parametrize("where", ["in_write", "before_link"])
def test_a_crash_before_the_link_leaves_no_visible_file(tmp_path: Path, where: str):
    target = tmp_path / "marker.json"
    assert subprocess.run([sys.executable, "-c", CRASH, str(target), where], check=False).returncode == 9
    assert not target.exists()
    assert list(tmp_path.glob("*.json")) == []
    assert all(name.startswith(".") for name in _names(tmp_path))
    assert storage.create_if_absent(target, lambda path: path.write_text("again", encoding="utf-8") and None) is True
    assert target.read_text(encoding="utf-8") == "again"


def test_a_writer_that_raises_leaves_nothing(tmp_path: Path):
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        storage.create_if_absent(tmp_path / "marker.json", write)
    assert _names(tmp_path) == []


# --- digests


def test_a_digest_is_the_hash_of_known_bytes():
    expected = hashlib.sha256('["clip",3,null,{"a":1,"é":0.5}]'.encode()).hexdigest()
    assert storage.digest("clip", 3, None, {"é": 0.5, "a": 1}) == expected


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (("a", "b"), ("b", "a")),
        (("ab", "c"), ("a", "bc")),
        ((["a"], "b"), (["a", "b"],)),
        ((1,), ("1",)),
        ((1,), (1.5,)),
        ((None,), ("",)),
        ((), (None,)),
    ],
    ids=["order", "border", "nesting", "number_or_text", "value", "none_or_empty", "length"],
)
def test_different_parts_have_different_digests(left: tuple, right: tuple):
    assert storage.digest(*left) != storage.digest(*right)


def test_a_digest_does_not_depend_on_the_order_of_keys_or_on_tuple_or_list():
    assert storage.digest({"a": 1, "b": 2}, (1, 2)) == storage.digest({"b": 2, "a": 1}, [1, 2])


def test_nan_has_no_digest():
    with pytest.raises(ValueError, match="JSON"):
        storage.digest(float("nan"))


@pytest.mark.parametrize("size", [0, 1, storage.CHUNK_BYTES, 2 * storage.CHUNK_BYTES + 17])
def test_a_file_is_hashed_whole(tmp_path: Path, size: int):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "f").write_bytes(content[:size])
    assert storage.sha256_file(tmp_path / "f") == hashlib.sha256(content[:size]).hexdigest()


def test_sweep_removes_only_what_no_writer_can_still_hold(tmp_path):
    old, new, other = tmp_path / ".a.parquet.1.tmp", tmp_path / ".b.parquet.2.tmp", tmp_path / "c.parquet"
    for path in (old, new, other):
        path.write_bytes(b"x")
    os.utime(old, (1.0, 1.0))
    os.utime(other, (1.0, 1.0))
    storage.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, other.name]
