"""Networks and detectors, one per file, each behind the interface of the stage that uses it."""

from ..faces import FaceDetector, FacesConfig
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
    from .haar import HaarDetector  # noqa: PLC0415

    return HaarDetector()
