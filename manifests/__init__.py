"""The data, on disk and in memory: records, sources, shards, commit log. No torch, Ray or cv2."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dataset import Dataset


def open_dataset(path: "Path | str") -> "Dataset":
    """Open a dataset folder for reading; raise `DatasetError` when it is none, not finished, or too new."""
    from .dataset import open_dataset as open_it  # noqa: PLC0415 - Arrow is loaded by those who read

    return open_it(path)
