"""Generate latents of a whole clip: overlapping windows that are denoised together, with guidance."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from ..audio_windows import CONTEXT, gather_windows
from ..diffusion import VSchedule, ddim
from ..recipe import SamplingConfig
from .mask import lower_face
from .network import HighSync


def window_starts(num_frames: int, window: int, overlap: int) -> list[int]:
    """Return where windows begin, so that they cover every frame; the last one ends with the clip."""
    last = max(0, num_frames - window)
    return [*range(0, last, window - overlap), last]


class Sampler:
    """Generates with one network.

    Args:
        network: on its device, in evaluation mode.
        schedule: of its training.
        config: how.
    """

    def __init__(self, network: HighSync, schedule: VSchedule, config: SamplingConfig) -> None:
        self._network, self._schedule, self._config = network, schedule, config
        self._device = next(network.parameters()).device

    @torch.no_grad()
    def sample(self, frames: Mapping[str, np.ndarray], num_frames: int) -> np.ndarray:
        """Generate the mouths of the first frames of a clip; its first frame shows the face.

        Args:
            frames: `latent` [L, C, H, W], under whose mask nothing is looked at, and `whisper` or `logmel`
                [L, S, ..., D], of which the windows of the last frames see two frames more.
            num_frames: T, at most L.

        Returns:
            [T, C, H, W] float32.
        """
        audio = frames["whisper"] if "whisper" in frames else frames["logmel"]
        latents = frames["latent"][:num_frames]
        known = torch.from_numpy(latents.astype(np.float32)).to(self._device)
        mask = lower_face(known.shape[-1]).to(self._device)
        tokens = _tokens(audio, len(known)).to(self._device)
        # One reference for all windows, so that the mouth keeps one look through the clip.
        features = self._network.reference(known[:1])
        # Drawn on the CPU and for the whole clip, so a seed means the same noise on any device and with any window.
        generator = torch.Generator().manual_seed(self._config.seed)
        noise = torch.randn(known.shape, generator=generator).to(self._device)
        size = min(self._config.window, len(known))
        starts = window_starts(len(known), size, min(self._config.overlap, size - 1))

        # Windows share one noisy clip and are averaged where they overlap at every step, not once at the end, so that
        # they agree on the frames they share before details are fixed (as in MultiDiffusion, Bar-Tal et al. 2023).
        def predict(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            total = torch.zeros_like(noisy[0])
            times = torch.zeros(len(known), 1, 1, 1, device=self._device)
            for part in _parts(starts, self._config.batch):
                chosen = torch.stack([torch.arange(start, start + size) for start in part]).to(self._device)
                found = self._guided(noisy[0][chosen], timestep, features, tokens[chosen], mask)
                total.index_add_(0, chosen.flatten(), found.flatten(0, 1))
                times.index_add_(0, chosen.flatten(), torch.ones(chosen.numel(), 1, 1, 1, device=self._device))
            return (total / times)[None]

        made = ddim(self._schedule, predict, noise[None], known=known[None], mask=mask, steps=self._config.steps)
        return made[0].cpu().numpy()

    def _guided(
        self,
        noisy: torch.Tensor,
        timestep: torch.Tensor,
        features: list[torch.Tensor],
        tokens: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        number = len(noisy)
        seen = [feature.expand(number, -1, -1) for feature in features]
        timestep = timestep.expand(number)
        told = self._network.denoise(noisy, timestep, seen, tokens, mask).float()
        if self._config.guidance == 1:
            return told
        # Classifier-free guidance: the other answer has neither sound nor reference, as a few samples of the training.
        drop = torch.ones(number, dtype=torch.bool, device=noisy.device)
        untold = self._network.denoise(noisy, timestep, seen, torch.zeros_like(tokens), mask, drop).float()
        return untold + self._config.guidance * (told - untold)


def _tokens(audio: np.ndarray, num_frames: int) -> torch.Tensor:
    """Return the windows of sound of every frame, [T, N, D]."""
    # Windows at both ends see the first and the last frame of sound again, as in training.
    indices = np.clip(np.arange(-CONTEXT, num_frames + CONTEXT), 0, len(audio) - 1)
    features = torch.from_numpy(audio[indices].astype(np.float32))[None]
    start, length = torch.zeros(1, dtype=torch.int64), torch.tensor([len(audio)])
    return gather_windows(features, start, length)[0]


def _parts(starts: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(starts), size):
        yield starts[first : first + size]
