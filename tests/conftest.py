"""What several test files share: where the repository, the real clips and the weights lie."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


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
