"""HighSync (arXiv 2605.16918): stage 1 on single frames, stage 2 on windows, noise and loss inside the mouth's mask.

Numbers are those of its published settings (saeed5959/high_sync, configs/train). `as_published` brings back what we
corrected; docs/trainer-data.md lists it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch

from ...manifests.settings import Range, check_ranges
from ..data.clips import ClipFrames
from ..data.order import Draw
from ..data.samples import Batch, Contract, Need, SampleParams
from .audio_windows import gather_windows, slice_frames
from .masks import lower_face
from .noise import sample_noise
from .parameters import matches
from .recipe import Loss, Network, Schedule

LAYER = r"denoiser\.(down_blocks\.\d+|mid_block|up_blocks\.\d+)"
STAGE2_PARAMETERS = (
    LAYER + r"\.motion_modules\.\d+\..+",
    LAYER + r"\.attentions\.\d+\.transformer_blocks\.\d+\.(attn2|norm2)\..+",
)
RESNET_NORMS = LAYER + r"\.resnets\.\d+\.norm2\..+"
"""What `"norm2" in name` unfroze besides."""


@dataclass(frozen=True, kw_only=True)
class HighSyncConfig:
    """Settings of both stages; the defaults are those of stage 2."""

    window_frames: Annotated[int, Range(1, 1000)] = 12
    """Frames of a window."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 4
    """Samples of one step on all ranks together."""
    learning_rate: Annotated[float, Range(1e-12, 1)] = 1e-5
    """Of AdamW; the published stage2.yaml has 5e-6, with an 8-bit Adam."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 1
    """Steps over which the learning rate rises from 0."""
    reference: Literal["any", "outside_window"] | None = None
    """Which frame of the clip is the reference: any, or one outside the window. Unset: outside, in stage 2 any if
    `as_published`; then it may be the very frame that is asked for."""
    reference_margin: Annotated[int, Range(1, 1_000_000)] = 1
    """Least distance of an outside reference from the window, frames; less where the clip is too short for it."""
    context: Literal["clean", "scaled"] | None = None
    """What the network sees outside the mask: clean latents, as when it is used, or latents scaled by sqrt(alpha_t).
    Unset: clean, scaled if `as_published`."""
    noise_offset: Annotated[float, Range(0, 10)] = 0.05
    """Standard deviation of the noise that a sample's channel has in common."""
    min_snr_gamma: Annotated[float, Range(0.001, 1_000_000)] = 5.0
    """Limit of the signal-to-noise ratio in the weight of a timestep."""
    drop_reference: Annotated[float, Range(0, 1)] = 0.1
    """Share of samples that are trained without the reference."""
    drop_audio: Annotated[float, Range(0, 1)] = 0.0
    """Share of samples that are trained on silence (zeros) instead of the sound's features."""
    num_timesteps: Annotated[int, Range(1, 10000)] = 1000
    """Steps of the noise schedule."""
    as_published: bool = False
    """Train as the published code does, faults included."""
    trainable: tuple[str, ...] = ()
    """Regular expressions of whole parameter names that train. Empty: both networks in stage 1; motion modules, audio
    attention and its norm in stage 2."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Stage1Config(HighSyncConfig):
    """Settings of stage 1: one frame, both networks train."""

    window_frames: Annotated[int, Range(1, 1000)] = 1
    """Frames of a window; stage 1 knows no time."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 16
    """Samples of one step on all ranks together."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 100
    """Steps over which the learning rate rises from 0."""
    reference_margin: Annotated[int, Range(1, 1_000_000)] = 30
    """Least distance of an outside reference from the window, frames; less where the clip is too short for it."""


class HighSyncStage2:
    """Windows of frames and one reference frame of the same clip."""

    name = "highsync-stage2"
    network = "highsync"
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


class HighSyncStage1(HighSyncStage2):
    """Single frames and a reference frame far from each; no motion modules, and both networks train."""

    name = "highsync-stage1"
    motion = False
    default_trainable = published_trainable = (r"(reference|denoiser)\..+",)
    published_reference = "outside_window"

    def _weigh(self, squares: torch.Tensor, weights: torch.Tensor) -> Loss:
        weighted = squares * weights  # published so too
        return Loss(mean=weighted.mean(), per_sample=weighted.detach())
