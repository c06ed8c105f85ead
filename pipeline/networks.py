"""Networks by the settings that name them: a stage has the interface, `models/` has the network, and they meet here.

A network's module, and with it torch, is imported when that network is made.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..manifests import settings
from ..manifests.dataset import Dataset
from ..manifests.errors import ConfigError, ModelError, how_to_install
from ..manifests.records import FRAME_RATE, SAMPLES_PER_FRAME
from .audio_features import AudioConfig, AudioFeatures, LogMel
from .config import Config
from .faces.annotated import NoDetector
from .faces.detect import FaceDetector, FacesConfig, load_detector
from .faces.quality import CLIP, QualityConfig, QualityNetwork
from .latents import SIZE, Codec, CropEncoder, LatentsConfig
from .models import registry
from .models.registry import ModelsConfig
from .sync.estimate import SyncConfig, SyncNetwork
from .sync.lip_crops import SIDE
from .sync.lips import BATCH_FRAMES, CONTEXT_FRAMES

CLIP_FILES = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)
"""Files that CLIP's folder holds beside the weights, each under its older or its newer name."""


class Networks:
    """Networks of a worker: detector, sync network, rating of pictures, sound features, image codec.

    Each is loaded when it is first asked for, once, and kept. Loading one raises `ModelError` when its weights are
    missing or are not those of the network.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def detector(self) -> FaceDetector:
        """Detector of faces."""
        return make_detector(self._config.faces, self._config.models)

    @cached_property
    def syncnet(self) -> SyncNetwork | None:
        """Network that compares lips and sound; None where the sync backend has no network."""
        return make_syncnet(self._config.sync, self._config.models)

    @cached_property
    def iqa(self) -> QualityNetwork | None:
        """Network that rates pictures of faces; None where that is off."""
        return make_iqa(self._config.quality, self._config.models)

    @cached_property
    def audio(self) -> AudioFeatures:
        """Encoder of sound: what a recipe conditions on."""
        return make_audio_features(self._config.audio, self._config.models)

    @cached_property
    def crops(self) -> CropEncoder:
        """Encoder of crops: latents and what else is stored of them."""
        return CropEncoder(self._config.latents, make_codec(self._config.latents, self._config.models))

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


def make_detector(faces: FacesConfig, models: ModelsConfig) -> FaceDetector:
    """Load the face detector that the settings name.

    Raises:
        ConfigError: it comes from another package, which is broken.
        ModelError: its weights are missing or cannot be loaded.
    """
    if plugin := faces.plugin:
        return load_detector(plugin, faces)
    if faces.backend == "yunet":
        from .models.yunet import YuNetDetector  # noqa: PLC0415

        return YuNetDetector(registry.require("yunet", models), min_score=faces.min_score)
    if faces.backend == "retinaface":
        from .models.device import device_and_dtype  # noqa: PLC0415
        from .models.retinaface import RetinaFaceDetector  # noqa: PLC0415

        device, dtype = device_and_dtype(models)
        weights = registry.require("retinaface", models)
        return RetinaFaceDetector(weights, min_score=faces.min_score, device=device, dtype=dtype)
    if faces.backend == "annotated":
        return NoDetector()
    from .models.haar import HaarDetector  # noqa: PLC0415

    return HaarDetector()


def make_syncnet(sync: SyncConfig, models: ModelsConfig) -> SyncNetwork | None:
    """Load the network that `sync.backend` needs, or return None for the backend without one.

    Raises:
        ModelError: its weights are missing or cannot be loaded.
    """
    if sync.backend != "syncnet":
        return None
    from .models.device import device_and_dtype  # noqa: PLC0415
    from .sync.syncnet import SyncNet  # noqa: PLC0415

    device, dtype = device_and_dtype(models)
    return SyncNet(registry.require("syncnet", models), device=device, dtype=dtype)


def make_iqa(quality: QualityConfig, models: ModelsConfig) -> QualityNetwork | None:
    """Load the network that `quality.iqa` names, or return None where it is off.

    Raises:
        ConfigError: its packages are not installed.
        ModelError: its weights are missing or cannot be loaded.
    """
    folder = require_iqa(quality, models)
    if folder is None:
        return None
    from .models.clip_iqa import ClipIqa  # noqa: PLC0415
    from .models.device import device_and_dtype  # noqa: PLC0415

    return ClipIqa(folder, device=device_and_dtype(models)[0])


def require_iqa(quality: QualityConfig, models: ModelsConfig) -> Path | None:
    """Return the folder of CLIP that `quality.iqa` needs, or None where it is off; nothing is loaded.

    Raises:
        ConfigError: its packages are not installed.
        ModelError: weights or other files of the folder are missing.
    """
    if quality.iqa == "none":
        return None
    absent = [name for name in ("torchmetrics", "transformers") if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"quality.iqa: {' and '.join(absent)} not installed; {how_to_install('iqa')}")
    folder = registry.require(CLIP, models).parent
    missing = [" or ".join(names) for names in CLIP_FILES if not any((folder / name).is_file() for name in names)]
    if missing:
        raise ModelError(f"{folder}: no {', '.join(missing)}; copy them there beside the weights")
    return folder


def make_audio_features(config: AudioConfig, models: ModelsConfig) -> AudioFeatures:
    """Return the audio encoder that the settings name.

    Raises:
        ModelError: its weights are missing or are not those of this network.
        ConfigError: the device is not there.
    """
    if config.backend == "logmel":
        return LogMel()
    from .models.device import device_and_dtype  # noqa: PLC0415
    from .models.whisper import WhisperEncoder  # noqa: PLC0415

    device, dtype = device_and_dtype(models)
    return WhisperEncoder(registry.require(config.model_names[0], models), device=device, dtype=dtype)


def make_codec(config: LatentsConfig, models: ModelsConfig) -> Codec:
    """Return the image codec that the settings name.

    Raises:
        ModelError: its weights are missing or are not those of this network.
        ConfigError: the device is not there.
    """
    if config.backend == "block_dct":
        from .models.block_dct import BlockDct  # noqa: PLC0415

        return BlockDct()
    from .models.autoencoder import KlCodec, TinyCodec  # noqa: PLC0415
    from .models.device import device_and_dtype  # noqa: PLC0415

    device, dtype = device_and_dtype(models)
    weights = registry.require(config.model_names[0], models)
    kind = KlCodec if config.backend == "sd_vae" else TinyCodec
    # On a CPU a batch is no faster and takes its memory many times.
    return kind(weights, device=device, dtype=dtype, batch=1 if device.type == "cpu" else config.batch)


def codec_of(dataset: Dataset) -> Codec:
    """Return the codec that a dataset was made by, on what this machine has.

    Raises:
        ModelError: the codec's weights are not where the build found them.
    """
    tables = dataset.index.config
    config = settings.build(LatentsConfig, tables["latents"], path="latents.")
    models = settings.build(ModelsConfig, tables.get("models", {}), path="models.")
    return make_codec(config, replace(models, device="auto", precision="auto"))


def decoder_for(dataset: Dataset) -> Callable[[np.ndarray], float]:
    """Return the function by which `verify` decodes latents; raises as `codec_of`."""
    codec = codec_of(dataset)
    return lambda latents: float(codec.decode(latents).std())
