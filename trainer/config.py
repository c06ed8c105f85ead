"""The settings of a training run, the recipe's own apart: those are checked by the recipe."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ..manifests.settings import Range, check_ranges
from .data.config import DataConfig
from .recipes.recipe import ModelConfig, Recipe


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights change."""

    learning_rate: Annotated[float, Range(0, 1)] = 0.0
    """Rate of AdamW; 0: the recipe's."""
    warmup_steps: Annotated[int, Range(-1, 1_000_000_000)] = -1
    """Steps over which the rate rises from 0; -1: the recipe's."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Course of the rate after the warm-up; `cosine` and `linear` end at 0."""
    beta1: Annotated[float, Range(0, 0.999999)] = 0.9
    """Decay of the gradient's mean."""
    beta2: Annotated[float, Range(0, 0.999999)] = 0.999
    """Decay of the gradient's square."""
    weight_decay: Annotated[float, Range(0, 10)] = 0.01
    """Decay of the weights by AdamW."""
    epsilon: Annotated[float, Range(0, 1)] = 1e-8
    """Added to the root of the gradient's square."""
    max_grad_norm: Annotated[float, Range(1e-06, 1000000000.0)] = 1.0
    """Longer gradients are cut to this length."""
    grad_accum_steps: Annotated[int, Range(1, 4096)] = 1
    """Parts that each process's share of a batch is computed in, one after the other."""
    ema_decay: Annotated[float, Range(0, 0.9999999)] = 0.0
    """Decay of the moving average of the weights that is judged and shipped; 0: none."""
    eight_bit: bool = False
    """AdamW of bitsandbytes (an extra): a quarter of the optimizer's memory. CUDA only."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class TrainRunConfig:
    """How long a run goes, where, and what it leaves behind."""

    steps: Annotated[int, Range(1, 1_000_000_000)] = 10_000
    """Optimizer steps."""
    batch_size: Annotated[int, Range(0, 1_000_000)] = 0
    """Samples of a step on all processes together; 0: the recipe's."""
    seed: Annotated[int, Range(0, 2_000_000_000)] = 0
    """Seed of the weights and of the samples' order, windows, noise and timesteps."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where it is."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers that the network computes in; weights and sums are float32. `auto`: bfloat16 on CUDA."""
    log_every: Annotated[int, Range(1, 1_000_000_000)] = 10
    """Steps between two lines of `metrics.jsonl`."""
    validate_every: Annotated[int, Range(0, 1_000_000_000)] = 500
    """Steps between two looks at the held-out samples; 0: only at the end."""
    sample_every: Annotated[int, Range(0, 1_000_000_000)] = 0
    """Steps between two films of generated held-out clips, in `samples` of the run; 0: none."""
    sample_clips: Annotated[int, Range(1, 1000)] = 4
    """Clips of such a film, three seconds of each."""
    sample_steps: Annotated[int, Range(1, 1000)] = 20
    """Denoising steps of such a film."""
    save_every: Annotated[int, Range(1, 1_000_000_000)] = 500
    """Steps between two checkpoints."""
    keep_last: Annotated[int, Range(1, 1_000_000)] = 3
    """Checkpoints that are kept."""
    keep_every: Annotated[int, Range(0, 1_000_000_000)] = 0
    """A checkpoint at a multiple of this many steps is kept for ever; 0: none."""
    max_non_finite: Annotated[int, Range(1, 1_000_000)] = 3
    """Steps in a row that may be skipped for a gradient that is not finite before the run stops."""
    peak_tflops: Annotated[float, Range(0, 1_000_000)] = 0.0
    """Peak of the GPU in the precision used, TFLOP/s, for the share of it that is used; 0: not told."""
    tensorboard: bool = False
    """Whether metrics go to TensorBoard too (an extra)."""
    wandb: str = ""
    """Project of Weights & Biases that metrics go to as well (an extra); empty: none."""

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings but the recipe's."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: TrainRunConfig = field(default_factory=TrainRunConfig)


def batch_size(config: TrainConfig, recipe: Recipe) -> int:
    """Return the samples of a step on all processes together."""
    return config.run.batch_size or recipe.batch_size
