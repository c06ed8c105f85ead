"""A driver holds no column that is as long as a clip, and no picture: what is bulky is copied where it is written."""

import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_data.manifests import clip_rows
from hs_data.manifests.clip_rows import RowLocations, write_clips
from hs_data.manifests.dataset import Dataset, open_dataset
from hs_data.manifests.schema import BULKY
from hs_data.manifests.verify import verify
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.merge import merge
from hs_data.pipeline.maintain.reselect import reselect
from hs_data.pipeline.maintain.resplit import resplit
from hs_data.pipeline.run import build, restore
from hs_data.pipeline.run.ledger import read_scores
from hs_data.pipeline.score.registry import CLIP_SCHEMA, LIGHT, SCORE_SCHEMA, SCORES

NUM_ROWS = 200


@pytest.fixture(scope="module")
def made(scale: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of ten made-up files, two units of scores; tests change copies."""
    folder = tmp_path_factory.mktemp("scale")
    scale.make(folder, NUM_ROWS)
    return folder


@pytest.fixture
def dataset(made: Path, small: ModuleType, tmp_path: Path) -> Path:
    small.copy(made / "videos", tmp_path / "videos")
    return small.copy(made / "dataset", tmp_path / "dataset")


@pytest.fixture
def no_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a table that is read of all clips with a bulky column fail."""
    read = Dataset.clips

    def light(self: Dataset, columns: list[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
        assert columns is not None
        assert not set(columns) & set(BULKY)
        return read(self, columns, schema)

    monkeypatch.setattr(Dataset, "clips", light)


def _bulk(dataset: Path) -> dict[str, dict[str, object]]:
    return {row["clip_id"]: row for row in pq.read_table(dataset / "clips.parquet").to_pylist()}


def test_a_build_judges_light_columns_and_writes_all(scale: ModuleType, dataset: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(build, "read_scores", lambda *words: seen.append(read_scores(*words)) or seen[0])
    before = (dataset / "clips.parquet").read_bytes()
    (dataset / "dataset.json").unlink()
    (dataset / "clips.parquet").unlink()
    build.Build(scale._request(dataset.parent), scale._display()).run()
    assert seen[0].column_names == [*SCORES, "scores_file", "scores_row"]
    assert len(seen[0]) == NUM_ROWS
    assert (dataset / "clips.parquet").read_bytes() == before
    clips, scores = _bulk(dataset), {}
    for path in sorted((dataset / "work" / "scores").glob("*.parquet")):
        scores |= {row["clip_id"]: row for row in pq.read_table(path).to_pylist()}
    assert len(clips) == NUM_ROWS
    for clip_id, row in clips.items():
        assert {name: row[name] for name in BULKY} == {name: scores[clip_id][name] for name in BULKY}
    assert list(verify(open_dataset(dataset))) == []


@pytest.mark.parametrize("group", [7, 64, 4096])
def test_row_groups_are_those_of_a_table_written_whole(
    dataset: Path, tmp_path: Path, group: int, monkeypatch: pytest.MonkeyPatch
):
    """Chunks, files and row groups of any size meet in every way, and the bytes are the same."""
    monkeypatch.setattr(clip_rows, "ROW_GROUP_ROWS", group)
    whole = pq.read_table(dataset / "clips.parquet", schema=CLIP_SCHEMA)
    order = np.random.default_rng(group).permutation(NUM_ROWS)
    files = [tmp_path / f"{number}.parquet" for number in range(3)]
    edges = [0, 11, 150, NUM_ROWS]
    for file, (start, end), size in zip(files, itertools.pairwise(edges), (4, 50, 4096), strict=True):
        pq.write_table(whole.slice(start, end - start), file, row_group_size=size)
    locations = RowLocations.of_tables(files, np.diff(edges).tolist())
    for name, chosen in (("same", np.arange(NUM_ROWS)), ("mixed", order), ("none", order[:0])):
        expected = whole.take(pa.array(chosen)).combine_chunks()
        pq.write_table(expected, tmp_path / "expected", compression="zstd", row_group_size=group)
        write_clips(tmp_path / name, expected.select(LIGHT), locations.take(chosen), CLIP_SCHEMA)
        assert (tmp_path / name).read_bytes() == (tmp_path / "expected").read_bytes()


def test_no_more_than_a_row_group_of_bulk_is_held(tmp_path: Path):
    """120 MB of pictures in row groups of 8 MB; a column of type `binary` ends at 2 GB."""
    number, size = 1200, 100_000
    light = pa.table(
        [pa.array([f"{n}" for n in range(number)]) if f.name == "clip_id" else _filled(f, number) for f in _fields()],
        schema=pa.schema(_fields()),
    )
    bulk = {name: pa.nulls(number, SCORE_SCHEMA.field(name).type) for name in BULKY}
    bulk["thumbnail"] = pa.array([np.random.default_rng(n).bytes(size) for n in range(number)], pa.binary())
    columns = [bulk.get(f.name, light[f.name] if f.name in LIGHT else None) for f in SCORE_SCHEMA]
    pq.write_table(pa.table(columns, schema=SCORE_SCHEMA), tmp_path / "scores", row_group_size=80)
    del bulk, columns
    before, peak = pa.total_allocated_bytes(), 0
    reader = clip_rows._BulkyRows(RowLocations.of_tables([tmp_path / "scores"], [number]))
    for start in range(0, number, 80):
        table = reader.read(start, 80)
        assert len(table["thumbnail"][0].as_py()) == size
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < number * size / 2


def _fields() -> list[pa.Field]:
    return [CLIP_SCHEMA.field(name) for name in LIGHT]


def _filled(field: pa.Field, number: int) -> pa.Array:
    word = "" if field.type == pa.string() else 0
    return pa.nulls(number, field.type) if field.nullable else pa.array([word] * number, field.type)


@pytest.mark.usefixtures("no_bulk")
def test_no_command_reads_what_is_bulky_of_all_clips(dataset: Path, small: ModuleType, tmp_path: Path):
    before = _bulk(dataset)
    options = {"config_file": None, "reset": False, "dry_run": False}
    told = reselect(dataset, assignments=["select.min_face_px=120"], **options)
    assert 0 < told["kept_now"] < told["kept_before"]
    reselect(dataset, assignments=["select.min_face_px=110"], name="other", **options)
    assert resplit(dataset, assignments=["select.val_share=0.5"], dry_run=False)["moved"] > 0
    other = small.copy(dataset, tmp_path / "other")
    [first, *_] = sorted({str(row["path"]) for row in before.values()})
    forget(dataset, source=first, identity=None, dry_run=False)
    merge(tmp_path / "merged", [other, dataset])
    for path, number in ((dataset, NUM_ROWS - 20), (tmp_path / "merged", NUM_ROWS - 20)):
        after = _bulk(path)
        assert len(after) == number
        assert all(row[name] == before[clip_id][name] for clip_id, row in after.items() for name in BULKY)
        assert list(verify(open_dataset(path))) == []


def test_what_is_restored_lies_in_row_groups(dataset: Path, scale: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """A worker reads one of them for a clip, not the scores of a million."""
    monkeypatch.setattr(clip_rows, "ROW_GROUP_ROWS", 32)
    before = (dataset / "clips.parquet").read_bytes()
    for path in (dataset / "work" / "commits").rglob("*.json"):
        path.unlink()
    (dataset / "work" / "commits" / "probe").rmdir()
    restore.restore_commits(dataset, scale._request(dataset.parent).config)
    file = pq.ParquetFile(dataset / "work" / "scores" / "restored.parquet")
    assert file.num_row_groups == 7
    restored = {row["clip_id"]: row for row in file.read().to_pylist()}
    clips = _bulk(dataset)
    assert all(restored[clip_id][name] == clips[clip_id][name] for clip_id in clips for name in SCORE_SCHEMA.names)
    assert (dataset / "clips.parquet").read_bytes() == before
