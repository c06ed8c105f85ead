"""RetinaFace through retinaface-pytorch's network: boxes and five landmarks, a whole batch in one forward."""

import warnings
from pathlib import Path

import numpy as np
import torch
from retinaface.box_utils import decode, decode_landm
from retinaface.network import RetinaFace
from torch.nn import functional
from torchvision.ops import nms

from ...manifests.errors import ModelError
from ..faces.detect import Detections
from .weights import load_weights

NMS_IOU = 0.4
VARIANCES = (0.1, 0.2)
ANCHORS_PX = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
"""Sides of the prior boxes in each cell, by the size of the cell, px."""
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""Mean and deviation of red, green and blue in ImageNet, 0-255, as `albumentations.Normalize` has them."""


class RetinaFaceDetector:
    """Deng et al., "RetinaFace: Single-stage Dense Face Localisation in the Wild", 2019, in retinaface-pytorch 0.0.6.

    The network, the priors, the decoding and the overlap of 0.4 are that package's. Ours is what stands around them:
    it takes one picture at a time and truncates to whole pixels; here a batch goes through at once, pixels stay
    fractions, and one table of candidates a batch comes back from the device.

    As there, the picture lies in the middle of a square of zeros. A rectangle would save 44 % on 16:9, but the network
    sees the border everywhere: with seeded weights, boxes in a rectangle of the same grid (sides a multiple of 32)
    came out elsewhere by more than they vary between places, so it is not the same detector.

    Args:
        weights: the published file, or any file of the network's tensors.
        min_score: detections below are left out, 0-1.
        device: where the network runs.
        dtype: what it computes in; boxes are decoded in float32.

    Raises:
        ModelError: the file cannot be read or holds other weights.
    """

    has_landmarks = True

    def __init__(self, weights: Path, *, min_score: float, device: torch.device, dtype: torch.dtype) -> None:
        network = _load(weights).eval().requires_grad_(False).to(device=device, dtype=dtype)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] - missing in the stub
        self._min_score = min_score
        self._device = device
        self._dtype = dtype
        self._priors: dict[int, torch.Tensor] = {}

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        """Find faces in pictures [H, W, 3] uint8 RGB, all of one size."""
        height, width = pictures[0].shape[:2]
        side = -(-max(height, width) // 32) * 32
        left, top = (side - width) // 2, (side - height) // 2
        with torch.inference_mode():
            rows = self._find(self._prepare(pictures, side, left, top), self._priors_of(side))
        rows[:, 2:] -= np.tile(np.array([left, top], np.float32), 7)
        # As upstream: what begins beyond the last pixel is not in the picture.
        rows = rows[(rows[:, 2] < width - 1) & (rows[:, 3] < height - 1)]
        return [_pick(rows[rows[:, 0] == number]) for number in range(len(pictures))]

    def _prepare(self, pictures: list[np.ndarray], side: int, left: int, top: int) -> torch.Tensor:
        """Return [B, 3, side, side], normalised, with zeros around the picture."""
        height, width = pictures[0].shape[:2]
        batch = torch.from_numpy(np.stack(pictures)).to(self._device).float()
        batch = (batch - torch.tensor(MEAN, device=self._device)) / torch.tensor(STD, device=self._device)
        margins = (0, 0, left, side - width - left, top, side - height - top)
        # [B, H, W, C] in memory seen as [B, C, H, W] is what "channels last" means.
        return functional.pad(batch, margins).to(self._dtype).permute(0, 3, 1, 2)

    def _find(self, batch: torch.Tensor, priors: torch.Tensor) -> np.ndarray:
        """Return the candidates [K, 16]: number of the picture, score, box, landmarks; px of the square."""
        # The network gives offsets from each prior, scaled by the variances, and `decode` turns them into px. Only what
        # is above the limit is decoded, and everything comes back in one copy.
        boxes, classes, points = (output.float() for output in self._network(batch))
        scores = classes.softmax(dim=-1)[..., 1]  # [B, priors]
        number, prior = torch.nonzero(scores > self._min_score, as_tuple=True)
        chosen = number, prior
        parts = [
            torch.stack([number.float(), scores[chosen]], dim=1),
            decode(boxes[chosen], priors[prior], VARIANCES),
            decode_landm(points[chosen], priors[prior], VARIANCES),
        ]
        return torch.cat(parts, dim=1).cpu().numpy()

    def _priors_of(self, side: int) -> torch.Tensor:
        if side not in self._priors:
            self._priors[side] = torch.from_numpy(prior_boxes(side)).to(self._device)
        return self._priors[side]


def prior_boxes(side: int) -> np.ndarray:
    """Return the priors [N, 4] float32 of a square picture: centre x, y, width and height, px.

    Those of `retinaface.prior_box` times the side, in its order: cell size, row, column, anchor.
    """
    parts = []
    for step, sizes in ANCHORS_PX.items():
        centres = (np.arange(-(-side // step)) + 0.5) * step
        y, x, size = np.meshgrid(centres, centres, sizes, indexing="ij")
        parts.append(np.stack([x, y, size, size], axis=-1).reshape(-1, 4))
    return np.concatenate(parts).astype(np.float32)


def _pick(rows: np.ndarray) -> Detections:
    """Keep the best of candidates [K, 16] that overlap, best first; equal ones by their position."""
    rows = rows[np.lexsort((rows[:, 3], rows[:, 2], -rows[:, 1]))]
    rows = rows[nms(torch.from_numpy(rows[:, 2:6]), torch.from_numpy(rows[:, 1]), NMS_IOU).numpy()]
    return Detections(boxes=rows[:, 2:6], scores=rows[:, 1], landmarks=rows[:, 6:].reshape(-1, 5, 2))


def _load(weights: Path) -> RetinaFace:
    # On "meta" nothing is drawn at random or allocated, only to be overwritten.
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The parameter 'pretrained'|Arguments other than a weight enum", UserWarning)
        network = RetinaFace(
            name="Resnet50",
            pretrained=False,
            return_layers={"layer2": 1, "layer3": 2, "layer4": 3},
            in_channels=256,
            out_channels=256,
        )
    try:
        network.load_state_dict(load_weights(weights), assign=True)
    except RuntimeError as error:
        raise ModelError(f"{weights}: holds other weights than RetinaFace's; fetch it again") from error
    return network
