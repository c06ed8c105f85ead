"""YuNet through OpenCV's `FaceDetectorYN`: boxes and five landmarks from a 232 KB network."""

from pathlib import Path

import cv2
import numpy as np

from ...manifests.errors import ModelError
from ..faces.detect import Detections

NMS_IOU = 0.3
TOP_K = 100


class YuNetDetector:
    """Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", 2023; the OpenCV Zoo model of 2023-03.

    Args:
        weights: the ONNX file.
        min_score: detections below are left out, 0-1.
    """

    has_landmarks = True

    def __init__(self, weights: Path, *, min_score: float) -> None:
        try:
            self._network = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), min_score, NMS_IOU, TOP_K)
        except cv2.error as error:
            raise ModelError(f"{weights}: OpenCV cannot load it ({error.err}); fetch it again") from error

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        """Find faces in each [H, W, 3] uint8 RGB picture."""
        return [self._detect_one(picture) for picture in pictures]

    def _detect_one(self, picture: np.ndarray) -> Detections:
        height, width = picture.shape[:2]
        self._network.setInputSize((width, height))
        _, rows = self._network.detect(np.ascontiguousarray(picture[..., ::-1]))
        if rows is None:
            rows = np.zeros((0, 15), np.float32)
        # Columns: x, y, w, h, five landmarks, score.
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1).astype(np.float32)
        landmarks = rows[:, 4:14].reshape(-1, 5, 2).astype(np.float32)
        scores = rows[:, 14].astype(np.float32)
        order = np.lexsort((boxes[:, 1], boxes[:, 0], -scores))
        return Detections(boxes=boxes[order], scores=scores[order], landmarks=landmarks[order])
