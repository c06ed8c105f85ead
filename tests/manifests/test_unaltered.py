"""What is written anew is first compared with what was written: a flipped byte is told, and never given a new hash."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import DatasetError
from hs_data.manifests.index import read_index, tables_are_whole, write_index
from hs_data.manifests.storage import sha256_file
from hs_data.manifests.verify import verify
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.merge import merge
from hs_data.pipeline.maintain.reselect import reselect
from hs_data.pipeline.maintain.resplit import resplit
from hs_data.pipeline.report.page import write_report

ANNA, BERT = "id00001", "id00002"
WRITTEN = "not the bytes that were written"
SELECT = {"config_file": None, "reset": False, "dry_run": False}


@pytest.fixture
def dataset(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    return small.copy(small_dataset, tmp_path / "dataset")


def _flip(path: Path, place: int) -> None:
    """Flip a bit of one byte, in a copy of its own: the other links of the file stay as they are."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.unlink()
    path.write_bytes(content)


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _forget(path: Path) -> object:
    return forget(path, source=None, identity=BERT, dry_run=False)


def _split(path: Path) -> object:
    return resplit(path, assignments=["select.val_share=0.0", "select.test_share=0.999"], dry_run=False)


def _select(path: Path) -> object:
    return reselect(path, assignments=["select.min_face_px=1"], **SELECT)


def _save(path: Path) -> object:
    return reselect(path, assignments=["select.min_face_px=1"], name="wide", **SELECT)


def _merge(path: Path) -> object:
    return merge(path.parent / "out", [path, path.parent / "other"])


def _mixed_shard(path: Path) -> Path:
    """A shard that holds clips of the two people, as `forget` must cut it; the fixture has its clips in few shards."""
    rows = open_dataset(path).clips(["shard", "identity"]).to_pylist()
    people = {name: {row["identity"] for row in rows if row["shard"] == name} for name in {r["shard"] for r in rows}}
    [name] = [name for name, of in people.items() if name and of == {ANNA, BERT}][:1]
    return path / name


def test_a_flipped_byte_of_a_shard_is_not_laundered(dataset: Path):
    """Seen: a dataset that verifies, with a latent of one bit more."""
    shard = _mixed_shard(dataset)
    _flip(shard, shard.stat().st_size // 3)
    before = _hashes(dataset)
    with pytest.raises(DatasetError, match=rf"{shard.name}: {WRITTEN}; see `hs-data verify {dataset}`") as caught:
        _forget(dataset)
    assert "\n" not in str(caught.value)
    assert _hashes(dataset) == before
    assert shard.name in {Path(fault.where).name for fault in verify(open_dataset(dataset))}


def test_a_flipped_byte_of_scores_is_not_laundered(dataset: Path):
    for scores in (dataset / "work" / "scores").glob("*.parquet"):
        _flip(scores, scores.stat().st_size // 3)
    before = _hashes(dataset)
    with pytest.raises(DatasetError, match=rf"work/scores/.*: {WRITTEN}"):
        _forget(dataset)
    assert _hashes(dataset) == before


@pytest.mark.parametrize("name", ["clips.parquet", "videos.parquet", "dataset.json"])
@pytest.mark.parametrize("do", [_forget, _split, _select, _save, _merge])
def test_a_flipped_byte_of_a_table_or_the_index_is_not_laundered(
    small: ModuleType, small_dataset: Path, dataset: Path, tmp_path: Path, do: Callable[[Path], Any], name: str
):
    small.copy(small_dataset, tmp_path / "other")
    content = (dataset / name).read_bytes()
    where = content.index(b'"sha256": "') + 20 if name == "dataset.json" else 8
    _flip(dataset / name, where)
    before = _hashes(tmp_path)
    with pytest.raises(DatasetError, match=rf"{name}: {WRITTEN}"):
        do(dataset)
    assert _hashes(tmp_path) == before


def test_a_shard_that_merge_copies_is_compared(small: ModuleType, small_dataset: Path, dataset: Path, tmp_path: Path):
    other = small.copy(small_dataset, tmp_path / "other")
    forget(other, source=None, identity=BERT, dry_run=False)
    shard = dataset / read_index(dataset).shards[0].path
    _flip(shard, shard.stat().st_size // 3)
    with pytest.raises(DatasetError, match=rf"{shard.name}: {WRITTEN}"):
        merge(tmp_path / "out", [dataset, other], copy=True)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_selection_whose_verdicts_changed_is_not_laundered(dataset: Path):
    _save(dataset)
    verdicts = dataset / "selections" / "wide" / "verdicts.parquet"
    _flip(verdicts, 8)
    [fault] = verify(open_dataset(dataset))
    assert fault.where == "selections/wide/verdicts.parquet"
    with pytest.raises(DatasetError, match=r"wide/verdicts\.parquet: not what was saved"):
        _forget(dataset)


def test_a_build_mends_an_index_that_changed(small: ModuleType, dataset: Path, small_videos: Path):
    whole = (dataset / "dataset.json").read_bytes()
    _flip(dataset / "dataset.json", whole.index(b'"candidates": ') + 14)
    assert not tables_are_whole(dataset)
    small.build(small_videos, dataset)
    assert (dataset / "dataset.json").read_bytes() == whole


# --- every byte of what people and programs read


@pytest.fixture
def tiny(random_dataset: Path, tmp_path: Path) -> Path:
    """An index alone: what it names is not looked at before it is known to be whole."""
    write_index(tmp_path, replace(read_index(random_dataset), shards=(), tables={}))
    return tmp_path


def _first_told(dataset: Path) -> str:
    try:
        return next(verify(open_dataset(dataset))).where
    except DatasetError as error:  # not JSON any more, or another schema
        return (
            "dataset.json"
            if "damaged" in str(error) or "hs-data (schema" in str(error) or "newer" in str(error)
            else str(error)
        )


def test_every_flipped_byte_of_the_index_is_told(tiny: Path):
    content = (tiny / "dataset.json").read_bytes()
    told = 0
    for place in range(len(content)):
        for bit in (1, 2, 16, 32):
            changed = bytearray(content)
            changed[place] ^= bit
            (tiny / "dataset.json").write_bytes(changed)
            told += _first_told(tiny) == "dataset.json"
    assert told == 4 * len(content) > 600


def test_an_index_without_its_hash_is_told(tiny: Path):
    index = json.loads((tiny / "dataset.json").read_text(encoding="utf-8"))
    index.pop("sha256")
    (tiny / "dataset.json").write_text(json.dumps(index), encoding="utf-8")
    assert tables_are_whole(tiny) is False
    [fault] = verify(open_dataset(tiny))
    assert (fault.where, "has no sha256 of itself" in fault.what) == ("dataset.json", True)


@pytest.mark.parametrize("name", ["README.md", "report/index.html", "report/report.json", "SHA256SUMS"])
def test_a_flipped_byte_of_report_and_card_is_told_and_a_new_report_mends_it(dataset: Path, name: str):
    write_report(open_dataset(dataset), {})
    assert list(verify(open_dataset(dataset))) == []
    size = (dataset / name).stat().st_size
    for place in (0, size // 2, size - 1):
        content = (dataset / name).read_bytes()
        _flip(dataset / name, place)
        faults = list(verify(open_dataset(dataset)))
        assert faults
        assert name in {fault.where for fault in faults} or name == "SHA256SUMS"
        assert all("hs-data report" in fault.what for fault in faults)
        write_report(open_dataset(dataset), {})
        assert (dataset / name).read_bytes() == content
        assert list(verify(open_dataset(dataset))) == []


def test_sums_name_what_sha256sum_checks_and_a_foreign_card_is_none_of_them(dataset: Path):
    (dataset / "README.md").unlink()
    (dataset / "README.md").write_text("mine", encoding="utf-8")
    write_report(open_dataset(dataset), {})
    lines = (dataset / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert [line.split("  ")[1] for line in lines] == ["report/index.html", "report/report.json"]
    assert [line.split("  ")[0] for line in lines] == [sha256_file(dataset / line.split("  ")[1]) for line in lines]
    (dataset / "README.md").write_text("mine too", encoding="utf-8")
    assert list(verify(open_dataset(dataset))) == []


def test_a_report_of_a_selection_has_sums_of_its_own(dataset: Path):
    _save(dataset)
    write_report(open_dataset(dataset, "wide"), {})
    assert list(verify(open_dataset(dataset))) == []
    _flip(dataset / "selections" / "wide" / "report" / "index.html", 100)
    [fault] = verify(open_dataset(dataset))
    assert fault.where == "selections/wide/report/index.html"
