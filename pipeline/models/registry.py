"""Which model files there are, and where they lie on this machine. Nothing is downloaded here."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...manifests.errors import ModelError
from ...manifests.storage import sha256_file


@dataclass(frozen=True, kw_only=True)
class ModelsConfig:
    """Where weights lie."""

    dir: str = ""
    """Folder of weight files; empty: `$HS_DATA_MODELS`, or `~/.cache/hs-data/models`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run; `auto`: on CUDA where there is one."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numbers that networks compute in; `auto`: bfloat16 on CUDA, float32 on a CPU. Other numbers, other scores."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A weight file that a stage may ask for."""

    name: str
    purpose: str
    filename: str
    sha256: str
    size_bytes: int
    licence: str
    commercial: bool
    source: str


MODEL_FILES = (
    ModelFile(
        name="yunet",
        purpose="face boxes and five landmarks (faces.backend=yunet)",
        filename="face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size_bytes=232_589,
        licence="MIT",
        commercial=True,
        source="Hugging Face opencv/face_detection_yunet",
    ),
)


def models_dir(config: ModelsConfig) -> Path:
    """Return the folder where weights are looked for."""
    named = config.dir or os.environ.get("HS_DATA_MODELS", "")
    return Path(named).expanduser().absolute() if named else Path.home() / ".cache" / "hs-data" / "models"


def find(name: str, config: ModelsConfig) -> Path | None:
    """Return the file of a model, or None when it is not there. A file counts by its hash, whatever its name."""
    wanted = get(name)
    folder = models_dir(config)
    if not folder.is_dir():
        return None
    by_size = [path for path in sorted(folder.iterdir()) if path.is_file() and path.stat().st_size == wanted.size_bytes]
    named_first = sorted(by_size, key=lambda path: path.name != wanted.filename)
    return next((path for path in named_first if sha256_file(path) == wanted.sha256), None)


def require(name: str, config: ModelsConfig) -> Path:
    """Return the file of a model; raise `ModelError` that says how to get it when it is not there."""
    path = find(name, config)
    if path is None:
        wanted = get(name)
        raise ModelError(
            f"{name}: no file with sha256 {wanted.sha256[:12]}… in {models_dir(config)}; get {wanted.filename} from "
            f"{wanted.source} and put it there, or name its folder with --set models.dir=DIR"
        )
    return path


def get(name: str) -> ModelFile:
    """Return the entry of a model; a `KeyError` is a bug of ours."""
    return {entry.name: entry for entry in MODEL_FILES}[name]


def fingerprint(names: list[str]) -> str:
    """Return one hash over the models in use, for the identity of what they made."""
    return hashlib.sha256(" ".join(sorted(get(name).sha256 for name in names)).encode()).hexdigest()
