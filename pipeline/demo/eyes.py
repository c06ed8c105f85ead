"""The eyes of the photograph: lids that close for a blink."""

import cv2
import numpy as np

# Measured on astronaut.png, photo px: middle of each eye.
CENTRES = ((204.0, 101.0), (246.5, 103.0))
HALF_WIDTH, HALF_HEIGHT = 12.5, 4.4
LID_PX = 3.0
"""Height of the skin above the open eye that is stretched over it."""
NUM_LEVELS = 4
"""Pictures between open and shut; a blink lasts five frames."""
LASHES = 0.5
"""Darkness of the edge of the lid: 1 is black."""


class Eyes:
    """Draws both eyes at any state of a blink.

    Args:
        plate: the enlarged photograph, [H, W, 3] uint8.
        scale: plate px for one photo px.
    """

    def __init__(self, plate: np.ndarray, scale: float) -> None:
        self._scale = scale
        left, right = CENTRES[0][0] - HALF_WIDTH, CENTRES[1][0] + HALF_WIDTH
        top, bottom = CENTRES[0][1] - HALF_HEIGHT - LID_PX - 2, CENTRES[1][1] + HALF_HEIGHT + 3
        edges = [round(edge * scale) for edge in (left, top, right, bottom)]
        self.window = np.s_[edges[1] : edges[3], edges[0] : edges[2]]
        """Slices of the plate that the pictures cover."""
        self._still = plate[self.window].copy()
        self._x = np.arange(edges[0], edges[2], dtype=np.float32)[None] / scale
        self._y = np.arange(edges[1], edges[3], dtype=np.float32)[:, None] / scale
        self._levels: dict[int, np.ndarray] = {0: self._still}

    def draw(self, blink: float) -> np.ndarray:
        """Return the window of the plate, [h, w, 3] uint8; 0 is open, 1 is shut."""
        level = round(blink * NUM_LEVELS)
        if level not in self._levels:
            picture = self._still.astype(np.float32)
            for centre in CENTRES:
                picture = self._shut(picture, centre, level / NUM_LEVELS)
            self._levels[level] = picture.clip(0, 255).astype(np.uint8)
        return self._levels[level]

    def _shut(self, picture: np.ndarray, centre: tuple[float, float], share: float) -> np.ndarray:
        """Stretch the skin above one eye down to the edge of the lid, and darken that edge."""
        arch = HALF_HEIGHT * np.clip(1 - ((self._x - centre[0]) / HALF_WIDTH) ** 2, 0, None)  # [1, W]
        skin_y = centre[1] - arch - LID_PX
        edge_y = centre[1] - arch + 2 * arch * share
        stretch = LID_PX / np.maximum(edge_y - skin_y, LID_PX)
        source_y = np.where(self._y < skin_y, self._y, skin_y + (self._y - skin_y) * stretch)
        columns = np.broadcast_to(np.arange(self._x.size, dtype=np.float32), source_y.shape)
        rows = ((source_y - self._y[0]) * self._scale).astype(np.float32)
        lid = cv2.remap(self._still, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        is_lid = np.clip((edge_y - self._y) * self._scale / 2 + 0.5, 0, 1) * (arch > 0) * (self._y > skin_y)
        lashes = 1 - LASHES * np.exp(-(((self._y - edge_y) / 0.9) ** 2)) * np.clip(arch / 2, 0, 1)
        return (picture + is_lid[..., None] * (lid - picture)) * lashes[..., None]
