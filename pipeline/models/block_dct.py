"""The block-DCT codec: needs no weights, decodes to recognisable frames; for trying things out."""

from functools import cache

import numpy as np
from scipy.fft import dct

from ...manifests.schema import FRAME_COLUMNS, Contract
from ..latents import SIZE, Posterior

CELL = 8
"""Side of a cell, px."""
CELLS = SIZE // CELL


class BlockDct:
    """The lowest terms of an 8x8 block DCT of luma, and chroma means, on the grid of the SD VAE.

    Channels: 0 mean luma, 1 and 2 first horizontal and vertical cosine of luma, 3 mean chroma of a pair of cells (Cb in
    the left cell, Cr in the right). Every step is orthonormal, so decoding gives the least-squares picture. Pixels are
    taken in [-1, 1], BT.601 full range.
    """

    SCALING = 0.25
    """Brings latents of faces to a standard deviation of about 1 in channel 0."""

    contract: Contract = {  # noqa: RUF012 - a constant of the class, written into every footer
        "id": "hs-data/block-dct",
        "revision": "1",
        "sha256": None,
        "scaling": SCALING,
        "dtype": "float16",
        "channels": 4,
        "size": 64,
        "pixels": SIZE,
        "precision": "float32",
    }

    def encode(self, frames: np.ndarray) -> Posterior:
        """Encode [T, 512, 512, 3] RGB, 0-255, as [T, 4, 64, 64] float16; there is no variance."""
        return Posterior(mean=np.stack([self._encode_one(frame) for frame in frames]))

    def _encode_one(self, frame: np.ndarray) -> np.ndarray:
        # The colour change is linear too, so it comes last, on 64x64 cells instead of 512x512 pixels.
        pixels = frame.reshape(CELLS, CELL, SIZE * 3).astype(np.float32)
        rows = (_basis() @ pixels).reshape(CELLS, 2, CELLS, CELL, 3)
        low = np.einsum("rucxk,vx->uvrck", rows, _basis(), optimize=True)  # [2, 2, 64, 64, 3]
        low[0, 0] -= 127.5 * CELL
        luma = low.reshape(4, -1, 3)[:3] @ _ycc()[0]
        chroma = low[0, 0].reshape(CELLS, CELLS // 2, 2, 3).mean(axis=2) @ _ycc()[1:].T
        channels = np.concatenate([luma.reshape(3, CELLS, CELLS), chroma.reshape(1, CELLS, CELLS)])
        return (channels * np.float32(self.SCALING / 127.5)).astype(FRAME_COLUMNS["latent"].dtype)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """Decode [T, 4, 64, 64] to [T, 512, 512, 3] uint8 RGB."""
        scaled = latents.astype(np.float32) / self.SCALING
        low = np.zeros((*scaled[:, 0].shape, 2, 2), np.float32)
        low[..., 0, 0], low[..., 0, 1], low[..., 1, 0] = scaled[:, 0], scaled[:, 1], scaled[:, 2]
        luma = np.einsum("trcij,iy,jx->trycx", low, _basis(), _basis(), optimize=True).reshape(-1, SIZE, SIZE)
        pairs = scaled[:, 3].reshape(len(latents), CELLS, CELLS // 2, 2) / CELL
        chroma = pairs.repeat(CELL, axis=1).repeat(2 * CELL, axis=2)  # [T, 512, 512, 2]
        rgb = np.concatenate([luma[..., None], chroma], axis=3) @ np.linalg.inv(_ycc()).T.astype(np.float32)
        return np.clip((rgb + 1.0) * 127.5 + 0.5, 0, 255).astype(np.uint8)


@cache
def _basis() -> np.ndarray:
    """Return the two lowest rows [2, 8] of the orthonormal DCT-II."""
    return np.asarray(dct(np.eye(CELL), norm="ortho", axis=0), np.float32)[:2]


@cache
def _ycc() -> np.ndarray:
    return np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
