"""Forget: no byte of a source or a person is left anywhere, what stays is as it was, and no build brings it back."""

import base64
import itertools
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hs_data.manifests import sums
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError
from hs_data.manifests.forgotten import ForgetRequest, Forgotten, drop_forgotten, hash_name
from hs_data.manifests.index import hash_tables, read_index, write_index
from hs_data.manifests.storage import sha256_file
from hs_data.manifests.verify import Fault, verify
from hs_data.pipeline.maintain import forget as forgetting
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.reselect import reselect
from hs_data.pipeline.report.page import write_report

ANNA, BERT = "id00001", "id00002"
FIRST = f"dev/mp4/{ANNA}/aaaaaaaaaaa/00001.mp4"
SECOND = f"dev/mp4/{ANNA}/bbbbbbbbbbb/00001.mp4"
THIRD = f"dev/mp4/{BERT}/ccccccccccc/00001.mp4"


@pytest.fixture
def dataset(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    path = small.copy(small_dataset, tmp_path / "dataset")
    changes = ["select.min_face_px=1"]
    reselect(path, assignments=changes, config_file=None, reset=False, dry_run=False, name="longer")
    return path


def needles(dataset: Path, paths: set[str], *words: str) -> dict[str, bytes]:
    """Everything of some files: names, ids, faces, and the bytes of every frame's latent and sound."""
    opened = open_dataset(dataset)
    found = {word: word.encode() for word in (*paths, *words)}
    for row in opened.clips(["path", "clip_id", "video_id", "thumbnail", "boxes"]).to_pylist():
        if row["path"] in paths:
            found |= {f"{name} {row['path']}": row[name].encode() for name in ("clip_id", "video_id")}
            if row["thumbnail"]:
                found["face"] = row["thumbnail"]
                found["face in the page"] = base64.b64encode(row["thumbnail"])[-400:-4]
    ids = {row["clip_id"] for row in opened.clips(["path", "clip_id"]).to_pylist() if row["path"] in paths}
    for clip in opened.kept:
        if clip.clip_id in ids:
            for name in ("latent", "pcm", "logmel", "crop"):
                for frame in (0, clip.num_frames // 2, clip.num_frames - 1):
                    found[f"{name} {frame} of {clip.clip_id}"] = opened.read(clip, name, frame, frame + 1).tobytes()
    return found


def contents(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, and of Parquet the values of every column, unpacked."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        for column in table.columns:
            for value in column.to_pylist() if not _is_blob(column.type) else []:
                yield value if isinstance(value, bytes) else str(value).encode()


def _is_blob(kind: pa.DataType) -> bool:
    """Blobs are stored as they are: the file's own bytes were searched already."""
    return pa.types.is_fixed_size_binary(kind)


def traces(dataset: Path, wanted: dict[str, bytes]) -> set[tuple[str, str]]:
    return {
        (path.relative_to(dataset).as_posix(), name)
        for path in dataset.rglob("*")
        if path.is_file()
        for content in contents(path)
        for name, needle in wanted.items()
        if needle in content
    }


def latents(dataset: Path, but: set[str]) -> dict[str, bytes]:
    opened = open_dataset(dataset)
    ids = {row["clip_id"] for row in opened.clips(["path", "clip_id"]).to_pylist() if row["path"] in but}
    return {clip.clip_id: opened.read(clip, "latent").tobytes() for clip in opened if clip.clip_id not in ids}


def untouched(dataset: Path) -> dict[str, str]:
    """Return the hash of all that makes a dataset, its key and its report left out."""
    files = [path for path in dataset.rglob("*") if path.is_file() and path.parent.name != "report"]
    return {path.relative_to(dataset).as_posix(): sha256_file(path) for path in sorted(files)}


@pytest.mark.parametrize(
    ("asked", "gone"),
    [
        ({"source": FIRST}, {FIRST}),
        ({"source": "bbbbbbbbbbb"}, {SECOND}),
        ({"identity": ANNA}, {FIRST, SECOND}),
        ({"identity": BERT}, {THIRD}),
    ],
    ids=["path", "youtube_id", "identity", "a_whole_shard"],
)
def test_no_byte_is_left_and_the_rest_is_as_it_was(dataset: Path, asked: dict[str, str], gone: set[str]):
    wanted = needles(dataset, gone, *asked.values())
    assert {place for place, _ in traces(dataset, wanted)} >= {"clips.parquet", "videos.parquet", "report/index.html"}
    assert any(name.startswith("latent") for _, name in traces(dataset, wanted))
    write_report(open_dataset(dataset, "longer"), {})
    own = {place for place, _ in traces(dataset, wanted) if place.startswith("selections/longer/")}
    assert {place.split("/", 2)[2] for place in own} >= {"verdicts.parquet", "report/index.html"}
    staying = latents(dataset, gone)
    summary = forget(dataset, **{"source": None, "identity": None, **asked}, dry_run=False)
    assert summary["videos"] == len(gone)
    assert traces(dataset, wanted) == set()
    assert list(verify(open_dataset(dataset))) == []
    assert latents(dataset, set()) == staying
    assert len(open_dataset(dataset, "longer").clips()) == len(open_dataset(dataset).clips())
    assert (dataset / "selections" / "longer" / "report" / "index.html").is_file()
    assert {row["path"] for row in open_dataset(dataset).videos(["path"]).to_pylist()} == {FIRST, SECOND, THIRD} - gone


def test_the_sha256_of_a_file_names_it_too_and_its_copies_go_with_it(small_videos: Path, dataset: Path):
    video_id = sha256_file(small_videos / FIRST)
    rows = open_dataset(dataset).videos()
    copy = rows.filter(pc.field("path") == FIRST).to_pylist()[0] | {"path": "b/copy.mp4", "outcome": "duplicate"}
    copy |= {"detail": f"same content as {FIRST}", "num_clips": 0, "num_kept": 0}
    (dataset / "videos.parquet").unlink()
    pq.write_table(pa.Table.from_pylist([*rows.to_pylist(), copy], schema=rows.schema), dataset / "videos.parquet")
    write_index(dataset, replace(read_index(dataset), tables=hash_tables(dataset)))
    wanted = needles(dataset, {FIRST}, "b/copy.mp4")
    assert forget(dataset, source=video_id, identity=None, dry_run=False)["videos"] == 2
    assert traces(dataset, wanted) == set()


def test_a_dry_run_tells_the_same_and_writes_nothing(small: ModuleType, dataset: Path):
    before = small.times(dataset)
    told = forget(dataset, source=None, identity=ANNA, dry_run=True)
    assert small.times(dataset) == before
    assert told == forget(dataset, source=None, identity=ANNA, dry_run=False)
    assert (told["videos"], told["clips"], told["kept_clips"], told["kept_seconds"]) == (2, 2, 2, 17.0)
    assert (told["shards_written_anew"], told["shards_removed"]) == (1, 1)


def test_a_build_does_not_bring_it_back_and_says_so(
    small: ModuleType, small_videos: Path, dataset: Path, tmp_path: Path
):
    """Under its old name, or renamed, when only the content tells."""
    wanted = needles(dataset, {FIRST})
    forget(dataset, source=FIRST, identity=None, dry_run=False)
    others = latents(dataset, set())
    said = small.build(small_videos, dataset)
    assert "1 inputs are left out" in said
    assert traces(dataset, wanted) == set()
    assert latents(dataset, set()) == others
    renamed = tmp_path / "renamed"
    shutil.copytree(small_videos, renamed, copy_function=shutil.copy2)
    (renamed / FIRST).rename(renamed / FIRST.replace("00001.mp4", "00009.mp4"))
    assert "1 inputs are left out" in small.build(renamed, dataset)
    assert traces(dataset, wanted) == set()
    assert list(verify(open_dataset(dataset))) == []


class Killed(BaseException):
    """The process is gone."""


def die_at(real: Any, root: Path, moments: Iterator[int], last: int) -> Any:
    """Wrap a method of `Path` so that its call number `last` below a folder kills, that of all wrapped together."""

    def call(self: Path, *words: Any, **options: Any) -> Any:
        is_counted = self.is_relative_to(root) and not (real.__name__ == "unlink" and self.suffix == ".tmp")
        if is_counted and next(moments) == last:
            raise Killed
        return real(self, *words, **options)

    return call


def test_killed_at_any_write_it_is_finished_by_the_next_call(
    small: ModuleType, small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every rename and removal of a file is a moment to die at."""
    short = dict.fromkeys(sums.SUMMED, b"short")
    report = lambda dataset, costs: sums.write_summed(dataset.path, short)  # noqa: E731
    monkeypatch.setattr(forgetting, "write_report", report)
    whole = small.copy(small_dataset, tmp_path / "whole")
    wanted = needles(whole, {FIRST})
    forget(whole, source=FIRST, identity=None, dry_run=False)
    expected, moment = untouched(whole), 0
    while True:
        broken = small.copy(small_dataset, tmp_path / f"broken{moment}")
        with monkeypatch.context() as patch:
            moments = itertools.count()
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, die_at(getattr(Path, name), broken, moments, moment))
            try:
                forget(broken, source=FIRST, identity=None, dry_run=False)
            except Killed:
                moment += 1
            else:
                break
        if moment > 1:  # at the first moment the request is not written down yet
            assert "forgotten.json" in {fault.where for fault in verify(open_dataset(broken))}
        forget(broken, source=None if moment > 1 else FIRST, identity=None, dry_run=False)
        assert untouched(broken) == expected, moment
        assert traces(broken, wanted) == set()
        assert list(verify(open_dataset(broken))) == []
    assert moment > 8


def test_what_a_killed_writer_left_goes_too(dataset: Path):
    opened = open_dataset(dataset)
    half = dataset / "shards" / ".x.parquet.0a1b2c3d.tmp"
    half.write_bytes(opened.read(opened.kept[0], "latent").tobytes())
    orphan = dataset / "shards" / "orphan.parquet"
    shutil.copy(dataset / opened.kept[0].shard, orphan)
    forget(dataset, source=SECOND, identity=None, dry_run=False)
    assert not half.exists()
    assert not orphan.exists()


def test_what_is_asked_wrongly_is_refused(small: ModuleType, dataset: Path):
    before = small.times(dataset)
    for asked, words in [
        ({"source": "nobody.mp4", "identity": None}, "nothing is named nobody.mp4"),
        ({"source": None, "identity": "id9"}, "nothing is named id9"),
        ({"source": None, "identity": None}, "nothing is named; give"),
        ({"source": FIRST, "identity": ANNA}, "one at a time"),
    ]:
        with pytest.raises(ConfigError, match=words):
            forget(dataset, **asked, dry_run=False)
    assert small.times(dataset) == before


def test_asking_twice_is_asking_once(small: ModuleType, dataset: Path):
    forget(dataset, source=FIRST, identity=None, dry_run=False)
    before = small.times(dataset)
    assert forget(dataset, source=FIRST, identity=None, dry_run=False)["note"] == "forgotten before"
    assert small.times(dataset) == before


def test_the_list_holds_hashes_and_no_names(dataset: Path):
    forget(dataset, source=FIRST, identity=None, dry_run=False)
    table = json.loads((dataset / "forgotten.json").read_text(encoding="utf-8"))
    [request] = table["requests"]
    assert (table["finished"], request["asked"], request["videos"], request["clips"]) == (True, "path", 1, 1)
    assert hash_name("path", FIRST) in request["names"]
    assert all(len(name) == 64 for name in request["names"])


def _request(kind: str, name: str) -> ForgetRequest:
    hashed = hash_name(kind, name)
    return ForgetRequest(asked=kind, name=hashed, names=(hashed,), videos=1, clips=1)


def test_verify_tells_of_what_is_not_finished_and_of_what_came_back(dataset: Path):
    forgotten = Forgotten(dataset)
    forgotten.add([_request("path", FIRST)])
    assert [fault.where for fault in verify(open_dataset(dataset))] == ["forgotten.json"]
    forgotten.finish()
    [fault] = verify(open_dataset(dataset))
    assert fault == Fault(where=fault.where, what="was to be forgotten")


def _input(path: str, identity: str | None = None, spans: tuple[str | None, ...] = ()) -> dict[str, Any]:
    return {"path": path, "identity": identity, "youtube_id": None, "spans": [{"identity": name} for name in spans]}


def test_a_person_is_left_out_of_a_file_that_others_share(tmp_path: Path):
    """A file without the spans of its others would be taken whole, so it goes when none is left."""
    forgotten = Forgotten(tmp_path)
    forgotten.add([_request("identity", "anna")])
    assert Forgotten(tmp_path).requests == forgotten.requests, "as it is read again"
    inputs = [
        _input("both.mp4", None, ("anna", "bert")),
        _input("hers.mp4", None, ("anna",)),
        _input("named.mp4", "anna"),
        _input("of_bert.mp4", "bert", (None, None)),
        _input("of_anna.mp4", "anna", (None, "bert")),
    ]
    left = drop_forgotten(inputs, forgotten)
    assert [(item["path"], [span["identity"] for span in item["spans"]]) for item in left] == [
        ("both.mp4", ["bert"]),
        ("of_bert.mp4", [None, None]),
        ("of_anna.mp4", ["bert"]),
    ]
