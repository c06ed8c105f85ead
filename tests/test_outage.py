"""Outages: the same command makes what could not be read for a while, and the bytes are those of an unbroken build."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import unbroken

from hs_data.manifests.dataset import open_dataset
from hs_data.manifests.verify import verify
from hs_data.pipeline.run.units import Unit

NAMES = ("cuts.mp4", "sound_early_3.mp4", "talker_a.mp4")
PHASES = ("probe", "score", "encode")


@pytest.fixture
def videos(demo_videos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in NAMES:
        shutil.copy2(demo_videos / name, folder)
    return folder


@pytest.fixture(scope="module")
def whole(demo_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes of the unbroken build."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "videos").mkdir()
    for name in NAMES:
        shutil.copy2(demo_videos / name, folder / "videos")
    outcome = unbroken.run(folder / "videos", folder / "dataset")
    assert dict(outcome.waiting) == {}
    found = unbroken.contents(folder / "dataset")
    assert sum(name.startswith("shards/") for name in found) == 2, "several clips lie in a shard"
    return found


@contextmanager
def out_of_reach(*paths: Path, how: str = "gone") -> Iterator[None]:
    """Take files away for a while, as an unmounted disk does; then they are back as they were."""
    for path in paths:
        path.rename(path.with_name(f".{path.name}"))
        if how == "a folder":
            path.mkdir()
    try:
        yield
    finally:
        for path in paths:
            if how == "a folder":
                path.rmdir()
            path.with_name(f".{path.name}").rename(path)


def during(phase: str, *paths: Path, how: str = "gone"):
    """Return what takes files away while units of a phase are done."""

    @contextmanager
    def around(unit: Unit) -> Iterator[None]:
        if unit.phase != phase:
            yield
            return
        with out_of_reach(*paths, how=how):
            yield

    return around


@pytest.mark.parametrize("how", ["gone", "a folder"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("lost", NAMES)
def test_after_an_outage_the_same_command_gives_the_bytes_of_an_unbroken_build(
    videos: Path, whole: dict[str, str], tmp_path: Path, lost: str, phase: str, how: str
):
    output = tmp_path / "dataset"
    outcome = unbroken.run(videos, output, during(phase, videos / lost, how=how))
    assert set(outcome.waiting) == {lost}
    assert unbroken.contents(output) != whole
    outcome = unbroken.run(videos, output)
    assert dict(outcome.waiting) == {}
    assert unbroken.contents(output) == whole
    before = unbroken.times(output)
    unbroken.run(videos, output)
    assert unbroken.times(output) == before, "a third run does nothing"
    assert list(verify(open_dataset(output))) == []
    num_commits = {phase: len(list((output / "work" / "commits" / phase).glob("*.json"))) for phase in PHASES}
    assert len(list((output / "work" / "scores").iterdir())) == num_commits["score"], "no score file is left over"
