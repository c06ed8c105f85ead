"""Networks and detectors, one per file, each behind the interface of the stage that uses it."""

from ..faces import FaceDetector, FacesConfig
from ..sync import SyncConfig, SyncNetwork
from .registry import ModelsConfig


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
        from ..annotated import NoDetector  # noqa: PLC0415

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
    from .device import place  # noqa: PLC0415
    from .registry import require  # noqa: PLC0415
    from .syncnet import SyncNet  # noqa: PLC0415

    device, dtype = place(models)
    return SyncNet(require("syncnet", models), device=device, dtype=dtype)
