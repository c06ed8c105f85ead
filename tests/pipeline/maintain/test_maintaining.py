"""Merge, split and gc: nothing is lost, nobody is in two splits, and what a resume needs stays."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_data.manifests import tables
from hs_data.manifests.commits import Commit, CommitLog, CommittedFile
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import ConfigError, DatasetError
from hs_data.manifests.index import DatasetIndex, hash_tables, read_index, write_index
from hs_data.manifests.shards import Shard, ShardWriter
from hs_data.manifests.storage import read_json, sha256_file, write_json
from hs_data.manifests.verify import verify
from hs_data.pipeline.maintain import merge as merging
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.gc import collect
from hs_data.pipeline.maintain.merge import merge
from hs_data.pipeline.maintain.resplit import resplit
from hs_data.pipeline.run.command import _check_output
from hs_data.pipeline.splits import overlaps

ANNA, BERT = "id00001", "id00002"


@pytest.fixture
def dataset(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    return small.copy(small_dataset, tmp_path / "dataset")


@pytest.fixture
def of_anna(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    path = small.copy(small_dataset, tmp_path / "anna")
    forget(path, source=None, identity=BERT, dry_run=False)
    (path / "forgotten.json").unlink()  # as if it had been built of her files alone
    return path


@pytest.fixture
def of_bert(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    path = small.copy(small_dataset, tmp_path / "bert")
    forget(path, source=None, identity=ANNA, dry_run=False)
    (path / "forgotten.json").unlink()
    return path


def frames(path: Path) -> dict[str, dict[str, bytes]]:
    opened = open_dataset(path)
    return {c.clip_id: {n: opened.read(c, n).tobytes() for n in ("latent", "pcm", "logmel")} for c in opened}


def change_index(path: Path, **changes: Any) -> None:
    write_index(path, replace(read_index(path), **changes))


def change_clips(path: Path, **columns: Any) -> None:
    """Set columns to one value, as an index with the right hashes says."""
    table = open_dataset(path).clips()
    for name, value in columns.items():
        place = table.schema.get_field_index(name)
        field = table.schema.field(name)
        table = table.set_column(place, field, pa.array([value] * len(table), field.type))
    (path / "clips.parquet").unlink()
    pq.write_table(table, path / "clips.parquet")
    change_index(path, tables=hash_tables(path))


# --- merge


def test_two_parts_make_the_whole(small: ModuleType, dataset: Path, of_anna: Path, of_bert: Path, tmp_path: Path):
    out = tmp_path / "out"
    told = merge(out, [of_anna, of_bert])
    whole = open_dataset(dataset)
    assert (told["datasets"], told["clips"], told["doubles"]) == (2, len(whole.clips(["clip_id"])), 0)
    assert frames(out) == frames(dataset)
    merged = open_dataset(out)
    assert merged.index.counts == whole.index.counts
    assert overlaps(merged.clips()) == []
    assert list(verify(merged)) == []
    assert told["shards_linked"] == len(merged.index.shards)
    assert all((out / entry.path).stat().st_nlink >= 2 for entry in merged.index.shards)
    with pytest.raises(ConfigError, match="is a dataset already"):
        merge(out, [of_anna, of_bert])
    with pytest.raises(ConfigError, match="was merged from several"):
        _check_output(out, tmp_path / "elsewhere", None)


def test_what_several_hold_is_kept_once(dataset: Path, of_anna: Path, tmp_path: Path):
    told = merge(tmp_path / "out", [of_anna, dataset], copy=True)
    assert told["doubles"] == len(open_dataset(of_anna).clips(["clip_id"]))
    assert (told["shards_linked"], told["shards_copied"] > 0) == (0, True)
    assert frames(tmp_path / "out") == frames(dataset)
    assert open_dataset(tmp_path / "out").index.counts == open_dataset(dataset).index.counts
    assert list(verify(open_dataset(tmp_path / "out"))) == []


def test_without_links_shards_are_copied_and_told(of_anna: Path, of_bert: Path, tmp_path: Path, monkeypatch):
    def refuse(*words: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(merging.os, "link", refuse)
    told = merge(tmp_path / "out", [of_anna, of_bert])
    assert (told["shards_linked"], told["shards_copied"]) == (0, len(open_dataset(tmp_path / "out").index.shards))


def test_a_merge_that_was_killed_goes_on(of_anna: Path, of_bert: Path, tmp_path: Path, monkeypatch):
    def die(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_index", die)
        with pytest.raises(KeyboardInterrupt):
            merge(tmp_path / "out", [of_anna, of_bert])
    told = merge(tmp_path / "out", [of_anna, of_bert])
    assert (told["shards_linked"], told["shards_there"]) == (0, len(open_dataset(tmp_path / "out").index.shards))
    assert list(verify(open_dataset(tmp_path / "out"))) == []


def test_what_one_was_told_to_forget_is_not_brought_back_by_another(dataset: Path, of_anna: Path, tmp_path: Path):
    forget(dataset, source="aaaaaaaaaaa", identity=None, dry_run=False)
    wanted = set(frames(of_anna)) - set(frames(dataset))
    assert len(wanted) == 1
    merge(tmp_path / "out", [of_anna, dataset])
    assert frames(tmp_path / "out") == frames(dataset)
    assert list(verify(open_dataset(tmp_path / "out"))) == []
    assert wanted < set(frames(of_anna)), "its own copy stays, shards are never changed in place"


def _other_schema(path: Path) -> None:
    change_index(path, schema_version=1)


def _other_settings(path: Path) -> None:
    index = read_index(path)
    crop = index.config["crop"] | {"policy": "static"}
    change_index(path, fingerprints=replace(index.fingerprints, encode="x"), config=index.config | {"crop": crop})


def _other_limits(path: Path) -> None:
    index = read_index(path)
    select = index.config["select"] | {"min_face_px": 7.0}
    change_index(path, config=index.config | {"select": select})


def _other_contract(path: Path) -> None:
    entry = read_json(path / "dataset.json")["shards"][0]
    shard = Shard(path / entry["path"])
    with ShardWriter(path / "other", shard.columns, shard.contract | {"latent": {"id": "other"}}) as writer:
        for group in range(shard.num_row_groups):
            writer.write_clip(shard.clip_id(group), {name: shard.read(group, name) for name in shard.columns})
    (path / "other").replace(path / entry["path"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_schema, "made by an earlier hs-data .schema 1"),
        (_other_settings, "crop.policy static instead of highsync"),
        (_other_limits, "other limits .* select.min_face_px 7.0 instead of"),
        (_other_contract, "another contract"),
    ],
)
def test_what_was_not_built_alike_is_refused(of_anna: Path, of_bert: Path, tmp_path: Path, change, words: str):
    change(of_bert)
    with pytest.raises(DatasetError, match=words):
        merge(tmp_path / "out", [of_anna, of_bert])
    assert not (tmp_path / "out").exists()


def test_one_person_in_two_splits_is_told_and_can_be_mended(of_anna: Path, of_bert: Path, tmp_path: Path):
    change_clips(of_anna, split="train", identity="same")
    change_clips(of_bert, split="val", identity="same")
    with pytest.raises(DatasetError, match=r"identity same is in train and val \(1 such\); merge with --resplit"):
        merge(tmp_path / "out", [of_anna, of_bert])
    merge(tmp_path / "out", [of_anna, of_bert], resplit=True)
    merged = open_dataset(tmp_path / "out").clips(["identity", "youtube_id", "video_id", "split"])
    assert overlaps(merged) == []
    assert len(set(merged["split"].to_pylist())) == 1


# --- split


def test_splits_are_assigned_again_and_no_shard_is_touched(small: ModuleType, dataset: Path, small_videos: Path):
    shards = small.times(dataset / "shards")
    told = resplit(dataset, assignments=["select.val_share=0.0", "select.test_share=0.999"], dry_run=False)
    splits = set(open_dataset(dataset).clips(["split"])["split"].to_pylist())
    assert splits == {"test"}
    assert told["moved"] == len(open_dataset(dataset).clips(["split"]))
    assert small.times(dataset / "shards") == shards
    assert list(verify(open_dataset(dataset))) == []
    again = small.times(dataset)
    assert resplit(dataset, assignments=[], dry_run=False)["moved"] == 0
    assert small.times(dataset) == again
    small.build(small_videos, dataset)  # a build keeps them
    assert set(open_dataset(dataset).clips(["split"])["split"].to_pylist()) == {"test"}
    assert small.times(dataset / "shards") == shards


def test_a_dry_run_of_a_split_writes_nothing(small: ModuleType, dataset: Path):
    before = small.times(dataset)
    told = resplit(dataset, assignments=["select.val_share=0.0", "select.test_share=0.999"], dry_run=True)
    assert told["moved"] > 0
    assert told["train"].startswith("0 clips")
    assert small.times(dataset) == before


def test_a_split_is_finished_when_it_was_killed_between_its_files(dataset: Path, monkeypatch: pytest.MonkeyPatch):
    words = ["select.val_share=0.0", "select.test_share=0.999"]
    write, calls = tables.write_index, iter("ab")

    def die_at_the_second(root: Path, index: DatasetIndex) -> None:
        if next(calls) == "b":
            raise KeyboardInterrupt
        write(root, index)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_index", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            resplit(dataset, assignments=words, dry_run=False)
    [fault] = verify(open_dataset(dataset))
    assert (fault.where, fault.what.partition(":")[0]) == ("clips.parquet", "is new and dataset.json is not")
    resplit(dataset, assignments=words, dry_run=False)
    assert list(verify(open_dataset(dataset))) == []


def test_other_settings_decide_on_no_split(dataset: Path):
    for word in ("select.min_face_px=3", "splits.val_share=0.1"):
        with pytest.raises(ConfigError, match=r"choose one of select\.val_share"):
            resplit(dataset, assignments=[word], dry_run=False)


# --- gc


def waste(path: Path, **options: Any) -> dict[str, tuple[int, int]]:
    return {row.what: (row.files, row.bytes) for row in collect(path, **{"delete": False, **options})}


def test_after_gc_a_build_does_no_work_and_writes_no_byte(small: ModuleType, dataset: Path, small_videos: Path):
    assert set(waste(dataset)) == set()
    collect(dataset, delete=True, min_age_h=0)
    before = small.times(dataset)
    small.build(small_videos, dataset)
    assert small.times(dataset) == before


def test_what_killed_runs_left_is_freed_when_it_is_old(small: ModuleType, dataset: Path):
    half, orphan = dataset / "shards" / ".x.parquet.0a1b2c3d.tmp", dataset / "work" / "scores" / "lost-1.parquet"
    film = dataset / "report" / "previews" / "gone.mp4"
    film.parent.mkdir(exist_ok=True)
    for path, size in ((half, 1000), (orphan, 200), (film, 30)):
        path.write_bytes(b"x" * size)
    assert waste(dataset) == {"films of clips that are gone": (1, 30)}
    for path in (half, orphan):
        os.utime(path, (0, 0))
    found = {
        "films of clips that are gone": (1, 30),
        "shards and scores that nothing names": (1, 200),
        "temporary files of killed writers": (1, 1000),
    }
    before = small.times(dataset)
    assert waste(dataset) == found
    assert small.times(dataset) == before
    assert waste(dataset, delete=True) == found
    assert waste(dataset) == {}
    assert not half.exists()
    assert not orphan.exists()
    assert list(verify(open_dataset(dataset))) == []


def _commit_of_others(dataset: Path, fingerprint: str) -> Path:
    shard = dataset / "shards" / "other.parquet"
    shard.write_bytes(b"x" * 500)
    file = CommittedFile(path="shards/other.parquet", sha256=sha256_file(shard), bytes=500, rows=1)
    log = CommitLog(dataset)
    log.add(
        Commit(
            phase="encode",
            unit="other",
            fingerprint=fingerprint,
            receipts={"c+0": {"row_group": 0}},
            file=file,
            costs={"crop": 9.0},
        )
    )
    return shard


def test_shards_of_other_settings_are_freed_with_their_commits(small: ModuleType, small_videos: Path, dataset: Path):
    shard = _commit_of_others(dataset, "f2")
    assert waste(dataset, delete=True)["shards and scores of other settings"] == (1, 500)
    assert not shard.exists()
    before = small.times(dataset)
    small.build(small_videos, dataset)
    assert small.times(dataset) == before
    assert "other" not in {commit.unit for commit in CommitLog(dataset).load("encode")}
    assert list(verify(open_dataset(dataset))) == []


def test_what_a_killed_build_with_other_settings_has_done_stays(dataset: Path):
    """Its plan says that it may go on."""
    shard = _commit_of_others(dataset, "f2")
    plan = {"phase": "encode", "units": [{"fingerprint": "f2", "unit": "other", "items": ["c+0", "d+0"]}]}
    write_json(dataset / "work" / "plan" / "encode.json", plan)
    assert waste(dataset, delete=True, min_age_h=0).keys() <= {"last words of workers"}
    assert shard.exists()


def test_of_an_unfinished_build_only_leftovers_go(small: ModuleType, dataset: Path, small_videos: Path):
    """Its settings are written nowhere, so every commit may be needed."""
    (dataset / "dataset.json").unlink()
    shutil.rmtree(dataset / "work" / "plan")
    _commit_of_others(dataset, "f2")
    collect(dataset, delete=True, min_age_h=0)
    shards = small.times(dataset / "shards")
    assert len(shards) == 4
    small.build(small_videos, dataset)
    assert small.times(dataset / "shards") == shards
    assert not list((dataset / "work" / "plan").glob("encode*")), "nothing was done again"


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path):
    (tmp_path / "a.txt").write_text(json.dumps("mine"), encoding="utf-8")
    with pytest.raises(DatasetError, match="holds no build"):
        collect(tmp_path, delete=True)
