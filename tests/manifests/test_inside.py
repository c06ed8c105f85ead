"""Names in an index, a table or a commit that lead out of the dataset: nothing there is read, written or removed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from hs_data.manifests.commits import Commit, CommitLog, CommittedFile
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import DatasetError
from hs_data.manifests.index import DatasetIndex, Fingerprints, hash_tables, read_index, write_index
from hs_data.manifests.storage import below, inside
from hs_data.manifests.verify import verify
from hs_data.pipeline.export.command import ExportRequest, export
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.gc import collect
from hs_data.pipeline.maintain.merge import merge
from hs_data.pipeline.maintain.reselect import reselect
from hs_data.trainer.data.clips import ClipPool

BERT = "id00002"
LEADS_OUT = "leads out of the dataset"


def _victim(tmp_path: Path) -> Path:
    """A file beside the dataset that no command may touch."""
    victim = tmp_path / "bashrc"
    if not victim.exists():
        victim.write_bytes(b"alias ls='ls --color'\n")
    return victim


@pytest.fixture
def dataset(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    return small.copy(small_dataset, tmp_path / "dataset")


def _rename_shard(dataset: Path, name: str) -> None:
    """Let index and table call the first shard by another name, with hashes that are right."""
    index = read_index(dataset)
    old = index.shards[0].path
    shards = (replace(index.shards[0], path=name), *index.shards[1:])
    table = pq.read_table(dataset / "clips.parquet")
    place = table.schema.get_field_index("shard")
    named = [name if shard == old else shard for shard in table["shard"].to_pylist()]
    table = table.set_column(place, table.schema.field(place), pa.array(named, pa.string()))
    (dataset / "clips.parquet").unlink()
    pq.write_table(table, dataset / "clips.parquet", row_group_size=4096)
    write_index(dataset, replace(index, shards=shards, tables=hash_tables(dataset)))


def _everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.lstat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["../bashrc", "/etc/passwd", "shards/../../bashrc", "", ".", "a\0b", 7, None, "link"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: object):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "link").symlink_to(_victim(tmp_path))
    with pytest.raises(DatasetError, match=f"dataset.*{LEADS_OUT}"):
        inside(tmp_path / "dataset", name)


def test_a_name_below_is_a_path_below_and_the_folder_itself_may_be_a_link(tmp_path: Path):
    (tmp_path / "disk" / "shards").mkdir(parents=True)
    (tmp_path / "dataset").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "shards" / "b.parquet").symlink_to("a.parquet")
    for name in ("shards/a.parquet", "shards/b.parquet", "work/not/there"):
        assert inside(tmp_path / "dataset", name) == tmp_path / "dataset" / name


def test_below_a_source_folder_links_are_followed(tmp_path: Path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "link").symlink_to(_victim(tmp_path))
    assert below(tmp_path / "videos", "link").read_bytes() == _victim(tmp_path).read_bytes()
    with pytest.raises(DatasetError, match="leads out of"):
        below(tmp_path / "videos", "../bashrc")


@pytest.mark.parametrize("phase", ["score", "encode"])
@pytest.mark.parametrize("name", ["../bashrc", "absolute", "shards/../../bashrc", "dataset.json", "work/scores/link"])
def test_gc_removes_no_file_that_a_foreign_commit_names(tmp_path: Path, phase: str, name: str):
    victim, root = _victim(tmp_path), tmp_path / "dataset"
    log = CommitLog(root)
    file = CommittedFile(path=str(victim) if name == "absolute" else name, sha256="0" * 64, bytes=1, rows=1)
    log.add(Commit(phase=phase, unit="foreign", fingerprint="f", receipts={}, file=file))
    (root / "work" / "scores").mkdir()
    (root / "work" / "scores" / "link").symlink_to(victim)
    write_index(
        root,
        DatasetIndex(
            hs_data_version="0",
            key="made up",
            source="folder",
            preset="cpu",
            config={},
            selection={},
            built_select={},
            fingerprints=Fingerprints(score="s", encode="e"),
            models=(),
        ),
    )
    before = _everything(tmp_path)
    with pytest.raises(DatasetError, match=rf"work/commits/{phase}/foreign\.json: .*{LEADS_OUT}|is no shard"):
        collect(root, delete=True, min_age_h=0)
    assert _everything(tmp_path) == before


@pytest.mark.parametrize("folder", ["shards", "work/scores", "report/previews", "selections"])
def test_gc_and_forget_clean_up_in_no_folder_elsewhere(dataset: Path, tmp_path: Path, folder: str):
    """A folder that is a link, say to the shards of another dataset, holds nothing that this one names."""
    shutil.copytree(dataset / folder, tmp_path / "elsewhere", dirs_exist_ok=True) if (dataset / folder).exists() else (
        tmp_path / "elsewhere"
    ).mkdir()
    for name in ("orphan.parquet", "film.mp4", ".x.0a1b2c3d.tmp"):
        (tmp_path / "elsewhere" / name).write_bytes(b"x")
        os.utime(tmp_path / "elsewhere" / name, (0, 0))
    shutil.rmtree(dataset / folder, ignore_errors=True)
    (dataset / folder).symlink_to(tmp_path / "elsewhere")
    before = _everything(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=LEADS_OUT):
        collect(dataset, delete=True, min_age_h=0)
    with pytest.raises(DatasetError, match=LEADS_OUT):
        forget(dataset, source=None, identity=BERT, dry_run=False)
    assert _everything(tmp_path / "elsewhere") == before


def _verify(dataset: Path) -> object:
    return list(verify(open_dataset(dataset)))


def _forget(dataset: Path) -> object:
    return forget(dataset, source=None, identity=BERT, dry_run=False)


def _select(dataset: Path) -> object:
    return reselect(dataset, assignments=["select.min_face_px=1"], config_file=None, reset=False, dry_run=False)


def _export(dataset: Path) -> object:
    request = ExportRequest(dataset=dataset, kind="hf", output=dataset.parent / "out", root=dataset)
    return export(request, Console(quiet=True))


def _train(dataset: Path) -> object:
    pool = ClipPool(dataset, split="train")
    return [pool.frames(place)["latent"] for place in range(len(pool))]


@pytest.mark.parametrize("do", [_verify, _forget, _select, _export, _train])
@pytest.mark.parametrize("way", ["up", "absolute", "link"])
def test_no_command_follows_a_shard_name_out(dataset: Path, tmp_path: Path, do: Callable[[Path], Any], way: str):
    """The bytes outside are those of a whole shard, so that nothing but the name is wrong."""
    shard = dataset / read_index(dataset).shards[0].path
    outside = tmp_path / "outside.parquet"
    shutil.copy(shard, outside)
    if way == "link":
        shard.unlink()
        shard.symlink_to(outside)
    else:
        _rename_shard(dataset, "../outside.parquet" if way == "up" else str(outside))
    before = _everything(tmp_path)
    with pytest.raises(DatasetError, match=LEADS_OUT) as caught:
        do(dataset)
    assert "\n" not in str(caught.value)
    assert _everything(tmp_path) == before


def test_no_shard_is_opened_by_a_name_that_only_the_table_has(dataset: Path, tmp_path: Path):
    index = read_index(dataset)
    shutil.copy(dataset / index.shards[0].path, tmp_path / "outside.parquet")
    _rename_shard(dataset, "../outside.parquet")
    write_index(dataset, replace(index, tables=hash_tables(dataset)))
    with pytest.raises(DatasetError, match=LEADS_OUT):
        _verify(dataset)
    with pytest.raises(DatasetError, match=LEADS_OUT):
        open_dataset(dataset).shard("../outside.parquet")


def test_merge_writes_nothing_beside_its_output(dataset: Path, small: ModuleType, small_dataset: Path, tmp_path: Path):
    other = small.copy(small_dataset, tmp_path / "deep" / "other")
    shutil.copy(other / read_index(other).shards[0].path, tmp_path / "deep" / "bashrc")
    _rename_shard(other, "../bashrc")
    victim = _victim(tmp_path)  # what `../bashrc` means beside the output
    before = victim.read_bytes()
    with pytest.raises(DatasetError, match=LEADS_OUT):
        merge(tmp_path / "out", [other, dataset])
    assert victim.read_bytes() == before
    assert not (tmp_path / "out").exists()


def test_a_source_file_is_looked_for_below_its_folder_only(dataset: Path, tmp_path: Path):
    table = pq.read_table(dataset / "clips.parquet")
    place = table.schema.get_field_index("path")
    paths = pa.array(["../bashrc"] * len(table), pa.string())
    (dataset / "clips.parquet").unlink()
    pq.write_table(table.set_column(place, table.schema.field(place), paths), dataset / "clips.parquet")
    _victim(tmp_path)
    with pytest.raises(DatasetError, match=r"\.\./bashrc leads out of"):
        _export(dataset)


def test_the_command_says_so_in_one_line(dataset: Path):
    _rename_shard(dataset, "../bashrc")
    words = [sys.executable, "-m", "hs_data.cli", "verify", str(dataset)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if line.strip()]
    assert f"../bashrc {LEADS_OUT}" in line
    assert done.stdout == ""
