"""The interface of a recipe: the one thing to write for another model, in a folder of its own beside this file.

Its `recipe.py` holds `RECIPES`, names to `RecipeSpec`s. Training, validation, `generate`, `weights` and `ablate` ask
the recipe and know nothing else of a model.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from torch import nn

from ...manifests import settings
from ...manifests.errors import ConfigError
from ..data.samples import Batch, SampleReader
from .diffusion import VSchedule

Weights = dict[str, torch.Tensor]
"""Tensors by name."""


class Schedule(Protocol):
    """The noise schedule as a loss sees it; t is [B] int64 in 0 .. num_timesteps - 1."""

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
    """A network as its recipe's loss calls it: itself, or wrapped by DDP and compiled."""

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


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network trains."""

    size: Literal["full", "tiny"] = "full"
    """`full`: Stable Diffusion 1.5's widths. `tiny`: the same parts, small enough for a laptop."""
    masked_motion: bool = True
    """Whether temporal attention sees the mouth's region alone, or the whole picture."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, more time."""
    compile: bool = False
    """Whether `torch.compile` makes the network; minutes at the start for a faster step."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a clip is generated."""

    steps: int = 20
    """Denoising steps."""
    guidance: float = 1.0
    """How far to go beyond what the network says without sound and reference. 1: not at all, and half the time."""
    window: int = 12
    """Frames that are denoised together."""
    overlap: int = 4
    """Frames that neighbouring windows share; there their answers are averaged at every step."""
    batch: int = 4
    """Windows in one forward pass."""
    seed: int = 0
    """Seed of the noise."""

    def __post_init__(self) -> None:
        if min(self.steps, self.window, self.batch) < 1 or not 0 <= self.overlap < self.window:
            raise ConfigError("sampling: steps, window and batch must be positive, and overlap less than the window")


class ClipSampler(Protocol):
    """Generates clips with one network."""

    def sample(self, frames: Mapping[str, np.ndarray], num_frames: int) -> np.ndarray:
        """Generate the first frames of a clip.

        Args:
            frames: [L, ...] of each column that the recipe needs, L >= `num_frames`.
            num_frames: T.

        Returns:
            Latents [T, C, H, W] float32.
        """
        ...


class Recipe(SampleReader, Protocol):
    """A recipe; the loader calls the half of it that `SampleReader` declares.

    A subclass gets the methods that have a body here: the noise schedule, and refusals of what it does not offer.
    """

    num_timesteps: int
    """Steps of the noise schedule."""
    batch_size: int
    """Samples of one step on all ranks together."""
    learning_rate: float
    warmup_steps: int
    """Steps over which the learning rate rises from 0."""
    parts: tuple[str, ...] = ()
    """Submodules of the network that `--init PART=FILE` may name. A file without one goes into all of them."""
    weight_formats: tuple[str, ...] = ()
    """Words that `hs-data weights --to` takes."""

    @abstractmethod
    def make_network(self, config: ModelConfig, *, audio_width: int) -> nn.Module:
        """Build the network on the CPU, with random weights; `audio_width` is D of the sound's tokens."""
        ...

    def make_schedule(self) -> Schedule:
        """Return the noise schedule."""
        return VSchedule(self.num_timesteps)

    @abstractmethod
    def loss(self, network: Network, batch: Batch, schedule: Schedule) -> Loss:
        """Build the inputs from a batch on the network's device, run it once, and return the loss."""
        ...

    @abstractmethod
    def audio(self, batch: Batch) -> torch.Tensor:
        """Return the sound's tokens of every frame, [B, T, N, D]."""
        ...

    @abstractmethod
    def swap_audio(self, batch: Batch) -> Batch:
        """Give each sample the sound of another one, to measure what the sound is worth."""
        ...

    @abstractmethod
    def trains(self, parameter: str) -> bool:
        """Tell whether the parameter of this name trains; all others are frozen."""
        ...

    def make_sampler(self, network: nn.Module, config: SamplingConfig) -> ClipSampler:
        """Return a sampler of a network that `make_network` made, on its device and in evaluation mode.

        Raises:
            ConfigError: the recipe has none.
        """
        raise ConfigError(f"{self.name}: has no sampler; generate with a run of another recipe")

    def rename_weights(self, weights: Mapping[str, torch.Tensor]) -> Weights:
        """Give the tensors of a published file the names that they have in the network, or in one of its parts."""
        return dict(weights)

    def write_weights(self, network: nn.Module, folder: Path, *, to: str, step: int) -> None:
        """Write a network into a folder as others read it.

        Args:
            network: that `make_network` made.
            folder: empty.
            to: one of `weight_formats`.
            step: of the checkpoint, for the names of files.
        """
        raise NotImplementedError  # never called: no format is offered


@dataclass(frozen=True, kw_only=True)
class AblationStages:
    """The trainings that `hs-data ablate leakage` compares, of a recipe whose temporal attention can be masked."""

    first: str
    """Recipe that is trained before."""
    train_all: settings.Table
    """Settings of the recipe under which all weights train: for networks that begin with nothing."""


@dataclass(frozen=True, kw_only=True)
class RecipeSpec:
    """A recipe as it is registered under its name."""

    config: type
    """Dataclass of its settings, `recipe.*`."""
    make: Callable[..., Recipe]
    """Makes the recipe of them."""
    tiny: settings.Table = field(default_factory=dict)
    """Settings under `--size tiny`: small networks learn at higher rates, a CPU takes small batches."""
    ablation: AblationStages | None = None
    """None: it has no temporal attention that could be masked."""
