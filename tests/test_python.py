"""The dataset from Python: clips, frames, tables, and every example of docs/python.md, run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hs_data.manifests
from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.errors import DatasetError

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S)
FOREIGN = ("duckdb", "polars", "datasets", "ray", "torch")


def _tool(example: str) -> str:
    found = re.findall(r"^import (\w+)", example, flags=re.M)
    return next((name for name in found if name in FOREIGN), "hs_data")


@pytest.fixture
def ray_is_up(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ray with one core where the example needs it; others do not start it."""
    if _tool(request.getfixturevalue("example")) != "ray":
        yield
        return
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{_tool(text)}-{n}" for n, text in enumerate(EXAMPLES)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.usefixtures("ray_is_up")
def test_the_examples_of_the_page_run(
    example: str, small_dataset: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    tool = _tool(example)
    if tool != "hs_data":
        pytest.importorskip(tool, reason=f"{tool} is not installed")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(small_dataset.parent)
    found: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), found)
    dataset = open_dataset(small_dataset)
    latent = dataset.kept[0].latents(0, 1)
    checks = {
        "hours": lambda value: value == pytest.approx(sum(clip.num_frames for clip in dataset) / 90_000),
        "sound": lambda value: value.shape == (640 * found["clip"].num_frames,),
        "loudest": lambda value: value["latent"].shape == (4, 64, 64),
        "best": lambda value: len(value) == 2,
        "table": lambda value: value.num_rows == len(dataset),
        "first": lambda value: (np.asarray(value["latent"], np.float16) == latent[0]).all(),
        "rows": lambda value: len(value) >= 1,
        "frames": lambda value: True,
        "loader": lambda value: sum(len(batch["latents"]) for batch in value) == len(dataset.split("train")),
        "batch": lambda value: (
            (value["latents"].shape[1:], value["latents"].std() > 0, value["features"].shape[1:])
            == ((16, 4, 64, 64), True, (16, 4, 80))
        ),
    }
    told = [name for name, check in checks.items() if name in found and check(found[name])]
    assert told == [name for name in checks if name in found]
    assert told
    for row in _rows(found):
        assert np.frombuffer(row["latent"], "<f2").reshape(4, 64, 64).std() > 0


def _rows(found: dict[str, Any]) -> list[dict[str, bytes]]:
    """Frames as another tool read them."""
    frames: Any = found.get("frames", [])
    if hasattr(frames, "to_dicts"):
        return frames.to_dicts()
    rows = [row for row in found.get("rows", []) if isinstance(row, tuple) and len(row) == 3]
    return frames if isinstance(frames, list) and frames else [{"latent": row[2]} for row in rows]


def test_every_tool_has_an_example():
    assert {_tool(example) for example in EXAMPLES} == {*FOREIGN, "hs_data"}


def test_clips_read_themselves(small_dataset: Path):
    dataset = hs_data.manifests.open_dataset(str(small_dataset))
    assert len(dataset) >= 3
    for clip in dataset:
        num_frames = clip.num_frames
        assert clip.latents().shape == (num_frames, 4, 64, 64)
        assert clip.latents().dtype == np.float16
        assert clip.audio_features(2, 5).shape == (3, 4, 80)
        assert clip.sound().shape == (640 * num_frames,)
        assert set(clip.columns) >= {"latent", "pcm", "crop"}
        np.testing.assert_array_equal(clip.read("latent", 3, 4), dataset.read(clip, "latent", 3, 4))
    frames = list(clip.frames(["pcm", "crop"]))
    assert (len(frames), frames[0]["crop"].shape, set(frames[0])) == (num_frames, (4,), {"pcm", "crop"})
    np.testing.assert_array_equal(frames[-1]["pcm"], clip.sound()[-640:])
    with pytest.raises(ValueError, match="read-only"):
        clip.latents()[0] = 0
    with pytest.raises(KeyError, match="whisper"):
        clip.read("whisper")


def test_splits_and_the_table_are_those_of_iteration(small_dataset: Path):
    dataset = open_dataset(small_dataset)
    splits = {name: dataset.split(name) for name in ("train", "val", "test")}
    assert sum(len(clips) for clips in splits.values()) == len(dataset)
    assert all(clip.split == name for name, clips in splits.items() for clip in clips)
    table = dataset.table(["clip_id", "duration_s"])
    assert table.column_names == ["clip_id", "duration_s"]
    assert table["clip_id"].to_pylist() == [clip.clip_id for clip in dataset]
    assert set(dataset.table()["verdict"].to_pylist()) == {"kept"}


def test_a_dataset_is_a_sequence_that_tells_what_it_is(small_dataset: Path):
    dataset = open_dataset(small_dataset)
    clips = list(dataset)
    assert [dataset[place] for place in range(len(dataset))] == clips
    assert dataset[-1] == clips[-1]
    assert dataset[1:3] == clips[1:3]
    with pytest.raises(IndexError):
        dataset[len(clips)]
    hours = sum(clip.num_frames for clip in clips) / 90_000
    told = repr(dataset)
    assert f"{len(clips)} clips, {hours:.3g} h, source voxceleb2" in told
    assert str(small_dataset) in told
    for name in ("train", "val"):
        assert f"{len(dataset.split(name))} {name}" in told
    assert "test" not in told.replace(str(small_dataset), "")
    clip, split = dataset[0], dataset[0].split
    assert repr(clip) == f"<Clip {clip.clip_id}: {clip.num_frames} frames, {clip.num_frames / 25:.2f} s, {split}>"


def test_a_dataset_without_sound_features_is_told(small_dataset: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = open_dataset(small_dataset)
    clip = dataset.kept[0]
    monkeypatch.delitem(clip.columns, "logmel")
    with pytest.raises(DatasetError, match="no audio features"):
        clip.audio_features()
