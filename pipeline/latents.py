"""Latents: the interface of an image codec, and what is stored of the crops of a clip."""

import hashlib
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import cv2
import numpy as np

from ..manifests.schema import FRAME_COLUMNS, Column, Contract
from ..manifests.settings import Range, check_ranges

SIZE = 512
"""Side of the crop in px; 64 latent cells of 8 px."""
MOUTH_ROWS, MOUTH_COLUMNS = (224, 480), (40, 472)
"""First and one past the last px that HighSync's mask hides: rows 28-59, columns 5-58 of its 64x64 mask, 8 px each."""
HIDDEN = 127.5
"""Grey level of a hidden pixel: LatentSync multiplies pixels in [-1, 1] by its mask, which leaves 0."""
MASK = {"id": "highsync-64", "rows": [*MOUTH_ROWS], "columns": [*MOUTH_COLUMNS], "grey_level": HIDDEN}
"""Entry in the contract of masked latents, so that another mask can come beside it."""
JPEG_BYTES = 60_000
"""Size of a 512 px face as JPEG, measured 20-49 kB at quality 90 and 40-81 kB at 95; for the size of shards only."""
MAX_ABS = 30.0
"""A latent beyond this is out of range and drops the clip as `latent_nan`."""
CHECK_EVERY = 200
"""One clip of so many, chosen by its id, is decoded again for `psnr_db`."""
BEST_DB = 100.0
"""Value of a round trip without any error: JSON knows no infinity."""


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """Codec that turns crops into latents, and what is stored beside them."""

    backend: Literal["block_dct", "sd_vae", "taesd"] = "block_dct"
    """`sd_vae`: the VAE of Stable Diffusion 1.5 (sd-vae-ft-mse); `taesd`: its distilled copy, same latent space;
    `block_dct`: a fixed orthonormal transform, decodes to recognisable frames, for trying things out."""
    logvar: bool = False
    """Store `latent_logvar`, the posterior's log-variance; only `sd_vae` has one."""
    masked: bool = False
    """Store `latent_masked`: the crop with the mouth hidden, encoded. It cannot be derived from `latent`."""
    jpeg_quality: Annotated[int, Range(0, 100)] = 0
    """Store the crops as `frame_jpeg`, 4:4:4, 1-100, for losses on pixels; 0: do not."""
    batch: Annotated[int, Range(1, 4096)] = 8
    """Crops in one forward pass on a GPU, by its memory; on a CPU frames go one by one."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.logvar and self.backend != "sd_vae":
            raise ValueError(f"logvar: backend={self.backend} has no variance; use sd_vae, or logvar=false")

    @property
    def model_names(self) -> list[str]:
        """Registry names of the weights that the codec needs."""
        return {"block_dct": [], "sd_vae": ["sd-vae-ft-mse"], "taesd": ["taesd"]}[self.backend]

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of a shard that come of crops."""
        wanted = {"latent_logvar": self.logvar, "latent_masked": self.masked, "frame_jpeg": self.jpeg_quality > 0}
        return {name: FRAME_COLUMNS[name] for name in ("latent", *(name for name in wanted if wanted[name]))}

    @property
    def frame_bytes(self) -> int:
        """About how many bytes a frame takes in these columns."""
        return sum(JPEG_BYTES if column.is_file else column.width for column in self.columns.values())


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Latents of frames: mean and variance as a codec gives them."""

    mean: np.ndarray
    """[T, 4, 64, 64] float16, scaled."""
    logvar: np.ndarray | None = None
    """[T, 4, 64, 64] float16, of the posterior before scaling; None where a codec has no variance."""


class Codec(Protocol):
    """Interface of a latent codec."""

    contract: Contract

    def encode(self, frames: np.ndarray) -> Posterior:
        """Encode [T, 512, 512, 3] RGB, uint8 or float32 grey levels of 0-255."""
        ...

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode [T, 4, 64, 64] to [T, 512, 512, 3] uint8 RGB."""
        ...


class CropEncoder:
    """Turn batches of crops into the columns that the settings ask for; holds the codec, so make one per worker."""

    def __init__(self, config: LatentsConfig, codec: Codec) -> None:
        self.config = config
        self._codec = codec

    @property
    def contract(self) -> Contract:
        """Facts that a trainer must agree with."""
        return {**self._codec.contract, "mask": MASK if self.config.masked else None}

    def encode(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of crops [T, 512, 512, 3] uint8 RGB."""
        posterior = self._codec.encode(crops)
        arrays = {"latent": posterior.mean}
        if self.config.logvar:
            assert posterior.logvar is not None  # the settings were checked
            arrays["latent_logvar"] = posterior.logvar
        if self.config.masked:
            arrays["latent_masked"] = self._codec.encode(hide_mouth(crops)).mean
        if self.config.jpeg_quality:
            arrays["frame_jpeg"] = np.array([jpeg(crop, self.config.jpeg_quality) for crop in crops], object)
        return arrays

    def round_trip(self, crops: np.ndarray, latents: np.ndarray) -> dict[str, float] | None:
        """Return `psnr_db` and `psnr_mouth_db` of crops [T, 512, 512, 3] decoded again; None of broken latents."""
        if not np.isfinite(latents).all():
            return None
        decoded = self._codec.decode(latents)
        pairs = {"psnr_db": (crops, decoded), "psnr_mouth_db": (_mouth(crops), _mouth(decoded))}
        return {name: round(min(psnr_db(*pair), BEST_DB), 3) for name, pair in pairs.items()}


def is_checked(clip_id: str) -> bool:
    """Tell whether a clip is one of those that are decoded again: by its id, so that every run picks the same."""
    return int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8]) % CHECK_EVERY == 0


def hide_mouth(crops: np.ndarray) -> np.ndarray:
    """Return crops [T, 512, 512, 3] as float32 grey levels with the mouth at mid grey."""
    hidden = crops.astype(np.float32)
    _mouth(hidden)[:] = HIDDEN
    return hidden


def jpeg(crop: np.ndarray, quality: int) -> bytes:
    """Return a crop [512, 512, 3] uint8 RGB as a JPEG with colours in full resolution."""
    colours = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", crop[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality, *colours])
    assert done  # a crop of known size cannot fail
    return data.tobytes()


def psnr_db(original: np.ndarray, decoded: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two uint8 arrays in dB; infinite when they are equal."""
    error = np.mean((original.astype(np.float64) - decoded.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def _mouth(frames: np.ndarray) -> np.ndarray:
    return frames[:, slice(*MOUTH_ROWS), slice(*MOUTH_COLUMNS)]
