"""Faces in single frames: the detector's interface, its settings, and how a picture is scaled for it."""

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args, runtime_checkable

import cv2
import numpy as np

from ...manifests.errors import HsDataError
from ...manifests.plugins import Plugin, find_plugins
from ...manifests.settings import OrPlugin, Range, check_ranges

MIN_SHARE = 0.05
"""Smallest face height that is looked for, as a share of the picture's shorter side."""
OwnDetector = Literal["haar", "yunet", "retinaface", "annotated"]


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """Detector, how often it looks and how closely."""

    backend: Annotated[OwnDetector, OrPlugin("hs_data.detectors")] = "haar"
    """`haar`: ships in OpenCV, frontal faces, no landmarks. `yunet`: a 232 KB network, boxes and five landmarks.
    `retinaface`: ResNet-50, boxes and five landmarks, as HighSync; for GPUs. `annotated`: none, the boxes of the source
    are the faces (docs/sources.md), no landmarks. Or the name of another package's detector (docs/extending.md)."""
    stride: Annotated[int, Range(1, 250)] = 5
    """Detect, and measure sharpness and light, on every n-th frame; frames between are detected too where a face comes,
    goes or is lost."""
    max_side_px: Annotated[int, Range(64, 8192)] = 640
    """Pictures are scaled down to this longest side for detection."""
    min_score: Annotated[float, Range(0.01, 0.99)] = 0.6
    """Detections below this score are ignored, 0-1, each network's own scale; Haar has none. retinaface-pytorch's
    default is 0.7."""
    batch: Annotated[int, Range(1, 1024)] = 1
    """Pictures that go through the network at once; GPUs want 8 or more. Frames of `batch` times `stride` are held for
    it: 250 MB for 8 times 5 at 1920x1080."""

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weights that the detector needs."""
        return [self.backend] if self.backend in ("yunet", "retinaface") else []

    @property
    def plugin(self) -> Plugin | None:
        """The detector of another package that the settings name, or None where it is one of ours."""
        own = get_args(OwnDetector)
        return None if self.backend in own else find_plugins("hs_data.detectors", own)[self.backend]


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Faces of one frame, best first."""

    boxes: np.ndarray
    """[N, 4] float32 x0, y0, x1, y1 in pixels of the picture."""
    scores: np.ndarray
    """[N] float32."""
    landmarks: np.ndarray | None
    """[N, 5, 2] float32: right eye, left eye, nose, right and left mouth corner (the person's right); or None."""


@runtime_checkable
class FaceDetector(Protocol):
    """A detector's interface; it holds its model and no other state."""

    has_landmarks: bool

    def detect(self, pictures: list[np.ndarray]) -> list[Detections]:
        """Find the faces in each picture [H, W, 3] uint8 RGB, all of one size."""
        ...


def load_detector(plugin: Plugin, config: FacesConfig) -> FaceDetector:
    """Make the detector of another package: its entry point is called with the settings of this stage.

    Raises:
        ConfigError: it cannot be loaded, or does not give a `FaceDetector`.
    """
    make = plugin.load()
    try:
        detector = make(config) if callable(make) else make
    except HsDataError:  # it says in its own words what is missing, such as weights
        raise
    except Exception as error:
        raise plugin.fault(f"fails ({type(error).__name__}: {error})") from error
    if not isinstance(detector, FaceDetector):
        raise plugin.fault(f"gives {type(detector).__name__}, which has not `detect` and `has_landmarks`")
    return detector


def detect_scaled(detector: FaceDetector, pictures: list[np.ndarray], config: FacesConfig) -> list[Detections]:
    """Detect on pictures scaled to `max_side_px`, small faces left out, in the coordinates of the originals."""
    height, width = pictures[0].shape[:2]
    scale = min(1.0, config.max_side_px / max(height, width))
    if scale < 1.0:
        size = (round(width * scale), round(height * scale))
        pictures = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    ratio = np.float32(width / pictures[0].shape[1])
    min_height = MIN_SHARE * min(height, width)
    return [_rescale(found, ratio, min_height) for found in detector.detect(pictures)]


def _rescale(found: Detections, ratio: np.float32, min_height: float) -> Detections:
    boxes = found.boxes * ratio
    large = boxes[:, 3] - boxes[:, 1] >= min_height
    landmarks = None if found.landmarks is None else found.landmarks[large] * ratio
    return Detections(boxes=boxes[large], scores=found.scores[large], landmarks=landmarks)
