"""The networks that a worker holds: each is loaded when it is first asked for, once, and kept."""

from functools import cached_property

import numpy as np

from ..manifests.records import FRAME_RATE, SAMPLES_PER_FRAME
from .audio_features import AudioFeatures, make_audio_features
from .config import Config
from .faces.detect import FaceDetector
from .faces.quality import QualityNetwork
from .latents import SIZE, CropEncoder
from .models import make_detector, make_iqa, make_syncnet
from .sync.estimate import SyncNetwork
from .sync.lip_crops import SIDE
from .sync.lips import BATCH_FRAMES, CONTEXT_FRAMES


class Networks:
    """What the settings name: detector, sync network, rating of pictures, sound features, image codec.

    Loading one raises `ModelError` when its weights are missing or are not those of the network.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def detector(self) -> FaceDetector:
        """Finds faces."""
        return make_detector(self._config.faces, self._config.models)

    @cached_property
    def syncnet(self) -> SyncNetwork | None:
        """Compares lips and sound; None where the sync backend has no network."""
        return make_syncnet(self._config.sync, self._config.models)

    @cached_property
    def iqa(self) -> QualityNetwork | None:
        """Rates pictures of faces; None where that is off."""
        return make_iqa(self._config.quality, self._config.models)

    @cached_property
    def audio(self) -> AudioFeatures:
        """Turns sound into what a recipe conditions on."""
        return make_audio_features(self._config.audio, self._config.models)

    @cached_property
    def crops(self) -> CropEncoder:
        """Turns crops into latents."""
        return CropEncoder(self._config.latents, self._config.models)

    def exercise(self) -> None:
        """Load all of them and run the largest batch of each once: what a worker needs of memory, it needs then."""
        side = self._config.faces.max_side_px
        self.detector.detect([np.zeros((side, side, 3), np.uint8)] * self._config.faces.batch)
        if self.syncnet is not None:
            self.syncnet.embed_lips(np.zeros((BATCH_FRAMES + CONTEXT_FRAMES, SIDE, SIDE, 3), np.uint8))
        if self.iqa is not None:
            self.iqa.score(np.zeros((SIDE, SIDE, 3), np.uint8))
        num_frames = round(self._config.tracks.max_clip_s * FRAME_RATE)
        self.audio.features(np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16))
        crops = np.zeros((self._config.latents.batch, SIZE, SIZE, 3), np.uint8)
        self.crops.round_trip(crops, self.crops.encode(crops)["latent"])
