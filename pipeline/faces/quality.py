"""Picture quality of a face: sharpness, light, motion, head pose; plain measurements, each named in the clip table."""

from dataclasses import dataclass
from typing import Literal, Protocol

import cv2
import numpy as np

CLIP = "clip-vit-base-patch16"


class QualityNetwork(Protocol):
    """Rates how good a picture looks."""

    def score(self, face: np.ndarray) -> float:
        """Rate one picture [H, W, 3] uint8 RGB, 0 to 1, best 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Measurements of the picture."""

    iqa: Literal["none", "clip_iqa"] = "none"
    """`clip_iqa`: CLIP rates one face a second as a good or bad photo (an extra; its weights are put there by hand)."""

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weights that the rating needs."""
        return [CLIP] if self.iqa == "clip_iqa" else []


FACE_PX = 192
"""Faces are measured at this side, so that sharpness means the same for a large face and a small one."""
MARGIN = 0.25
"""Thumbnails show this share of the box around it."""
JPEG_QUALITY = 80
THUMBNAIL_PX = 112
"""Longer side of the thumbnails that the report shows."""

# A generic head: right eye, left eye, nose tip, right and left mouth corner, mm, x to the person's left, y down,
# z away from the camera. Mean adult distances (63 mm between pupils) rounded; good to about 5 degrees.
HEAD_MM = np.array([[-31.5, -35, 30], [31.5, -35, 30], [0, 0, 0], [-25, 32, 22], [25, 32, 22]], np.float64)


@dataclass(frozen=True, kw_only=True)
class FaceQuality:
    """One frame's face."""

    sharpness: float
    """Variance of the Laplacian of the grey face at 192 px; under about 20 is blurred."""
    brightness: float
    """Mean grey level, 0-255."""
    contrast: float
    """Standard deviation of the grey level."""


def look(rgb: np.ndarray, box: np.ndarray) -> FaceQuality | None:
    """Measure one face: `rgb` [H, W, 3] uint8, `box` [4]; None when the box lies outside the picture."""
    face = cut(rgb, box, margin=0.0)
    if face is None:
        return None
    smaller = cv2.INTER_AREA if face.shape[0] > FACE_PX else cv2.INTER_LINEAR
    grey = cv2.cvtColor(cv2.resize(face, (FACE_PX, FACE_PX), interpolation=smaller), cv2.COLOR_RGB2GRAY)
    return FaceQuality(
        sharpness=float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        brightness=float(grey.mean()),
        contrast=float(grey.std()),
    )


def thumbnail(rgb: np.ndarray, box: np.ndarray, side_px: int = THUMBNAIL_PX) -> bytes | None:
    """Return a small JPEG of the face with some surroundings, or None when the box lies outside the picture."""
    face = cut(rgb, box, margin=MARGIN)
    if face is None:
        return None
    longest = max(face.shape[:2])
    size = tuple(max(1, round(side * side_px / longest)) for side in (face.shape[1], face.shape[0]))
    small = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes() if done else None


def cut(rgb: np.ndarray, box: np.ndarray, *, margin: float) -> np.ndarray | None:
    """Return the part of the picture inside a box grown by `margin` of its size, or None when there is none."""
    height, width = rgb.shape[:2]
    grow = margin * (box[2:] - box[:2])
    left, top = np.floor(np.maximum(box[:2] - grow, 0)).astype(int)
    right, bottom = np.ceil(np.minimum(box[2:] + grow, (width, height))).astype(int)
    return rgb[top:bottom, left:right] if right - left > 1 and bottom - top > 1 else None


def head_pose(landmarks: np.ndarray, width: int, height: int) -> tuple[float, float] | None:
    """Estimate how far the head is turned and nods from five landmarks [5, 2].

    Returns:
        Yaw and pitch in degrees, both 0 for a head that faces the camera, or None when the points fit no head.
    """
    focal = float(max(width, height))
    camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    points = landmarks.astype(np.float64).reshape(5, 1, 2)
    try:
        found, rotation, _ = cv2.solvePnP(HEAD_MM, points, camera, None, flags=cv2.SOLVEPNP_SQPNP)
    except cv2.error:  # points that coincide or are not finite
        return None
    if not found or not np.isfinite(rotation).all():
        return None
    matrix, _ = cv2.Rodrigues(rotation)
    forward = matrix @ np.array([0.0, 0.0, 1.0])
    return float(np.degrees(np.arctan2(forward[0], forward[2]))), float(np.degrees(np.arcsin(-forward[1])))
