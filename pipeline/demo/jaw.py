"""The jaw of the photograph: lower lip and chin move, and the mouth opens between the teeth and the lower lip."""

import cv2
import numpy as np

# Measured on astronaut.png, photo px. The mouth smiles: the lower lip's upper edge is a parabola under the teeth.
MOUTH_X, MOUTH_HALF_WIDTH = 223.5, 21.0
CORNER_Y, LIP_DEPTH = 140.3, 9.4
CHIN_X, CHIN_Y, CHIN_CURVE = 224.0, 179.0, 0.0155
HINGE_Y = 132.0
LEFT, TOP, RIGHT, BOTTOM = 168, 132, 282, 206
"""The part of the photo that ever moves."""

CLOSED_PX = -6.4
"""Travel of the lower lip that brings the lips together, photo px; 0 is the photograph."""
OPEN_PX = 9.0
"""Travel at full opening: with the above 15.4 px, 14 % of the face (hairline to chin, 113 px)."""
COLLAR_PX = 15.0
"""Below the chin the motion fades over this height; any less and the neck would fold at full opening."""
NUM_LEVELS = 80
"""Pictures between closed and open: steps of 0.2 photo px, too small to see, and each is made once."""
THROAT, TONGUE = np.array([[38, 14, 14], [128, 58, 58]], np.float32)


class Jaw:
    """Draws the lower face of the enlarged photograph at any opening.

    Args:
        plate: the enlarged photograph, [H, W, 3] uint8.
        scale: plate px for one photo px.
    """

    def __init__(self, plate: np.ndarray, scale: float) -> None:
        self._scale = scale
        left, top, right, bottom = (round(edge * scale) for edge in (LEFT, TOP, RIGHT, BOTTOM))
        self.window = np.s_[top:bottom, left:right]
        """Slices of the plate that the pictures cover."""
        self._still = plate[self.window].copy()
        self._x = np.arange(left, right, dtype=np.float32)[None] / scale  # [1, W] photo px, as all lengths below
        self._y = np.arange(top, bottom, dtype=np.float32)[:, None] / scale  # [H, 1]
        bow = np.clip(
            1 - ((self._x - MOUTH_X) / MOUTH_HALF_WIDTH) ** 2, 0, None
        )  # 1 amid the lip, 0 from its corners on
        self._lip_y = CORNER_Y + LIP_DEPTH * bow
        # An open mouth is rounder than a smile.
        self._give = bow**0.7
        self._weight = self._weigh()
        self._levels: dict[int, np.ndarray] = {}

    def draw(self, opening: float) -> np.ndarray:
        """Return the window of the plate, [h, w, 3] uint8, at an opening from 0 (lips together) to 1."""
        level = round(min(max(opening, 0.0), 1.0) * NUM_LEVELS)
        if level not in self._levels:
            self._levels[level] = self._compose(CLOSED_PX + (OPEN_PX - CLOSED_PX) * level / NUM_LEVELS)
        return self._levels[level]

    def _weigh(self) -> np.ndarray:
        """Return [H, W], the share of the jaw's travel that each point below the lip line takes part in.

        The lip moves as one with the mouth's shape; towards the chin the motion becomes that of a bone that turns about
        the ears, so that points move the more the lower they lie; below the chin it fades.
        """
        chin_y = CHIN_Y - CHIN_CURVE * (self._x - CHIN_X) ** 2
        bone = np.clip((chin_y - HINGE_Y) / (CHIN_Y - HINGE_Y), 0, 1)
        chin_y = np.maximum(chin_y, self._lip_y + 10)
        face = self._give + (bone - self._give) * _ramp((self._y - self._lip_y - 2) / (chin_y - self._lip_y - 5))
        return face * (1 - _ramp((self._y - chin_y) / COLLAR_PX))

    def _compose(self, travel: float) -> np.ndarray:
        """Lay the moved lower face over the unmoved upper one, with the throat between them."""
        source_y = self._source_rows(travel)
        width, height = self._x.size, self._y.size
        columns = np.broadcast_to(np.arange(width, dtype=np.float32), (height, width))
        rows = (source_y - self._y[0]) * self._scale
        lower = cv2.remap(self._still, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        is_lower = self._soft_edge(source_y - self._lip_y)
        is_upper = np.maximum(self._soft_edge(self._lip_y - self._y), self._give[..., None] == 0)
        lip_y = self._lip_y + travel * self._give
        upper = self._still * (1 - 0.4 * np.exp(-np.abs(lip_y - self._y) / 1.2) * (self._give > 0))[..., None]
        picture = self._throat(lip_y) * (1 - is_upper) + upper * is_upper
        return (lower * is_lower + picture * (1 - is_lower)).clip(0, 255).astype(np.uint8)

    def _source_rows(self, travel: float) -> np.ndarray:
        """Return [H, W] float32: which y of the still photo moves to each point."""
        moved = np.maximum.accumulate(self._y + travel * self._weight, axis=0)
        y = self._y[:, 0]
        return np.stack([np.interp(y, moved[:, x], y) for x in range(moved.shape[1])], axis=1).astype(np.float32)

    def _soft_edge(self, distance: np.ndarray) -> np.ndarray:
        return np.clip(distance * self._scale / 2 + 0.5, 0, 1)[..., None]

    def _throat(self, lip_y: np.ndarray) -> np.ndarray:
        """Return the inside of the mouth, [H, W, 3]: dark, with the tongue behind the lower lip of a wide mouth."""
        tongue = np.clip(1 - (lip_y - self._y) / 7, 0, 1) * np.clip((lip_y - self._lip_y) / 8, 0, 1)
        return THROAT + tongue[..., None] * (TONGUE - THROAT)


def _ramp(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)
