"""The interface of a recipe: the one thing to write for another model."""

from dataclasses import dataclass
from typing import Protocol

import torch

from ..data.samples import Batch, SampleReader


class Schedule(Protocol):
    """What a loss needs of the noise schedule; t is [B] int64 in 0 .. num_timesteps - 1."""

    num_timesteps: int

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return `a_t latents + s_t noise`, [B, T, C, H, W]."""
        ...

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """Return what the network is to predict, here v = `a_t noise - s_t latents`, [B, T, C, H, W]."""
        ...

    def weights(self, timestep: torch.Tensor, min_snr_gamma: float) -> torch.Tensor:
        """Return the min-SNR weight of each sample, [B]."""
        ...


class Network(Protocol):
    """What a loss calls; `hs_data.trainer.models` has those that ship."""

    def __call__(self, *args: torch.Tensor | None) -> torch.Tensor:
        """Return the prediction, [B, T, C, H, W]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Loss:
    """The loss of a batch."""

    mean: torch.Tensor
    """Scalar to differentiate, float32."""
    per_sample: torch.Tensor
    """[B] float32, detached and weighted; for the log, by timestep."""


class Recipe(SampleReader, Protocol):
    """A recipe; the loader calls the half of it that `SampleReader` declares."""

    network: str
    """Which network of `hs_data.trainer.networks`."""
    motion: bool
    """Whether that network has motion modules."""
    num_timesteps: int
    """Steps of the noise schedule."""
    batch_size: int
    """Samples of one step on all ranks together."""
    learning_rate: float
    warmup_steps: int
    """Steps over which the learning rate rises from 0."""

    def loss(self, network: Network, batch: Batch, schedule: Schedule) -> Loss:
        """Build the inputs from a batch on the network's device, run it once, and return the loss."""
        ...

    def audio(self, batch: Batch) -> torch.Tensor:
        """Return the sound's tokens of every frame, [B, T, N, D]."""
        ...

    def swap_audio(self, batch: Batch) -> Batch:
        """Give each sample the sound of another one, to measure what the sound is worth."""
        ...

    def trains(self, parameter: str) -> bool:
        """Tell whether the parameter of this name trains; all others are frozen."""
        ...
