"""Shards: what goes in comes out, mapped where that is provably right, through Parquet everywhere else."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from hs_data.manifests.errors import DatasetError
from hs_data.manifests.schema import FRAME_COLUMNS, Column
from hs_data.manifests.shards import FOOTER_KEY, Shard, ShardWriter

SMALL = {name: FRAME_COLUMNS[name] for name in ("logmel", "pcm", "crop", "landmarks")}
MAPPED = {name: column for name, column in FRAME_COLUMNS.items() if not column.is_file}
FILE = FRAME_COLUMNS["frame_jpeg"]
CONTRACT = {"latent": {"id": "test", "scaling": 0.25}, "frame_rate": 25}
LENGTHS = (5, 1, 8)


def _arrays(columns: dict[str, Column], num_frames: int, seed: int) -> dict[str, np.ndarray]:
    """Random bytes that are valid numbers of each dtype, NaN never among them."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, column in columns.items():
        values = random.normal(size=(num_frames, *column.shape)) * 100
        arrays[name] = values.astype(column.dtype)
    return arrays


def _write(path: Path, columns: dict[str, Column], lengths: tuple[int, ...] = LENGTHS) -> list[dict[str, np.ndarray]]:
    clips = [_arrays(columns, length, seed) for seed, length in enumerate(lengths)]
    with ShardWriter(path, columns, CONTRACT) as writer:
        for number, arrays in enumerate(clips):
            assert writer.write_clip(f"clip-{number}", arrays) == number
        assert (writer.num_clips, writer.num_rows) == (len(lengths), sum(lengths))
    return clips


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Shard, list[dict[str, np.ndarray]]]:
    clips = _write(tmp_path / "s.parquet", SMALL)
    return Shard(tmp_path / "s.parquet"), clips


@pytest.mark.parametrize("name", MAPPED)
def test_every_column_comes_back_and_is_mapped(tmp_path: Path, name: str):
    columns = {name: FRAME_COLUMNS[name]}
    clips = _write(tmp_path / "s.parquet", columns)
    shard = Shard(tmp_path / "s.parquet")
    for group, arrays in enumerate(clips):
        assert shard.is_mapped(group, name)
        read = shard.read(group, name)
        assert (read.dtype, read.shape) == (arrays[name].dtype, arrays[name].shape)
        np.testing.assert_array_equal(read, arrays[name])
        np.testing.assert_array_equal(read, shard._read_slowly(group, name))


def test_all_columns_of_a_long_clip_are_mapped(tmp_path: Path):
    clips = _write(tmp_path / "s.parquet", MAPPED, (250, 250))
    shard = Shard(tmp_path / "s.parquet")
    assert (shard.num_row_groups, shard.num_rows) == (2, 500)
    for name in MAPPED:
        assert shard.is_mapped(1, name)
        np.testing.assert_array_equal(shard.read(1, name, 100, 116), clips[1][name][100:116])


def test_a_column_of_many_frames_is_still_one_page(tmp_path: Path):
    """Left alone, the writer begins a page every 1,024 rows that fill 1 MB."""
    clips = _write(tmp_path / "s.parquet", {"pcm": FRAME_COLUMNS["pcm"]}, (4000,))
    shard = Shard(tmp_path / "s.parquet")
    assert shard.is_mapped(0, "pcm")
    np.testing.assert_array_equal(shard.read(0, "pcm", 3990), clips[0]["pcm"][3990:])


def test_what_is_mapped_is_neither_copied_nor_writable(shard):
    opened, _ = shard
    read = opened.read(0, "pcm")
    assert not read.flags.owndata
    assert not read.flags.writeable


def test_a_shard_that_is_closed_holds_no_file_open_and_its_views_stay(tmp_path: Path):
    clips = _write(tmp_path / "s.parquet", SMALL)
    path = str(tmp_path / "s.parquet")

    def num_open() -> int:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.path.realpath(link) == path for link in links)

    before = num_open()
    shard = Shard(tmp_path / "s.parquet")
    assert num_open() > before
    view = shard.read(1, "pcm")
    shard.close()
    np.testing.assert_array_equal(view, clips[1]["pcm"])
    del shard, view
    assert num_open() == before == 0


def test_a_shard_knows_its_clips_and_its_contract(shard):
    opened, _ = shard
    assert opened.contract == CONTRACT
    assert opened.columns == SMALL
    assert [opened.num_frames(group) for group in range(3)] == list(LENGTHS)
    assert [opened.clip_id(group) for group in range(3)] == ["clip-0", "clip-1", "clip-2"]
    assert (opened.num_row_groups, opened.num_rows) == (3, sum(LENGTHS))


SLICES = [(0, None), (0, 8), (2, 5), (7, 8), (3, 3), (5, 2), (8, 8), (8, 20), (-3, None), (-3, -1), (0, -1), (-99, 99)]


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "slow"])
@pytest.mark.parametrize(("start", "stop"), SLICES, ids=[f"{start}:{stop}" for start, stop in SLICES])
def test_slices_are_those_of_the_array(shard, mapped: bool, start: int, stop: int | None):
    opened, clips = shard
    if not mapped:
        opened._offsets = {(2, name): None for name in SMALL}
    for name in SMALL:
        expected = clips[2][name][start:stop]
        read = opened.read(2, name, start, stop)
        assert read.shape == expected.shape
        np.testing.assert_array_equal(read, expected)


# --- files with the same rows and another layout


def _rewrite(path: Path, target: Path, *, nullable: bool = False, **options) -> None:
    table = pq.read_table(path)
    fields = [field.with_nullable(nullable) for field in table.schema]
    table = pa.table(table.columns, schema=pa.schema(fields, metadata=table.schema.metadata))
    plain = {"compression": "NONE", "use_dictionary": False, "write_statistics": False}
    with pq.ParquetWriter(target, table.schema, **{**plain, **options}) as writer:
        start = 0
        for length in LENGTHS:
            writer.write_table(table.slice(start, length), row_group_size=length)
            start += length


LAYOUTS: dict[str, dict] = {
    "zstd": {"compression": "zstd"},
    "snappy": {"compression": "snappy"},
    "dictionary": {"use_dictionary": True},
    "nullable": {"nullable": True},
    "two_pages": {"data_page_size": 64, "write_batch_size": 1},
    "page_v2": {"data_page_version": "2.0"},
    "byte_stream_split": {"column_encoding": {"pcm": "BYTE_STREAM_SPLIT", "crop": "BYTE_STREAM_SPLIT"}},
    "zstd_page_v2": {"compression": "zstd", "data_page_version": "2.0"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layout_is_not_mapped_and_still_read_right(tmp_path: Path, layout: str):
    clips = _write(tmp_path / "s.parquet", SMALL)
    _rewrite(tmp_path / "s.parquet", tmp_path / "t.parquet", **LAYOUTS[layout])
    shard = Shard(tmp_path / "t.parquet")
    for group, arrays in enumerate(clips):
        for name in SMALL:
            has_one_page = layout == "two_pages" and LENGTHS[group] == 1
            has_other_encoding = layout != "byte_stream_split" or name in ("pcm", "crop")
            if has_other_encoding and not has_one_page:
                assert not shard.is_mapped(group, name), (group, name)
            np.testing.assert_array_equal(shard.read(group, name), arrays[name])
            np.testing.assert_array_equal(shard.read(group, name, 1, 4), arrays[name][1:4])


@pytest.mark.parametrize(
    "options",
    [{"write_statistics": True}, {"write_page_checksum": True}, {"write_page_index": True}, {"version": "1.0"}],
    ids=lambda options: next(iter(options)),
)
def test_a_layout_that_may_be_mapped_is_read_right(tmp_path: Path, options: dict):
    clips = _write(tmp_path / "s.parquet", SMALL)
    _rewrite(tmp_path / "s.parquet", tmp_path / "t.parquet", **options)
    shard = Shard(tmp_path / "t.parquet")
    for group, arrays in enumerate(clips):
        for name in SMALL:
            np.testing.assert_array_equal(shard.read(group, name), arrays[name])


@pytest.mark.parametrize("num_pages", [1, 2, 3])
def test_only_a_single_page_is_mapped_however_short_its_headers(tmp_path: Path, num_pages: int):
    columns = {"pcm": FRAME_COLUMNS["pcm"]}
    clips = _write(tmp_path / "s.parquet", columns, (6,))
    table = pq.read_table(tmp_path / "s.parquet")
    page: dict[str, Any] = {"data_page_size": 6 // num_pages * 1280 - 1, "write_batch_size": 1} if num_pages > 1 else {}
    pq.write_table(
        table, tmp_path / "t.parquet", compression="NONE", use_dictionary=False, write_statistics=False, **page
    )
    chunk = pq.ParquetFile(tmp_path / "t.parquet").metadata.row_group(0).column(2)
    header_bytes = chunk.total_uncompressed_size - 6 * 1280
    assert 15 * num_pages <= header_bytes <= 64, "the file has not the pages that this test needs"
    shard = Shard(tmp_path / "t.parquet")
    assert shard.is_mapped(0, "pcm") is (num_pages == 1)
    np.testing.assert_array_equal(shard.read(0, "pcm"), clips[0]["pcm"])


def test_clips_merged_into_one_row_group_are_read_whole(tmp_path: Path):
    clips = _write(tmp_path / "s.parquet", SMALL)
    pq.write_table(pq.read_table(tmp_path / "s.parquet"), tmp_path / "t.parquet")
    shard = Shard(tmp_path / "t.parquet")
    assert shard.num_row_groups == 1
    np.testing.assert_array_equal(shard.read(0, "pcm"), np.concatenate([arrays["pcm"] for arrays in clips]))


# --- refusals of the writer


def _wrong_dtype(arrays: dict) -> None:
    arrays["pcm"] = arrays["pcm"].astype(np.int32)


def _wrong_byte_order(arrays: dict) -> None:
    arrays["crop"] = arrays["crop"].astype(">f4")


def _wrong_shape(arrays: dict) -> None:
    arrays["landmarks"] = arrays["landmarks"].reshape(-1, 10)


def _wrong_length(arrays: dict) -> None:
    arrays["crop"] = arrays["crop"][:-1]


def _missing(arrays: dict) -> None:
    del arrays["crop"]


def _too_many(arrays: dict) -> None:
    arrays["latent"] = np.zeros((4, 4, 64, 64), np.float16)


def _no_frames(arrays: dict) -> None:
    for name in arrays:
        arrays[name] = arrays[name][:0]


@pytest.mark.parametrize(
    "damage",
    [_wrong_dtype, _wrong_byte_order, _wrong_shape, _wrong_length, _missing, _too_many, _no_frames],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_wrong_arrays_are_refused_and_named(tmp_path: Path, damage: Callable[[dict], None]):
    arrays = _arrays(SMALL, 4, 0)
    damage(arrays)
    with ShardWriter(tmp_path / "s.parquet", SMALL, {}) as writer:
        with pytest.raises(ValueError, match=r"^bad"):
            writer.write_clip("bad", arrays)
        assert writer.num_clips == 0
        assert writer.write_clip("good", _arrays(SMALL, 4, 0)) == 0
    assert Shard(tmp_path / "s.parquet").clip_id(0) == "good"


def test_arrays_that_are_not_contiguous_are_written_right(tmp_path: Path):
    wide = np.arange(6 * 8, dtype="<f4").reshape(6, 8)
    with ShardWriter(tmp_path / "s.parquet", {"crop": FRAME_COLUMNS["crop"]}, {}) as writer:
        writer.write_clip("c", {"crop": wide[::2, ::2]})
    np.testing.assert_array_equal(Shard(tmp_path / "s.parquet").read(0, "crop"), wide[::2, ::2])


# --- files that are no shards of ours


def _text(path: Path) -> None:
    path.write_text("not parquet", encoding="utf-8")


def _foreign(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def _foreign_with_other_metadata(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"a": "b"}), path)


def _bad_footer(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({FOOTER_KEY: "{"}), path)


def _truncated(path: Path) -> None:
    _write(path, SMALL)
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.touch()


def _relabelled(path: Path, **changes) -> None:
    """A shard whose footer says other columns than the file has."""
    _write(path, SMALL)
    table = pq.read_table(path)
    footer = json.loads(table.schema.metadata[FOOTER_KEY])
    footer["columns"] |= changes
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer)}), path, row_group_size=5)


def _other_width(path: Path) -> None:
    _relabelled(path, pcm={"dtype": "<i2", "shape": [320]})


def _missing_column(path: Path) -> None:
    _relabelled(path, latent={"dtype": "<f2", "shape": [4, 64, 64]})


@pytest.mark.parametrize(
    "make",
    [
        *(_text, _foreign, _foreign_with_other_metadata, _bad_footer, _truncated, _empty, _other_width),
        *(_missing_column, Path.mkdir, lambda path: None),
    ],
    ids=[
        *("text", "foreign", "foreign_metadata", "bad_footer", "truncated", "empty", "footer_says_other_width"),
        *("footer_says_other_column", "folder", "missing"),
    ],
)
def test_what_is_no_shard_is_refused_with_its_name(tmp_path: Path, make: Callable[[Path], None]):
    path = tmp_path / "x.parquet"
    make(path)
    with pytest.raises(DatasetError) as caught:
        Shard(path)
    assert str(path) in str(caught.value)


# --- others


def test_ordinary_readers_read_it(tmp_path: Path):
    clips = _write(tmp_path / "s.parquet", SMALL)
    table = pads.dataset(tmp_path / "s.parquet").to_table(filter=pads.field("clip_id") == "clip-2")
    assert table.schema.names == ["clip_id", "frame", *SMALL]
    assert table["frame"].to_pylist() == list(range(LENGTHS[2]))
    assert table["pcm"][3].as_py() == clips[2]["pcm"][3].tobytes()
    assert not any(field.nullable for field in table.schema)


def test_the_same_clips_give_the_same_bytes(tmp_path: Path):
    for name in ("a.parquet", "b.parquet"):
        _write(tmp_path / name, SMALL)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_contract_changes_only_the_footer(tmp_path: Path):
    for name, contract in (("a.parquet", {"id": 1}), ("b.parquet", {"id": 2})):
        with ShardWriter(tmp_path / name, SMALL, contract) as writer:
            writer.write_clip("c", _arrays(SMALL, 4, 0))
    left, right = ((tmp_path / name).read_bytes() for name in ("a.parquet", "b.parquet"))
    first_difference = next(place for place, (a, b) in enumerate(zip(left, right, strict=True)) if a != b)
    end_of_data = len(left) - 8 - int.from_bytes(left[-8:-4], "little")
    assert first_difference > end_of_data
    assert [Shard(tmp_path / name).contract["id"] for name in ("a.parquet", "b.parquet")] == [1, 2]


# --- files of any length


def _files(num_frames: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.array([random.bytes(int(random.integers(0, 50_000))) for _ in range(num_frames)], object)


def test_files_of_any_length_come_back_beside_mapped_columns(tmp_path: Path):
    columns = {"frame_jpeg": FILE, **SMALL}
    clips = [{**_arrays(SMALL, num, num), "frame_jpeg": _files(num, num)} for num in LENGTHS]
    with ShardWriter(tmp_path / "s.parquet", columns, CONTRACT) as writer:
        for number, arrays in enumerate(clips):
            writer.write_clip(f"clip-{number}", arrays)
    shard = Shard(tmp_path / "s.parquet")
    assert shard.columns == columns
    for group, arrays in enumerate(clips):
        assert shard.read(group, "frame_jpeg").tolist() == arrays["frame_jpeg"].tolist()
        assert shard.read(group, "frame_jpeg", 1, 3).tolist() == arrays["frame_jpeg"][1:3].tolist()
        assert not shard.is_mapped(group, "frame_jpeg")
        for name in SMALL:
            assert shard.is_mapped(group, name)
            np.testing.assert_array_equal(shard.read(group, name), arrays[name])
    chunk = pq.ParquetFile(tmp_path / "s.parquet").metadata.row_group(0).column(2)
    assert (chunk.path_in_schema, chunk.compression, chunk.is_stats_set) == ("frame_jpeg", "UNCOMPRESSED", False)
    assert set(chunk.encodings) <= {"PLAIN", "RLE"}


def test_a_footer_may_not_call_files_a_column_of_fixed_size(tmp_path: Path):
    with ShardWriter(tmp_path / "s.parquet", {"frame_jpeg": FILE}, {}) as writer:
        writer.write_clip("c", {"frame_jpeg": _files(4, 0)})
    table = pq.read_table(tmp_path / "s.parquet")
    footer = json.loads(table.schema.metadata[FOOTER_KEY])
    footer["columns"]["frame_jpeg"] = {"dtype": "<f2", "shape": [4, 64, 64]}
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(footer)}), tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match="frame_jpeg is not 32768 bytes a frame"):
        Shard(tmp_path / "t.parquet")


def test_another_size_of_whisper_is_read_as_its_footer_says(tmp_path: Path):
    columns = {"whisper": Column(dtype="<f2", shape=(2, 7, 512))}
    clips = _write(tmp_path / "s.parquet", columns)
    shard = Shard(tmp_path / "s.parquet")
    assert shard.is_mapped(2, "whisper")
    assert shard.read(2, "whisper").shape == (8, 2, 7, 512)
    np.testing.assert_array_equal(shard.read(2, "whisper"), clips[2]["whisper"])
