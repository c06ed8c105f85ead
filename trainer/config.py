"""The settings of a training run, the recipe's own apart: those are checked by the recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..manifests import settings
from .data.config import DataConfig
from .recipes.recipe import Recipe
from .recipes.registry import make_recipe


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network trains."""

    size: Literal["full", "tiny"] = "full"
    """`full`: Stable Diffusion 1.5's widths. `tiny`: the same parts, small enough for a laptop."""
    masked_motion: bool = True
    """Whether temporal attention sees the mouth's region alone (HighSync), or the whole picture."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass: less memory, more time."""
    compile: bool = False
    """Whether `torch.compile` makes the network; minutes at the start for a faster step."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights change."""

    learning_rate: float = 0.0
    """Of AdamW; 0: the recipe's."""
    warmup_steps: int = -1
    """Steps over which the rate rises from 0; -1: the recipe's."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the rate does after the warm-up; `cosine` and `linear` end at 0."""
    beta1: float = 0.9
    """Decay of the gradient's mean."""
    beta2: float = 0.999
    """Decay of the gradient's square."""
    weight_decay: float = 0.01
    """Of AdamW."""
    epsilon: float = 1e-8
    """Added to the root of the gradient's square."""
    max_grad_norm: float = 1.0
    """Longer gradients are cut to this length."""
    accumulation: int = 1
    """Parts that each process's share of a batch is computed in, one after the other."""
    ema_decay: float = 0.0
    """Decay of the moving average of the weights that is judged and shipped; 0: none."""
    eight_bit: bool = False
    """AdamW of bitsandbytes (an extra): a quarter of the optimizer's memory. CUDA only."""

    def __post_init__(self) -> None:
        if self.learning_rate < 0 or self.weight_decay < 0 or self.max_grad_norm <= 0 or self.accumulation < 1:
            raise ValueError("optim: learning_rate and weight_decay must not be negative, max_grad_norm be positive")
        if not (0 <= self.ema_decay < 1 and 0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError("optim: ema_decay, beta1 and beta2 must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long a run goes, where, and what it leaves behind."""

    steps: int = 10_000
    """Optimizer steps."""
    batch_size: int = 0
    """Samples of a step on all processes together; 0: the recipe's."""
    seed: int = 0
    """Of the weights and of the samples' order, windows, noise and timesteps."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where it is."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the network computes in; weights and sums are float32. `auto`: bfloat16 on CUDA."""
    log_every: int = 10
    """Steps between two lines of `metrics.jsonl`."""
    validate_every: int = 500
    """Steps between two looks at the held-out samples; 0: only at the end."""
    sample_every: int = 0
    """Steps between two films of generated held-out clips, in `samples` of the run; 0: none."""
    sample_clips: int = 4
    """Clips of such a film, three seconds of each."""
    sample_steps: int = 20
    """Denoising steps of such a film."""
    save_every: int = 500
    """Steps between two checkpoints."""
    keep_last: int = 3
    """Checkpoints that are kept."""
    keep_every: int = 0
    """A checkpoint at a multiple of this many steps is kept for ever; 0: none."""
    max_non_finite: int = 3
    """Steps in a row that may be skipped for a gradient that is not finite before the run stops."""
    peak_tflops: float = 0.0
    """What the GPU can do in the precision used, TFLOP/s, for the share of it that is used; 0: not told."""
    tensorboard: bool = False
    """Whether metrics go to TensorBoard too (an extra)."""
    wandb: str = ""
    """Project of Weights & Biases that metrics go to as well (an extra); empty: none."""

    def __post_init__(self) -> None:
        if min(self.steps, self.log_every, self.save_every, self.keep_last, self.max_non_finite) < 1:
            raise ValueError("run: steps, log_every, save_every, keep_last and max_non_finite must be 1 or more")
        if min(self.sample_clips, self.sample_steps) < 1:
            raise ValueError("run: sample_clips and sample_steps must be 1 or more; sample_every=0 makes no films")
        numbers = (self.batch_size, self.validate_every, self.sample_every, self.keep_every, self.peak_tflops)
        if min(numbers) < 0:
            raise ValueError(
                "run: batch_size, validate_every, sample_every, keep_every and peak_tflops must not be negative"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings but the recipe's."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)


TINY: dict[str, settings.Table] = {
    "highsync-stage1": {"optim": {"learning_rate": 2e-3}, "run": {"batch_size": 8}},
    "highsync-stage2": {
        "optim": {"learning_rate": 1e-3},
        "run": {"batch_size": 2},
        "recipe": {"num_frames": 8},
    },
}
"""What `model.size=tiny` sets besides, by recipe: small networks learn at higher rates, a CPU takes small batches."""


def resolve(
    recipe: str, *, file: Path | None, assignments: Sequence[str], over: settings.Table
) -> tuple[TrainConfig, settings.Table]:
    """Lay the layers over each other, the later winning: defaults, file, `--set`, what the command line says.

    Returns:
        The settings, and the recipe's own as a table that `make_recipe` has accepted.

    Raises:
        ConfigError: an unknown recipe or key, or a value that cannot be used.
    """
    table = settings.merge(
        settings.load_toml(file) if file else {}, settings.parse_assignments(list(assignments)), over
    )
    if table.get("model", {}).get("size") == "tiny":
        table = settings.merge(TINY.get(recipe, {}), table)
    own = table.pop("recipe", {})
    make_recipe(recipe, own)
    return settings.build(TrainConfig, table), own


def batch_size(config: TrainConfig, recipe: Recipe) -> int:
    """Return the samples of a step on all processes together."""
    return config.run.batch_size or recipe.batch_size
