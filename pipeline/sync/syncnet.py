"""SyncNet v2: lips and sound become vectors that lie close to each other where they belong together."""

from pathlib import Path

import numpy as np
import torch
from python_speech_features import mfcc
from syncnet_python.SyncNetModel import S

from ...manifests.errors import ModelError
from ...manifests.records import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from ..models.weights import load_weights

WIDTH = 1024
LIP_FRAMES = 5
"""Frames that a vector of lips sees; only the first layer spans time."""
SOUND_STEPS, STEPS_PER_FRAME = 20, 4
"""Steps of 10 ms that a vector of sound hears, and by how many the next one is later."""
LIP_BATCH, SOUND_BATCH = 32, 256
"""Vectors that are made in one go: 146 MB for the largest layer of the lips' (96 x 109 x 109 float32 each)."""


class SyncNet:
    """Chung and Zisserman, "Out of time: automated lip sync in the wild", 2016; the network of syncnet-python.

    Distances agree with those of syncnet-python to 1e-3 in float32; half precision gives others.

    Args:
        weights: `syncnet_v2.model`.
        device: where it runs.
        dtype: what it computes in.
    """

    def __init__(self, weights: Path, *, device: torch.device, dtype: torch.dtype) -> None:
        self._network = S().eval().requires_grad_(False)
        try:
            self._network.load_state_dict(load_weights(weights))
        except RuntimeError as error:
            raise ModelError(f"{weights}: not the weights of SyncNet v2 ({error}); fetch it again") from error
        self._network.to(device, dtype)
        self._device, self._dtype = device, dtype

    def embed_lips(self, crops: np.ndarray) -> np.ndarray:
        """Turn [T, 224, 224, 3] uint8 RGB into [max(0, T - 4), 1024] float32; vector k sees crops k to k + 4."""
        num_vectors = len(crops) - LIP_FRAMES + 1
        runs = [crops[first : first + LIP_BATCH + LIP_FRAMES - 1] for first in range(0, num_vectors, LIP_BATCH)]
        return np.concatenate([np.zeros((0, WIDTH), np.float32), *(self._embed_run(run) for run in runs)])

    def embed_sound(self, pcm: np.ndarray) -> np.ndarray:
        """Turn [640 T] int16 at 16 kHz into [max(0, T - 5), 1024] float32; vector k hears 215 ms from frame k on."""
        if len(pcm) <= LIP_FRAMES * SAMPLES_PER_FRAME:
            return np.zeros((0, WIDTH), np.float32)
        steps = torch.from_numpy(mfcc(pcm, SAMPLE_RATE_HZ)).to(torch.float32)  # [4 T - 1, 13]
        windows = steps.unfold(0, SOUND_STEPS, STEPS_PER_FRAME)[:, None]  # [T - 5, 1, 13, 20]
        return np.concatenate([self._embed_windows(batch) for batch in windows.split(SOUND_BATCH)])

    @torch.inference_mode()
    def _embed_run(self, run: np.ndarray) -> np.ndarray:
        """Embed up to 36 crops. They go through once: the windows of the first layer slide over them."""
        pixels = torch.from_numpy(run).to(self._device).flip(-1)  # the network knows BGR, 0-255
        clip = pixels.permute(3, 0, 1, 2)[None].to(self._dtype)  # [1, 3, T, 224, 224]
        seen = self._network.netcnnlip(clip)  # [1, 512, T - 4, 1, 1]
        return self._network.netfclip(seen[0, :, :, 0, 0].T).float().cpu().numpy()

    @torch.inference_mode()
    def _embed_windows(self, windows: torch.Tensor) -> np.ndarray:
        return self._network.forward_aud(windows.to(self._device, self._dtype)).float().cpu().numpy()
