"""A clip that is being encoded: frames in, arrays of a shard out."""

from typing import Any

import numpy as np

from ...manifests.records import MISSING_SHARE
from .. import crop
from ..latents import SIZE, CropEncoder, is_checked
from ..media.costs import Costs
from ..media.decode import Frame
from ..sync import lip_crops
from ..sync.lips import LipStream
from .items import EncodeItem

Row = dict[str, Any]


class ClipEncoder:
    """A clip that is being encoded: takes the frames of its stretch, holds one batch of crops as pixels at most."""

    def __init__(
        self, item: EncodeItem, config: crop.CropConfig, encoder: CropEncoder, lips: LipStream | None = None
    ) -> None:
        self.item = item
        self.lips = lips
        """Takes the lips, where the sound is to be measured again."""
        self.failure: Row | None = None
        """Why the clip has no arrays."""
        self.round_trip: Row | None = None
        """Loss of the codec, of the first batch of a clip that is checked."""
        size = (item.video.width, item.video.height)
        self._crops = crop.crop_boxes(item.boxes, item.landmarks, config, size).astype("<f4")
        self._encoder = encoder
        self._batch: list[np.ndarray] = []
        self._encoded: list[dict[str, np.ndarray]] = []
        self._sound: dict[str, np.ndarray] = {}
        self._num_added = self._num_stale = 0

    @property
    def is_whole(self) -> bool:
        """Whether every frame has been taken."""
        return self._num_added == self.item.num_frames

    def add(self, frame: Frame, costs: Costs) -> None:
        """Take a frame; one that lies outside the clip is ignored."""
        index = frame.index - self.item.start_frame
        if not 0 <= index < self.item.num_frames:
            return
        self._num_added += 1
        self._num_stale += frame.is_stale
        with costs.stage("crop"):
            self._batch.append(crop.warp(frame.rgb, self._crops[index], SIZE))
        if self.lips is not None:
            with costs.stage("lips"):
                self.lips.add(lip_crops.crop(frame.rgb, *lip_crops.place(self.item.boxes, index)))
        if len(self._batch) == self._encoder.config.batch:
            self._flush(costs)

    def finish(self, sound: dict[str, np.ndarray], costs: Costs) -> None:
        """Encode what is left and take the sound; a clip with too many damaged frames fails."""
        self._flush(costs)
        self._sound = sound
        share = self._num_stale / self.item.num_frames
        if share > MISSING_SHARE:
            self.failure = {"outcome": "frame_count_mismatch", "value": share, "threshold": MISSING_SHARE}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the clip's arrays, one row a frame."""
        names = self._encoder.config.columns
        arrays = {name: np.concatenate([batch[name] for batch in self._encoded]) for name in names}
        arrays |= {"crop": self._crops, **self._sound}
        if self.item.landmarks is not None:
            corner, size = self._crops[:, None, :2], self._crops[:, None, 2:] - self._crops[:, None, :2]
            arrays["landmarks"] = ((self.item.landmarks - corner) / size * SIZE).astype("<f4")
        return arrays

    def _flush(self, costs: Costs) -> None:
        if not self._batch:
            return
        crops = np.stack(self._batch)
        with costs.stage("latents"):
            encoded = self._encoder.encode(crops)
        if not self._encoded and is_checked(self.item.clip_id):
            with costs.stage("check"):
                self.round_trip = self._encoder.round_trip(crops, encoded["latent"])
        self._encoded.append(encoded)
        self._batch = []
