"""A talking person: the photograph with a moving jaw, blinking eyes and a slow sway, seen by a camera."""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from .eyes import Eyes
from .jaw import Jaw
from .photo import disguise, enlarge, read_photo

PLATE_SCALE = 2.25
"""The photograph is enlarged once, by a little more than any shot shows it."""
BLINK_S = 0.2
SWAY_HZ = (0.11, 0.29)
"""Two slow waves that do not meet again within a clip."""
TILT_DEG, SHIFT_PX, BREATHE = 1.2, 2.0, 0.012
"""Largest sway: turn of the head, way in photo px, change of size as a share."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Part of the photograph that the camera shows."""

    width: int
    height: int
    zoom: float
    """Picture px for one photo px; the face is 95 photo px high to a Haar cascade, 113 to YuNet."""
    centre: tuple[float, float] = (222.0, 122.0)
    """The point of the photo in the middle of the picture."""


CLOSE = Framing(width=512, height=512, zoom=2.1)
WIDE = Framing(width=512, height=512, zoom=1.65, centre=(226.0, 160.0))


class Person:
    """The astronaut, or somebody else made of her photograph."""

    def __init__(self, *, is_disguised: bool) -> None:
        photo = read_photo("astronaut.png")
        self._is_mirrored = is_disguised
        self._plate = enlarge(disguise(photo) if is_disguised else photo, PLATE_SCALE)
        self._jaw = Jaw(self._plate, PLATE_SCALE)
        self._eyes = Eyes(self._plate, PLATE_SCALE)

    def draw(self, opening: float, blink: float, sway: np.ndarray, framing: Framing) -> np.ndarray:
        """Return one picture, [height, width, 3] uint8 RGB.

        Args:
            opening: of the mouth, 0-1.
            blink: 0 (eyes open) to 1.
            sway: [4] in [-1, 1]: tilt, right, down, nearer.
            framing: what the camera shows.
        """
        self._plate[self._jaw.window] = self._jaw.draw(opening)
        self._plate[self._eyes.window] = self._eyes.draw(blink)
        matrix = _camera(sway, framing, self._is_mirrored)
        size = (framing.width, framing.height)
        return cv2.warpAffine(self._plate, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


@cache
def person(name: str) -> Person:
    """Return person `a`, the astronaut as she is, or `b`, her double in other colours; made once."""
    return Person(is_disguised={"a": False, "b": True}[name])


class Manner:
    """Movements of a head and its lids, different for every seed."""

    def __init__(self, seed: int, duration_s: float) -> None:
        rng = np.random.default_rng([seed, 2])
        self._phases = rng.uniform(0, 2 * np.pi, (4, 2))
        self._blinks_s = np.cumsum(rng.uniform(2.2, 4.5, 2 + int(duration_s / 2.2))) - 1.5

    def sway(self, time_s: float) -> np.ndarray:
        """Return [4] in [-1, 1]: tilt, right, down, nearer."""
        waves = np.sin(2 * np.pi * np.array(SWAY_HZ) * time_s + self._phases)
        return waves @ np.array([0.6, 0.4])

    def blink(self, time_s: float) -> float:
        """Return 0 (eyes open) to 1."""
        since_s = time_s - self._blinks_s
        during = since_s[(since_s > 0) & (since_s < BLINK_S)]
        return float(np.sin(np.pi * during[0] / BLINK_S)) if len(during) else 0.0


def _camera(sway: np.ndarray, framing: Framing, is_mirrored: bool) -> np.ndarray:
    """Return the affine map [2, 3] from plate px to picture px."""
    angle = np.radians(TILT_DEG * sway[0])
    zoom = framing.zoom * (1 + BREATHE * sway[3]) / PLATE_SCALE
    turn = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if is_mirrored:
        turn = np.diag([-1, 1]) @ turn
    middle = (np.array(framing.centre) + SHIFT_PX * sway[1:3] + 0.5) * PLATE_SCALE - 0.5
    target = np.array([framing.width - 1, framing.height - 1]) / 2
    return np.column_stack([turn, target - turn @ middle])
