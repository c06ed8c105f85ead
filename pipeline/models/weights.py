"""Weight files into tensors, never running what a file says: safetensors, or torch's formats with `weights_only`."""

import io
import zipfile
from pathlib import Path
from typing import IO

import torch
from safetensors.torch import load_file

from ...manifests.errors import ModelError


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of weights to the CPU.

    Known forms: safetensors; torch's archive; torch's stream of pickles from before 1.6 (SyncNet v2); and a zip with
    one of these inside, which is how `torch.hub` files are published (RetinaFace). Pickles are read by torch's
    restricted unpickler, which builds tensors and containers and calls nothing else.

    Args:
        path: the file.

    Returns:
        Tensors by name, as the file has them.

    Raises:
        ModelError: the file is none of these, is damaged, or holds something else than tensors by name.
    """
    try:
        table = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except Exception as error:  # a damaged pickle or archive may raise anything
        raise ModelError(f"{path}: not a readable file of weights ({error}); fetch it again") from error
    if not isinstance(table, dict) or not all(isinstance(value, torch.Tensor) for value in table.values()):
        raise ModelError(f"{path}: holds something else than tensors by name; fetch it again")
    return table


def _load_torch(path: Path) -> object:
    with path.open("rb") as file:
        return _load_stream(_unwrap(path) or file)


def _load_stream(file: IO[bytes]) -> object:
    table = torch.load(file, map_location="cpu", weights_only=True)
    # Whisper wraps its tensors in {"dims": ..., "model_state_dict": ...}.
    return table.get("model_state_dict", table) if isinstance(table, dict) else table


def _unwrap(path: Path) -> IO[bytes] | None:
    """Return the one file inside a zip that is not itself torch's archive (that one has many entries), unpacked."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        inside = [entry for entry in archive.infolist() if not entry.is_dir()]
        return io.BytesIO(archive.read(inside[0])) if len(inside) == 1 else None
