"""A dataset or `work/` of another version is refused in one line that says what to do, and stays as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from hs_data.manifests.commits import Commit, CommitLog
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import DatasetError
from hs_data.manifests.index import read_index
from hs_data.manifests.schema import SCHEMA_VERSION
from hs_data.manifests.storage import read_json, sha256_file, write_json
from hs_data.pipeline.maintain.forget import forget
from hs_data.pipeline.maintain.gc import collect
from hs_data.pipeline.maintain.merge import merge
from hs_data.pipeline.maintain.reselect import reselect
from hs_data.pipeline.maintain.resplit import resplit
from hs_data.trainer.data.staging import stage

EARLIER = rf"made by an earlier hs-data \(schema 1, this one has {SCHEMA_VERSION}\); build it again into a new folder$"
COMMANDS: dict[str, Callable[[Path], object]] = {
    "open": open_dataset,
    "select": lambda path: reselect(
        path, assignments=["select.min_face_px=1"], config_file=None, reset=False, dry_run=False
    ),
    "split": lambda path: resplit(path, assignments=["select.val_share=0.5"], dry_run=False),
    "forget": lambda path: forget(path, source="a", identity=None, dry_run=False),
    "merge": lambda path: merge(path.parent / "out", [path, path.parent / "new"]),
    "gc": lambda path: collect(path, delete=True),
    "stage": lambda path: stage(path.as_uri(), str(path.parent / "copies")),
}


@pytest.fixture
def dataset(small: ModuleType, small_dataset: Path, tmp_path: Path) -> Path:
    small.copy(small_dataset, tmp_path / "new")
    return small.copy(small_dataset, tmp_path / "dataset")


def _make_older(dataset: Path) -> None:
    """Let index and commits say what the first version said: another number, and none."""
    write_json(dataset / "dataset.json", read_json(dataset / "dataset.json") | {"schema_version": 1})
    _make_work_older(dataset)


def _make_work_older(dataset: Path) -> None:
    for path in (dataset / "work" / "commits").glob("*/*.json"):
        commit = json.loads(path.read_text(encoding="utf-8"))
        assert commit.pop("schema_version") == SCHEMA_VERSION
        path.unlink()
        path.write_text(json.dumps(commit), encoding="utf-8")


def _hashes(folder: Path) -> dict[str, str]:
    return {str(path): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_dataset_of_the_first_version_is_refused(dataset: Path, command: Callable[[Path], object]):
    _make_older(dataset)
    before = _hashes(dataset)
    with pytest.raises(DatasetError, match=EARLIER) as caught:
        command(dataset)
    assert "\n" not in str(caught.value)
    assert str(dataset) in str(caught.value)
    assert _hashes(dataset) == before


def test_a_build_does_not_go_on_in_a_folder_of_the_first_version(small: ModuleType, small_videos: Path, dataset: Path):
    _make_older(dataset)
    (dataset / "work").rename(dataset.parent / "work")
    before = _hashes(dataset)
    with pytest.raises(AssertionError, match=EARLIER):  # what `build` asserts is that there is no error line
        small.build(small_videos, dataset)
    assert _hashes(dataset) == before


def test_a_build_does_not_take_up_the_work_of_the_first_version(small: ModuleType, small_videos: Path, dataset: Path):
    (dataset / "dataset.json").unlink()
    _make_work_older(dataset)
    words = (
        r"work: made by another hs-data \(schema 1, this one has 2\); remove it and build again, or build into a new"
    )
    with pytest.raises(AssertionError, match=words):
        small.build(small_videos, dataset)
    assert not (dataset / "dataset.json").exists()


def test_a_commit_says_its_version(tmp_path: Path):
    log = CommitLog(tmp_path)
    commit = Commit(phase="probe", unit="u", fingerprint="f", receipts={"a": {"outcome": "ok"}})
    log.add(commit)
    assert read_json(log.path_of(commit))["schema_version"] == SCHEMA_VERSION
    assert list(log.load("probe")) == [commit]
    write_json(log.path_of(commit), read_json(log.path_of(commit)) | {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(DatasetError, match="made by another hs-data"):
        list(log.load("probe"))


def test_the_index_is_read_as_it_was_written(dataset: Path):
    index = read_index(dataset)
    assert type(index).from_json(index.to_json()) == index
    assert list(index.to_json()) == list(read_json(dataset / "dataset.json"))[:-1]
