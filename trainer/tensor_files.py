"""Files of tensors: safetensors, hashed while they are written, checked before they are read."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..manifests.errors import DatasetError
from ..manifests.storage import sha256_file

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of the format; what weights and optimizers hold."""
ALIGNMENT = 8
"""Bytes; where numbers begin in a file, so that they can be read as a memory map."""


class DamagedError(DatasetError):
    """A file that is not what was written."""


@dataclass(frozen=True, kw_only=True)
class TensorFile:
    """State of a file when it was written."""

    bytes: int
    sha256: str


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> TensorFile:
    """Write tensors of the CPU as safetensors, and hash the file on the way: it is not read again.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    # Wide numbers first, so that all are aligned; names decide the rest: equal tensors make equal files.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, offset = {}, 0
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for part in (struct.pack("<Q", len(text)), text, *(_bytes(tensors[name]) for name in order)):
            file.write(part)
            digest.update(part)
            size += len(part)
    return TensorFile(bytes=size, sha256=digest.hexdigest())


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def check_file(path: Path, facts: TensorFile) -> None:
    """Compare a file with what it was when it was written: its size first, which costs nothing.

    Args:
        path: of the file.
        facts: what it was.

    Raises:
        DamagedError: it is missing, or another.
    """
    if not path.is_file():
        raise DamagedError(f"{path}: is missing")
    size = path.stat().st_size
    if size != facts.bytes:
        raise DamagedError(f"{path}: has {size} bytes instead of {facts.bytes}")
    if sha256_file(path) != facts.sha256:
        raise DamagedError(f"{path}: has another sha256 than when it was written")


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors to the CPU.

    Raises:
        DamagedError: it is no such file.
    """
    with _reading(path):
        return load_file(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise DamagedError(f"{path}: cannot be read as tensors ({error})") from error
