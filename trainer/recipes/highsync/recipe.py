"""HighSync (arXiv 2605.16918): stage 1 on single frames, stage 2 on windows, noise and loss inside the mouth's mask.

Numbers are those of its published settings (saeed5959/high_sync, configs/train). `as_published` brings back what we
corrected; docs/trainer-data.md lists it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from ...data.clips import ClipFrames
from ...data.order import Draw
from ...data.samples import Batch, Contract, Need, SampleParams
from ..audio_windows import gather_windows, slice_frames
from ..diffusion import VSchedule
from ..noise import sample_noise
from ..parameters import matches
from ..recipe import AblationStages, Loss, ModelConfig, Network, Recipe, RecipeSpec, SamplingConfig, Schedule, Weights
from .config import HighSyncConfig, Stage1Config
from .mask import lower_face
from .network import TINY, HighSync
from .sampler import Sampler
from .unet import UNetShape
from .weights import FORMATS, from_published, write_diffusers, write_published

LAYER = r"denoiser\.(down_blocks\.\d+|mid_block|up_blocks\.\d+)"
STAGE2_PARAMETERS = (
    LAYER + r"\.motion_modules\.\d+\..+",
    LAYER + r"\.attentions\.\d+\.transformer_blocks\.\d+\.(attn2|norm2)\..+",
)
SHAPES = {"full": UNetShape(), "tiny": TINY}
RESNET_NORMS = LAYER + r"\.resnets\.\d+\.norm2\..+"
"""Layers that `"norm2" in name` unfroze besides."""


class HighSyncStage2(Recipe):
    """Windows of frames and one reference frame of the same clip."""

    name = "highsync-stage2"
    parts = ("reference", "denoiser")
    weight_formats = FORMATS
    motion = True
    """Whether the denoiser has motion modules."""
    needs: Sequence[Need] = (
        Need(any_of=("latent",), build="latents.backend=sd_vae"),
        Need(any_of=("whisper", "logmel"), build="audio.backend=whisper"),
    )
    default_trainable: tuple[str, ...] = STAGE2_PARAMETERS
    published_trainable: tuple[str, ...] = (*STAGE2_PARAMETERS, RESNET_NORMS)
    published_reference: Literal["any", "outside_window"] = "any"

    def __init__(self, config: HighSyncConfig) -> None:
        self.config = config
        self.latent: Contract = {"channels": 4, "size": 64}
        self.num_timesteps = config.num_timesteps
        self.batch_size = config.batch_size
        self.learning_rate = config.learning_rate
        self.warmup_steps = config.warmup_steps
        published = config.as_published
        self.reference = config.reference or (self.published_reference if published else "outside_window")
        self.context = config.context or ("scaled" if published else "clean")
        self.trainable = config.trainable or (self.published_trainable if published else self.default_trainable)
        self.min_frames = config.window_frames + (self.reference == "outside_window")

    def draw_sample(self, num_frames: int, draw: Draw) -> SampleParams:
        """Return `start`, `reference` and `num_frames` of the clip, and the sample's timestep, drops and noise seed."""
        start = draw.below(num_frames - self.config.window_frames + 1)
        return {
            "start": start,
            "reference_frame": self._pick_reference(start, num_frames, draw),
            "num_frames": num_frames,
            "timestep": draw.below(self.config.num_timesteps),
            "drop_reference": draw.chance(self.config.drop_reference),
            "drop_audio": draw.chance(self.config.drop_audio),
            "noise_seed": draw.word() >> 1,  # torch takes int64
        }

    def _pick_reference(self, start: int, num_frames: int, draw: Draw) -> int:
        if self.reference == "any":
            return draw.below(num_frames)
        stop = start + self.config.window_frames
        margin = min(self.config.reference_margin, max(start, num_frames - stop))
        num_before = max(0, start - margin + 1)
        num_after = max(0, num_frames - stop - margin + 1)
        index = draw.below(num_before + num_after)
        return index if index < num_before else stop + margin - 1 + index - num_before

    def read(self, clip: ClipFrames, params: SampleParams) -> dict[str, np.ndarray]:
        """Return `latent` [T, 4, 64, 64], `reference` [4, 64, 64], and `whisper` or `logmel` [T + 4, ...]."""
        latents = clip["latent"]
        start, count = params["start"], self.config.window_frames
        audio = "whisper" if "whisper" in clip else "logmel"
        return {
            "latent": latents[start : start + count],
            "reference": latents[params["reference_frame"]],
            audio: slice_frames(clip[audio], start, count),
        }

    def loss(self, network: Network, batch: Batch, schedule: Schedule) -> Loss:
        """Noise the window inside the mask, predict, and return the squared error there, weighted by min-SNR.

        Args:
            network: called with noisy [B, T, 4, H, W], timestep [B], reference [B, 4, H, W], audio [B, T, N, D],
                mask [1, 1, H, W] and drop_reference [B]; returns the prediction [B, T, 4, H, W].
            batch: what `draw_sample` and `read` gave, on the network's device.
            schedule: noise schedule.
        """
        latents, timestep = batch["latent"].float(), batch["timestep"]
        mask = lower_face(latents.shape[-1]).to(latents.device)
        noise = sample_noise(latents.shape, batch["noise_seed"], offset=self.config.noise_offset, device=latents.device)
        noisy = schedule.add_noise(latents, noise * mask, timestep)
        if self.context == "clean":
            noisy = torch.where(mask > 0, noisy, latents)
        predicted = network(
            noisy, timestep, batch["reference"].float(), self.audio(batch), mask, batch["drop_reference"]
        )
        error = (predicted.float() - schedule.target(latents, noise, timestep)) * mask
        squares = error.square().mean(dim=(1, 2, 3, 4))
        return self._weigh(squares, schedule.weights(timestep, self.config.min_snr_gamma))

    def _weigh(self, squares: torch.Tensor, weights: torch.Tensor) -> Loss:
        if self.config.as_published:  # the batch's mean error times the mean weight
            weights = weights.mean().expand_as(weights)
        weighted = squares * weights
        return Loss(mean=weighted.mean(), per_sample=weighted.detach())

    def audio(self, batch: Batch) -> torch.Tensor:
        """Return the sound's tokens of every frame: [B, T, 50, 384] of Whisper tiny, [B, T, 20, 80] of log-mel."""
        features = batch["whisper"] if "whisper" in batch else batch["logmel"]
        windows = gather_windows(features.float(), batch["start"], batch["num_frames"])
        return windows * ~batch["drop_audio"][:, None, None, None]

    def swap_audio(self, batch: Batch) -> Batch:
        """Give each sample the sound of the one before it: how much worse that is shows how much the sound counts."""
        names = [name for name in ("whisper", "logmel", "start", "num_frames") if name in batch]
        return batch.replace(**{name: batch[name].roll(1, 0) for name in names})

    def trains(self, parameter: str) -> bool:
        """Tell whether a parameter trains."""
        return matches(parameter, self.trainable)

    def make_network(self, config: ModelConfig, *, audio_width: int) -> HighSync:
        """Build both UNets with random weights."""
        network = HighSync(
            SHAPES[config.size], audio_width=audio_width, motion=self.motion, masked_motion=config.masked_motion
        )
        network.set_checkpointing(config.checkpointing)
        return network

    def make_sampler(self, network: nn.Module, config: SamplingConfig) -> Sampler:
        """Return the sampler of windows that are denoised together."""
        assert isinstance(network, HighSync)
        return Sampler(network, VSchedule(self.num_timesteps), config)

    def rename_weights(self, weights: Mapping[str, torch.Tensor]) -> Weights:
        """Rename the weights of a UNet or of a motion file that HighSync or AnimateDiff published."""
        return from_published(weights)

    def write_weights(self, network: nn.Module, folder: Path, *, to: str, step: int) -> None:
        """Write both UNets for `diffusers`, or for the scripts of `highsync`."""
        assert isinstance(network, HighSync)
        if to == "diffusers":
            write_diffusers(network, folder)
        else:
            write_published(network, folder, step)


class HighSyncStage1(HighSyncStage2):
    """Single frames and a reference frame far from each; no motion modules, and both networks train."""

    name = "highsync-stage1"
    motion = False
    default_trainable = published_trainable = (r"(reference|denoiser)\..+",)
    published_reference = "outside_window"

    def _weigh(self, squares: torch.Tensor, weights: torch.Tensor) -> Loss:
        weighted = squares * weights  # published so too
        return Loss(mean=weighted.mean(), per_sample=weighted.detach())


RECIPES = {
    "highsync-stage1": RecipeSpec(
        config=Stage1Config,
        make=HighSyncStage1,
        tiny={"optim": {"learning_rate": 2e-3}, "run": {"batch_size": 8}},
    ),
    "highsync-stage2": RecipeSpec(
        config=HighSyncConfig,
        make=HighSyncStage2,
        tiny={"optim": {"learning_rate": 1e-3}, "run": {"batch_size": 2}, "recipe": {"window_frames": 8}},
        ablation=AblationStages(first="highsync-stage1", train_all={"trainable": [r"(reference|denoiser)\..+"]}),
    ),
}
"""Found by the registry."""
