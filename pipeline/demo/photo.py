"""The photographs that the demo is made of: they ship in scikit-image's wheel, so nothing is downloaded."""

from functools import cache
from importlib.resources import files

import cv2
import numpy as np

from ...manifests.errors import SourceError


@cache
def read_photo(name: str) -> np.ndarray:
    """Return a photograph of the installed scikit-image: [H, W, 3] uint8 RGB.

    The file is read straight from the package: `skimage.data` would fetch a damaged or missing one from the network.

    Raises:
        SourceError: the file is not there or not a picture.
    """
    file = files("skimage.data") / name
    content = np.frombuffer(file.read_bytes(), np.uint8) if file.is_file() else np.zeros(0, np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    if picture is None:
        raise SourceError(f"{file}: missing or damaged; reinstall scikit-image")
    return np.asarray(picture)


def enlarge(photo: np.ndarray, scale: float) -> np.ndarray:
    """Enlarge a photograph [H, W, 3] so that it still looks taken at that size: sharpened, with grain."""
    size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
    large = cv2.resize(photo, size, interpolation=cv2.INTER_LANCZOS4).astype(np.float32)
    blurred = cv2.GaussianBlur(large, (0, 0), 0.7 * scale)
    grain = np.random.default_rng(1).normal(0, 1.2, large.shape[:2]).astype(np.float32)
    return (large + 0.8 * (large - blurred) + grain[..., None]).clip(0, 255).astype(np.uint8)


def disguise(portrait: np.ndarray) -> np.ndarray:
    """Make another person's picture of the astronaut [512, 512, 3]: dark hair and a blue suit; show it mirrored.

    No second face ships in a dependency without a download. The features stay hers, so a network that knows people
    would call them one person; detectors, trackers and viewers see two.
    """
    rgb = portrait.astype(np.float32) / 255
    hue, light, saturation = cv2.split(cv2.cvtColor(rgb, cv2.COLOR_RGB2HLS))  # hue in degrees, the others 0-1
    head, face, suit = (np.zeros(hue.shape, np.float32) for _ in range(3))
    cv2.ellipse(head, (226, 88), (80, 80), 0, 0, 360, 1.0, -1)
    cv2.ellipse(face, (223, 128), (43, 54), 0, 0, 360, 1.0, -1)
    suit[190:, 20:365] = 1
    brown = head * (1 - face) * (saturation > 0.2) * (hue > 25) * (hue < 70) * (light < 0.72)
    orange = suit * (saturation > 0.42) * ((hue < 36) | (hue > 340)) * (light > 0.1)
    hair, cloth = (cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None] for mask in (brown, orange))
    rgb *= 1 - 0.5 * hair
    rgb += cloth * (rgb[..., ::-1] * np.array([0.75, 0.9, 0.7], np.float32) - rgb)
    return (rgb * 255).clip(0, 255).astype(np.uint8)
