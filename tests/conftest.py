"""What several test files share: where the repository, the real clips and the weights lie, and the demo, built once."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock

from hs_data.manifests.schema import Column
from hs_data.pipeline.demo.source import make_demo

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
NASTY = "</script><script>document.title = 'run'</script><img src=x onerror=alert(1)>\u2028&amp;.mp4"


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout, which is the package."""
    return REPOSITORY


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real clips, described in its MEDIA.md."""
    return _folder("media", "*.mp4", "real clips")


@pytest.fixture(scope="session")
def weights() -> Path:
    """The folder of model weights, described in its WEIGHTS.md."""
    return _folder("weights", "*.onnx", "model weights")


def _folder(name: str, pattern: str, what: str) -> Path:
    folder = SHARED / name
    if not any(folder.glob(pattern)):
        pytest.skip(f"no {what} at {folder}")
    return folder


def _once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Make a folder once for all processes of this run of pytest, as pytest-xdist's documentation does it."""
    is_one_of_several = "PYTEST_XDIST_WORKER" in os.environ
    root = factory.getbasetemp().parent if is_one_of_several else factory.getbasetemp()
    folder, made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def demo_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the demo."""
    return _once(tmp_path_factory, "demo", lambda folder: make_demo(folder / "videos")) / "videos"


@pytest.fixture(scope="session")
def demo_dataset(demo_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as `hs-data build --source demo` makes it; tests may write its report, and nothing else."""

    def make(output: Path) -> None:
        shutil.copytree(demo_videos, output / "demo_videos", copy_function=shutil.copy2)
        words = ["build", "--source", "demo", "--output", str(output), "--executor", "local", "--workers", "2"]
        done = subprocess.run(
            [sys.executable, "-m", "hs_data.cli", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    own = tmp_path_factory.mktemp("demo_dataset") / "dataset"
    return shutil.copytree(_once(tmp_path_factory, "built", make), own, copy_function=shutil.copy2)


@pytest.fixture(scope="session")
def small() -> ModuleType:
    """How the small dataset is made, and its names."""
    return _load(Path(__file__).parent / "fixtures" / "small_dataset.py")


@pytest.fixture(scope="session")
def small_videos(small: ModuleType, demo_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files of two people in VoxCeleb2's layout."""
    return small.write_videos(demo_videos, tmp_path_factory.mktemp("small_videos"))


@pytest.fixture(scope="session")
def small_dataset(small: ModuleType, small_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Them, built; tests work on a copy."""
    output = tmp_path_factory.mktemp("small") / "dataset"
    small.build(small_videos, output)
    return output


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums of floats depend on the number of threads; runs that are compared must have the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def random_shards() -> ModuleType:
    """The benchmark that writes shards of random numbers."""
    return _load(REPOSITORY / "benchmarks" / "loader.py")


@pytest.fixture(scope="session")
def random_dataset(random_shards: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards to train on: five clips, and three held out; tests leave them as they are."""
    path = tmp_path_factory.mktemp("random") / "dataset"
    columns = {"latent": Column(dtype="<f2", shape=(4, 64, 64)), "logmel": Column(dtype="<f2", shape=(4, 80))}
    contract = {"latent": {"id": "a", "channels": 4, "size": 64}, "audio": {"id": "logmel"}, "frame_rate": 25}
    splits = ["train"] * 5 + ["val"] * 3
    random_shards.write_dataset(path, [40] * 8, columns=columns, contract=contract, splits=splits)
    return path


@pytest.fixture(scope="session")
def made_up() -> ModuleType:
    """The benchmark that makes up datasets of any size, whose clips were scored and not encoded."""
    return _load(REPOSITORY / "benchmarks" / "report.py")


@pytest.fixture(scope="session")
def scale() -> ModuleType:
    """The benchmark that makes up what a build's workers do."""
    return _load(REPOSITORY / "benchmarks" / "scale.py")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def crowd(made_up: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 6000 made-up clips; tests leave it as it is."""
    path = tmp_path_factory.mktemp("crowd") / "dataset"
    made_up.write_dataset(path, 6000)
    return path


@pytest.fixture(scope="session")
def nasty_name() -> str:
    """A file name that tries to run in a page."""
    return NASTY


@pytest.fixture(scope="session")
def nasty_crowd(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crowd with one file of a nasty name, and words as nasty in what is told of every file."""
    path = tmp_path_factory.mktemp("nasty") / "dataset"
    shutil.copytree(crowd, path)
    for name in ("clips.parquet", "videos.parquet"):
        table = pq.read_table(path / name)
        paths = table["path"].to_pylist()
        columns = {"path": [NASTY if word == paths[0] else word for word in paths]}
        columns |= {"detail": [NASTY] * len(table)}
        for column, values in columns.items():
            place = table.schema.get_field_index(column)
            table = table.set_column(place, table.schema.field(place), pa.array(values))
        pq.write_table(table, path / name, row_group_size=4096)
    return path
