"""Networks and detectors, one per file, each behind the interface of the stage that uses it."""

import importlib.util
from pathlib import Path

from ...manifests.errors import ConfigError, ModelError, how_to_install
from ..faces.detect import FaceDetector, FacesConfig
from ..faces.quality import CLIP, QualityConfig, QualityNetwork
from ..sync.estimate import SyncConfig, SyncNetwork
from .registry import ModelsConfig, require

CLIP_FILES = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)
"""What CLIP's folder holds beside the weights, each under its older or its newer name."""


def make_detector(faces: FacesConfig, models: ModelsConfig) -> FaceDetector:
    """Load the face detector that the settings name; its module is imported only now.

    Raises:
        ModelError: its weights are missing or cannot be loaded.
    """
    if faces.backend == "yunet":
        from .registry import require  # noqa: PLC0415
        from .yunet import YuNetDetector  # noqa: PLC0415

        return YuNetDetector(require("yunet", models), min_score=faces.min_score)
    if faces.backend == "retinaface":
        from .device import place  # noqa: PLC0415
        from .registry import require  # noqa: PLC0415
        from .retinaface import RetinaFaceDetector  # noqa: PLC0415

        device, dtype = place(models)
        weights = require("retinaface", models)
        return RetinaFaceDetector(weights, min_score=faces.min_score, device=device, dtype=dtype)
    if faces.backend == "annotated":
        from ..faces.annotated import NoDetector  # noqa: PLC0415

        return NoDetector()
    from .haar import HaarDetector  # noqa: PLC0415

    return HaarDetector()


def make_syncnet(sync: SyncConfig, models: ModelsConfig) -> SyncNetwork | None:
    """Load the network that `sync.backend` needs, or return None for the backend without one.

    Raises:
        ModelError: its weights are missing or cannot be loaded.
    """
    if sync.backend != "syncnet":
        return None
    from ..sync.syncnet import SyncNet  # noqa: PLC0415
    from .device import place  # noqa: PLC0415
    from .registry import require  # noqa: PLC0415

    device, dtype = place(models)
    return SyncNet(require("syncnet", models), device=device, dtype=dtype)


def make_iqa(quality: QualityConfig, models: ModelsConfig) -> QualityNetwork | None:
    """Load the network that `quality.iqa` names, or return None where it is off.

    Raises:
        ConfigError: its packages are not installed.
        ModelError: its weights are missing or cannot be loaded.
    """
    folder = require_iqa(quality, models)
    if folder is None:
        return None
    from .clip_iqa import ClipIqa  # noqa: PLC0415
    from .device import place  # noqa: PLC0415

    return ClipIqa(folder, device=place(models)[0])


def require_iqa(quality: QualityConfig, models: ModelsConfig) -> Path | None:
    """Return the folder of CLIP that `quality.iqa` needs, or None where it is off; nothing is loaded.

    Raises:
        ConfigError: its packages are not installed.
        ModelError: weights or other files of the folder are missing.
    """
    if quality.iqa == "none":
        return None
    absent = [name for name in ("torchmetrics", "transformers") if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"quality.iqa: {' and '.join(absent)} not installed; {how_to_install('iqa')}")
    folder = require(CLIP, models).parent
    missing = [" or ".join(names) for names in CLIP_FILES if not any((folder / name).is_file() for name in names)]
    if missing:
        raise ModelError(f"{folder}: no {', '.join(missing)}; copy them there beside the weights")
    return folder
