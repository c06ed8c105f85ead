"""Zero-terminal-SNR v-prediction: the noise of training, and DDIM for looking at what was learnt."""

from collections.abc import Callable

import torch

START, END = 0.00085, 0.012
"""First and last beta of Stable Diffusion's scaled-linear schedule."""


class VSchedule:
    """Signal a_t and noise s_t of each timestep, a_t^2 + s_t^2 = 1.

    The square roots of beta rise in a straight line (Stable Diffusion), then a is stretched so that the last step is
    pure noise (Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", 2023).
    """

    def __init__(self, num_timesteps: int = 1000) -> None:
        betas = torch.linspace(START**0.5, END**0.5, num_timesteps, dtype=torch.float64) ** 2
        signal = (1 - betas).cumprod(0).sqrt()
        signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        self.num_timesteps = num_timesteps
        self.signal = signal.float()
        """[num_timesteps]"""
        self.noise = (1 - signal**2).sqrt().float()
        """[num_timesteps]"""

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return `a latents + s noise`; [B, T, C, H, W], timestep [B]."""
        signal, scale = self._at(timestep, latents)
        return signal * latents + scale * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return v = `a noise - s latents`."""
        signal, scale = self._at(timestep, latents)
        return signal * noise - scale * latents

    def weights(self, timestep: torch.Tensor, min_snr_gamma: float) -> torch.Tensor:
        """Return `min(SNR + 1, gamma) / (SNR + 1)`, [B]: min-SNR for v (Hang et al. 2023)."""
        signal, scale = (values.to(timestep.device)[timestep] for values in (self.signal, self.noise))
        ratio = (signal / scale) ** 2 + 1
        return ratio.clamp(max=min_snr_gamma) / ratio

    def _at(self, timestep: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (-1, *(1,) * (like.ndim - 1))
        both = (values.to(like.device)[timestep].view(shape) for values in (self.signal, self.noise))
        signal, scale = both
        return signal, scale


Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Noisy latents [B, T, C, H, W] and timestep [B] to v."""


@torch.no_grad()
def ddim(
    schedule: VSchedule, predict: Predict, noise: torch.Tensor, *, known: torch.Tensor, mask: torch.Tensor, steps: int
) -> torch.Tensor:
    """Remove noise inside the mask in a few steps (DDIM, eta 0, timesteps spaced from the last one down).

    Outside the mask the latents stay the known ones, as the network saw them when it trained with `context = clean`.

    Args:
        schedule: of the training.
        predict: the network.
        noise: [B, T, C, H, W] to begin with.
        known: [B, T, C, H, W] latents whose surroundings of the mask are kept.
        mask: [1, 1, H, W], 1 inside.
        steps: 1 .. num_timesteps.

    Returns:
        [B, T, C, H, W].
    """
    times = torch.linspace(schedule.num_timesteps - 1, 0, steps + 1)[:-1].round().long()
    latents = torch.where(mask > 0, noise, known)
    for time, after in zip(times.tolist(), [*times[1:].tolist(), None], strict=True):
        timestep = torch.full((len(noise),), time, device=noise.device)
        predicted = predict(latents, timestep).float()
        signal, scale = schedule.signal[time], schedule.noise[time]
        clean = signal * latents - scale * predicted
        if after is None:
            latents = clean
        else:
            latents = schedule.signal[after] * clean + schedule.noise[after] * (scale * latents + signal * predicted)
        latents = torch.where(mask > 0, latents, known)
    return latents
