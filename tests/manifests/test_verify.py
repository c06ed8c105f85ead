"""Verify: a sound dataset has no fault, and each damage is found and placed."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hs_data.manifests import index as index_file
from hs_data.manifests.counts import Counts
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import DatasetError
from hs_data.manifests.index import DatasetIndex, Fingerprints, ShardEntry, read_index, write_index
from hs_data.manifests.schema import FRAME_COLUMNS, SCHEMA_VERSION, VIDEO_SCHEMA, Column
from hs_data.manifests.shards import Shard, ShardWriter
from hs_data.manifests.storage import sha256_file, write_json
from hs_data.manifests.verify import Fault, verify
from hs_data.pipeline.score.registry import CLIP_SCHEMA

COLUMNS = {name: FRAME_COLUMNS[name] for name in ("latent", "pcm", "crop")}
SHARDS = {"shards/a.parquet": {"clip-a0": 3, "clip-a1": 5}, "shards/b.parquet": {"clip-b0": 4}}
Rows = list[dict[str, Any]]


def _arrays(num_frames: int, columns: dict[str, Column]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(num_frames)
    return {name: random.normal(size=(num_frames, *c.shape)).astype(c.dtype) for name, c in columns.items()}


def _write_shard(
    root: Path,
    name: str,
    change: Callable[[str, dict[str, np.ndarray]], None] = lambda clip_id, arrays: None,
    columns: dict[str, Column] = COLUMNS,
) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    with ShardWriter(root / name, columns, {}) as writer:
        for clip_id, num_frames in SHARDS[name].items():
            arrays = _arrays(num_frames, columns)
            change(clip_id, arrays)
            writer.write_clip(clip_id, arrays)


def _clip_row(clip_id: str, num_frames: int, **values) -> dict[str, Any]:
    row = {"clip_id": clip_id, "video_id": "v", "path": "v.mp4", "source": "folder", "start_frame": 0}
    times = {"num_frames": num_frames, "start_s": 0.0, "duration_s": num_frames / 25}
    return {**row, **times, "verdict": "dropped", **values}


def _rows() -> Rows:
    rows = [
        _clip_row(clip_id, num_frames, verdict="kept", shard=shard, row_group=group)
        for shard, clips in SHARDS.items()
        for group, (clip_id, num_frames) in enumerate(clips.items())
    ]
    return [*rows, _clip_row("clip-x", 9, reason="no_face"), _clip_row("clip-y", 9, verdict="error")]


def _write_tables(root: Path, rows: Rows, num_videos: int = 2) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=CLIP_SCHEMA), root / "clips.parquet")
    videos = [
        {"path": f"{n}.mp4", "source": "folder", "size_bytes": 1, "outcome": "ok", "num_clips": 1, "num_kept": 1}
        for n in range(num_videos)
    ]
    pq.write_table(pa.Table.from_pylist(videos, schema=VIDEO_SCHEMA), root / "videos.parquet")


BLANK = DatasetIndex(
    hs_data_version="0",
    key="made up",
    source="folder",
    preset="cpu",
    config={},
    selection={},
    built_select={},
    fingerprints=Fingerprints(score="s", encode="e"),
    models=(),
)
COUNTS = Counts(inputs=2, candidates=5, kept=3, dropped=1, errors=1, encoded=3)


def _write_index(root: Path, **changes: Any) -> None:
    shards = [
        ShardEntry(
            path=name,
            sha256=sha256_file(root / name),
            bytes=(root / name).stat().st_size,
            rows=sum(clips.values()),
        )
        for name, clips in SHARDS.items()
    ]
    write_index(root, replace(BLANK, **{"counts": COUNTS, "shards": tuple(shards), **changes}))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for name in SHARDS:
        _write_shard(tmp_path, name)
    _write_tables(tmp_path, _rows())
    _write_index(tmp_path)
    return tmp_path


def _faults(root: Path, **options) -> list[Fault]:
    return list(verify(open_dataset(root), **options))


def test_a_sound_dataset_has_no_fault(dataset: Path):
    assert _faults(dataset) == []
    assert [(c.clip_id, c.shard, c.row_group, c.num_frames) for c in open_dataset(dataset)] == [
        ("clip-a0", "shards/a.parquet", 0, 3),
        ("clip-a1", "shards/a.parquet", 1, 5),
        ("clip-b0", "shards/b.parquet", 0, 4),
    ]


@pytest.mark.parametrize("place", [10, 60_000, 200_000], ids=["first_page", "first_clip", "second_clip"])
def test_a_flipped_byte_is_found_and_the_clips_are_named(dataset: Path, place: int):
    path = dataset / "shards/a.parquet"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    [fault] = _faults(dataset)
    assert fault.where == "shards/a.parquet"
    assert fault.what == "has another sha256; it holds clip-a0, clip-a1"


def test_a_truncated_shard_is_found(dataset: Path):
    path = dataset / "shards/b.parquet"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    faults = _faults(dataset)
    assert {fault.where for fault in faults} == {"shards/b.parquet"}
    assert faults[0].what == f"has {size // 2} bytes instead of {size}"
    assert faults[1].what == "has another sha256; it holds clip-b0"


def test_a_shard_that_was_cut_before_it_was_hashed_is_found(dataset: Path):
    path = dataset / "shards/b.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    _write_index(dataset)
    [fault] = _faults(dataset)
    assert fault.where == "shards/b.parquet"
    assert "not a shard of hs-data" in fault.what


def test_a_missing_shard_is_found_and_the_rest_is_still_checked(dataset: Path):
    def spoil(clip_id: str, arrays: dict[str, np.ndarray]) -> None:
        arrays["latent"][0, 0, 0, 0] = np.inf

    _write_shard(dataset, "shards/b.parquet", spoil)
    _write_index(dataset)
    (dataset / "shards/a.parquet").unlink()
    assert _faults(dataset) == [
        Fault(where="shards/a.parquet", what="is missing"),
        Fault(where="clip-b0", what="latent is not finite"),
    ]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["latent", "crop"])
def test_a_number_that_is_not_finite_is_found(dataset: Path, column: str, value: float):
    def spoil(clip_id: str, arrays: dict[str, np.ndarray]) -> None:
        if clip_id == "clip-a1":
            arrays[column].reshape(-1)[-1] = value

    _write_shard(dataset, "shards/a.parquet", spoil)
    _write_index(dataset)
    assert _faults(dataset) == [Fault(where="clip-a1", what=f"{column} is not finite")]


def test_swapped_row_groups_are_found(dataset: Path):
    rows = _rows()
    rows[0]["row_group"], rows[1]["row_group"] = 1, 0
    _write_tables(dataset, rows)
    assert [(fault.where, fault.what) for fault in _faults(dataset)] == [
        ("clip-a0", "is not row group 1 of shards/a.parquet"),
        ("clip-a1", "is not row group 0 of shards/a.parquet"),
    ]


def test_a_reader_gives_no_frames_of_another_clip(dataset: Path):
    """A shard that was written anew without its first clip: every row group but the last is there, and is wrong."""
    with ShardWriter(dataset / "shards/a.parquet", COLUMNS, {}) as writer:
        writer.write_clip("clip-a1", _arrays(5, COLUMNS))
    first, second, other = open_dataset(dataset)
    with pytest.raises(
        DatasetError, match=r"a\.parquet: row group 0 is not clip clip-a0 of 3 frames; run `hs-data ver"
    ):
        first.latents()
    with pytest.raises(DatasetError, match="row group 1 is not clip clip-a1 of 5 frames"):
        second.read("pcm", 0, 1)
    assert len(other.latents()) == 4


@pytest.mark.parametrize(("clip_id", "num_frames"), [("clip-b0", 3), ("clip-b1", 4)], ids=["length", "id"])
def test_a_row_group_is_checked_without_being_read(
    dataset: Path, clip_id: str, num_frames: int, monkeypatch: pytest.MonkeyPatch
):
    shard = Shard(dataset / "shards/b.parquet")
    monkeypatch.setattr(Shard, "clip_id", lambda shard, row_group: pytest.fail("the column was read"))
    shard.check(0, "clip-b0", 4)
    with pytest.raises(DatasetError, match=f"row group 0 is not clip {clip_id} of {num_frames} frames"):
        shard.check(0, clip_id, num_frames)


def test_a_row_group_that_is_not_there_is_found(dataset: Path):
    rows = _rows()
    rows[2]["row_group"] = 7
    _write_tables(dataset, rows)
    assert _faults(dataset) == [Fault(where="clip-b0", what="is not row group 7 of shards/b.parquet")]


def test_a_clip_in_a_shard_that_the_index_does_not_name_is_found(dataset: Path):
    index = read_index(dataset)
    write_index(dataset, replace(index, shards=index.shards[:1]))
    [fault] = _faults(dataset)
    assert fault.where == "clip-b0"
    assert "shards/b.parquet" in fault.what


def test_a_clip_that_stands_twice_is_found(dataset: Path):
    rows = _rows()
    _write_tables(dataset, [*rows, rows[0]])
    _write_index(dataset, counts=replace(COUNTS, candidates=6, kept=4, encoded=4))
    faults = _faults(dataset)
    assert Fault(where="clip-a0", what="stands 2 times in clips.parquet") in faults
    assert Fault(where="shards/a.parquet row group 0", what="is claimed by 2 clips") in faults
    assert len(faults) == 2


def test_two_clips_that_claim_one_place_are_found(dataset: Path):
    rows = _rows()
    rows[1]["row_group"] = 0
    _write_tables(dataset, rows)
    faults = _faults(dataset)
    assert Fault(where="shards/a.parquet row group 0", what="is claimed by 2 clips") in faults
    assert Fault(where="clip-a1", what="is not row group 0 of shards/a.parquet") in faults


@pytest.mark.parametrize("name", ["inputs", "candidates", "kept", "dropped", "errors", "encoded"])
def test_a_wrong_count_is_found(dataset: Path, name: str):
    right = getattr(COUNTS, name)
    _write_index(dataset, counts=replace(COUNTS, **{name: right + 1}))
    assert _faults(dataset) == [Fault(where="dataset.json", what=f"says {right + 1} {name}, the tables hold {right}")]


def test_a_wrong_number_of_frames_is_found(dataset: Path):
    rows = _rows()
    rows[2]["num_frames"] = 5
    _write_tables(dataset, rows)
    faults = _faults(dataset)
    assert faults[0] == Fault(where="clip-b0", what="has 4 frames, not 5")
    assert faults[1] == Fault(where="clip-b0", what=f"has {4 * 640} samples, not 640 x 5")


def test_a_wrong_number_of_rows_is_found(dataset: Path):
    index = read_index(dataset)
    write_index(dataset, replace(index, shards=(replace(index.shards[0], rows=9), *index.shards[1:])))
    assert _faults(dataset) == [Fault(where="shards/a.parquet", what="has 8 rows instead of 9")]


def test_sound_of_another_length_is_found(dataset: Path):
    columns = {**COLUMNS, "pcm": Column(dtype="<i2", shape=(639,))}
    _write_shard(dataset, "shards/b.parquet", columns=columns)
    _write_index(dataset)
    assert _faults(dataset) == [Fault(where="clip-b0", what=f"has {4 * 639} samples, not 640 x 4")]


def test_a_shard_without_sound_is_found(dataset: Path):
    _write_shard(dataset, "shards/b.parquet", columns={name: COLUMNS[name] for name in ("latent", "crop")})
    _write_index(dataset)
    assert _faults(dataset) == [Fault(where="clip-b0", what="has 0 samples, not 640 x 4")]


def test_flat_pictures_are_found_among_the_clips_that_are_decoded(dataset: Path):
    seen: list[tuple[int, ...]] = []

    def decode(latents: np.ndarray) -> float:
        seen.append(latents.shape)
        return 0.5 if len(seen) == 2 else 30.0

    faults = _faults(dataset, decode=decode, num_decoded=3)
    assert seen == [(1, 4, 64, 64)] * 3
    assert faults == [Fault(where="clip-a1", what="decodes to a flat picture")]


@pytest.mark.parametrize(("asked", "decoded"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_as_many_clips_are_decoded_as_asked_for(dataset: Path, asked: int, decoded: int):
    seen: list[np.ndarray] = []
    _faults(dataset, decode=lambda latents: seen.append(latents) or 30.0, num_decoded=asked)
    assert len(seen) == decoded


@pytest.mark.parametrize("spoilt", ["row_group", "latent"])
def test_a_clip_with_a_fault_is_not_decoded(dataset: Path, spoilt: str):
    """Its place may not exist at all."""
    if spoilt == "row_group":
        rows = _rows()
        rows[1]["row_group"] = 7
        _write_tables(dataset, rows)
    else:

        def spoil(clip_id: str, arrays: dict[str, np.ndarray]) -> None:
            if clip_id == "clip-a1":
                arrays["latent"][0, 0, 0, 0] = np.nan

        _write_shard(dataset, "shards/a.parquet", spoil)
        _write_index(dataset)
    seen: list[np.ndarray] = []
    faults = _faults(dataset, decode=lambda latents: seen.append(latents) or 0.5, num_decoded=3)
    what = "is not row group 7 of shards/a.parquet" if spoilt == "row_group" else "latent is not finite"
    flat = [Fault(where=name, what="decodes to a flat picture") for name in ("clip-a0", "clip-b0")]
    assert faults == [flat[0], Fault(where="clip-a1", what=what), flat[1]]
    assert len(seen) == 2


def test_one_shard_at_a_time_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Datasets have thousands, more than a process may hold open."""
    names = [f"shards/{number:02}.parquet" for number in range(12)]
    rows, entries = [], []
    for number, name in enumerate(names):
        monkeypatch.setitem(SHARDS, name, {f"clip-{number}": 2})
        _write_shard(tmp_path, name)
        rows.append(_clip_row(f"clip-{number}", 2, verdict="kept", shard=name, row_group=0))
        size = (tmp_path / name).stat().st_size
        entries.append(ShardEntry(path=name, sha256=sha256_file(tmp_path / name), bytes=size, rows=2))
    _write_tables(tmp_path, rows)
    counts = Counts(inputs=2, candidates=12, kept=12, encoded=12)
    write_index(tmp_path, replace(BLANK, counts=counts, shards=tuple(entries)))
    seen: list[set[str]] = []

    def decode(latents: np.ndarray) -> float:
        found = {os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")}
        seen.append({Path(path).name for path in found if path.startswith(str(tmp_path / "shards"))})
        return 30.0

    assert _faults(tmp_path, decode=decode, num_decoded=12) == []
    assert seen == [{Path(name).name} for name in names]


# --- tables


def _hash_tables(root: Path) -> None:
    tables = {name: sha256_file(root / name) for name in ("clips.parquet", "videos.parquet")}
    write_index(root, replace(read_index(root), tables=tables))


def test_tables_with_the_hashes_of_the_index_are_sound(dataset: Path):
    _hash_tables(dataset)
    assert _faults(dataset) == []


@pytest.mark.parametrize("name", ["clips.parquet", "videos.parquet"])
def test_a_table_that_was_written_again_is_found(dataset: Path, name: str):
    """The rows are the same, so that nothing else tells."""
    _hash_tables(dataset)
    pq.write_table(pq.read_table(dataset / name), dataset / name, compression="gzip")
    assert _faults(dataset) == [Fault(where=name, what="has another sha256 than dataset.json says")]


@pytest.mark.parametrize("name", ["clips.parquet", "videos.parquet"])
@pytest.mark.parametrize(
    ("content", "what"), [(None, "is missing"), (b"PAR1 no", "has another sha256 than dataset.json says")]
)
def test_a_table_that_cannot_be_read_is_told_before_the_check_ends(
    dataset: Path, name: str, content: bytes | None, what: str
):
    _hash_tables(dataset)
    (dataset / name).unlink()
    if content is not None:
        (dataset / name).write_bytes(content)
    faults = verify(open_dataset(dataset))
    assert next(faults) == Fault(where=name, what=what)
    with pytest.raises(DatasetError, match=f"{name}: cannot be read"):
        list(faults)


def test_the_hashes_that_are_written_are_those_that_are_checked(dataset: Path):
    assert not index_file.tables_are_whole(dataset), "the index names no hashes"
    write_index(dataset, replace(read_index(dataset), tables=index_file.hash_tables(dataset)))
    assert index_file.tables_are_whole(dataset)
    assert _faults(dataset) == []
    rows = _rows()
    rows[3]["reason"] = "too_short"
    _write_tables(dataset, rows)
    assert not index_file.tables_are_whole(dataset)
    assert _faults(dataset) == [Fault(where="clips.parquet", what="has another sha256 than dataset.json says")]
    (dataset / "clips.parquet").unlink()
    assert not index_file.tables_are_whole(dataset)


# --- opening


def test_a_dataset_reads_its_clips_by_column_and_range(dataset: Path):
    opened = open_dataset(dataset)
    expected = _arrays(5, COLUMNS)
    assert len(opened) == 3
    np.testing.assert_array_equal(opened.read(opened.kept[1], "latent", 1, 4), expected["latent"][1:4])
    np.testing.assert_array_equal(opened.read(opened.kept[1], "pcm"), expected["pcm"])


def test_a_kept_clip_that_is_not_encoded_yet_is_not_among_those_to_train_on(dataset: Path):
    rows = _rows()
    rows[1] |= {"shard": None, "row_group": None}
    _write_tables(dataset, rows)
    assert [clip.clip_id for clip in open_dataset(dataset)] == ["clip-a0", "clip-b0"]


def _remove_index(root: Path) -> None:
    (root / "dataset.json").unlink()


def _newer_schema(root: Path) -> None:
    _write_index(root, schema_version=SCHEMA_VERSION + 1)


def _older_schema(root: Path) -> None:
    _write_index(root, schema_version=SCHEMA_VERSION - 1)


def _index_without_a_field(root: Path) -> None:
    values = read_index(root).to_json()
    write_json(root / "dataset.json", {name: value for name, value in values.items() if name != "counts"})


def _damaged_index(root: Path) -> None:
    (root / "dataset.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_remove_index, "no dataset.json"),
        (_newer_schema, "newer than this"),
        (_older_schema, r"made by an earlier hs-data \(schema 1, this one has 2\); build it again into a new folder"),
        (_index_without_a_field, r"damaged \(KeyError\('counts'\)\)"),
        (_damaged_index, "damaged"),
    ],
    ids=["not_finished", "newer", "older", "incomplete", "damaged"],
)
def test_what_is_no_dataset_is_refused_with_its_name(dataset: Path, damage: Callable[[Path], None], words: str):
    damage(dataset)
    with pytest.raises(DatasetError, match=words) as caught:
        open_dataset(dataset)
    assert str(dataset) in str(caught.value)


@pytest.mark.parametrize("name", ["clips.parquet", "videos.parquet"])
def test_a_damaged_table_is_named(dataset: Path, name: str):
    (dataset / name).write_bytes(b"PAR1 no")
    opened = open_dataset(dataset)
    with pytest.raises(DatasetError, match=name):
        _ = opened.clips() if name == "clips.parquet" else opened.videos()
