"""The Haar cascade that ships in OpenCV 4.x: frontal faces, no landmarks, no download."""

from pathlib import Path

import cv2
import numpy as np

from ...manifests.errors import ModelError
from ..faces.detect import Detections

CASCADE = "haarcascade_frontalface_default.xml"


class HaarDetector:
    """Viola-Jones detection; a face tilted by more than about 15 degrees is missed."""

    has_landmarks = False

    def __init__(self) -> None:
        path = Path(cv2.data.haarcascades) / CASCADE  # type: ignore[attr-defined]
        self._cascade = cv2.CascadeClassifier(str(path))
        if self._cascade.empty():
            raise ModelError(f"{path}: cannot be loaded; install OpenCV 4.x (5.0 ships no Haar cascades)")

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        """Find frontal faces in each [H, W, 3] uint8 RGB picture; the score is the cascade's own, squashed to 0-1."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: np.ndarray) -> Detections:
        grey = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        side = max(24, min(grey.shape) // 12)
        found, _, weights = self._cascade.detectMultiScale3(
            grey, scaleFactor=1.1, minNeighbors=6, minSize=(side, side), outputRejectLevels=True
        )
        if len(found) == 0:
            return Detections(boxes=np.zeros((0, 4), np.float32), scores=np.zeros(0, np.float32), landmarks=None)
        corner_size = np.asarray(found, np.float32)
        boxes = np.concatenate([corner_size[:, :2], corner_size[:, :2] + corner_size[:, 2:]], axis=1)
        scores = (1 / (1 + np.exp(-np.asarray(weights, np.float32)))).reshape(-1)
        # Ties are broken by place, so that the order never depends on the cascade's internal threads.
        order = np.lexsort((boxes[:, 1], boxes[:, 0], -scores))
        return Detections(boxes=boxes[order], scores=scores[order], landmarks=None)
