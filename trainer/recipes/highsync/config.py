"""Settings of HighSync's stages; the numbers are those of its published ones (saeed5959/high_sync, configs/train)."""

from dataclasses import dataclass
from typing import Annotated, Literal

from ....manifests.settings import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class HighSyncConfig:
    """Settings of both stages; the defaults are those of stage 2."""

    window_frames: Annotated[int, Range(1, 1000)] = 12
    """Frames of a window."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 4
    """Samples of one step on all ranks together."""
    learning_rate: Annotated[float, Range(1e-12, 1)] = 1e-5
    """Rate of AdamW; the published stage2.yaml has 5e-6, with an 8-bit Adam."""
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 1
    """Steps over which the learning rate rises from 0."""
    reference: Literal["any", "outside_window"] | None = None
    """Which frame of the clip is the reference: any, or one outside the window. Unset: outside, in stage 2 any if
    `as_published`; then it may be the very frame that is asked for."""
    reference_margin: Annotated[int, Range(1, 1_000_000)] = 1
    """Least distance of an outside reference from the window, frames; less where the clip is too short for it."""
    context: Literal["clean", "scaled"] | None = None
    """Latents that the network sees outside the mask: clean ones, as when it is used, or scaled by sqrt(alpha_t).
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
