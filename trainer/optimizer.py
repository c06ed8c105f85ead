"""How weights change: AdamW, the learning rate as a function of the step, and the average that is shipped."""

import math
from collections.abc import Iterable, Mapping

import torch

from ..manifests.errors import ConfigError, how_to_install
from .config import OptimConfig
from .recipes.recipe import Recipe

Parameters = Mapping[str, torch.nn.Parameter]


def make_optimizer(parameters: Parameters, config: OptimConfig, recipe: Recipe) -> torch.optim.Optimizer:
    """Return AdamW over the parameters that train, in the order of their names.

    Raises:
        ConfigError: 8-bit AdamW is asked for without bitsandbytes or without CUDA.
    """
    rate = config.learning_rate or recipe.learning_rate
    ordered = [parameters[name] for name in sorted(parameters)]
    options = {
        "lr": rate,
        "betas": (config.beta1, config.beta2),
        "eps": config.epsilon,
        "weight_decay": config.weight_decay,
    }
    if not config.eight_bit:
        return torch.optim.AdamW(ordered, fused=True, **options)
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(f"optim.eight_bit: bitsandbytes is not installed; {how_to_install('8bit')}") from error
    if ordered[0].device.type != "cuda":
        raise ConfigError("optim.eight_bit: needs CUDA; leave it off on a CPU")
    return AdamW8bit(ordered, **options)


def lr_scale(step: int, steps: int, config: OptimConfig, recipe: Recipe) -> float:
    """Return what the learning rate of a step is, as a share of the full one.

    Args:
        step: from 0.
        steps: of the whole run, for the schedules that come to an end.
        config: the schedule.
        recipe: whose warm-up is taken where the settings name none.
    """
    warmup = recipe.warmup_steps if config.warmup_steps < 0 else config.warmup_steps
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    if config.schedule == "linear":
        return 1 - done
    return 0.5 * (1 + math.cos(math.pi * done)) if config.schedule == "cosine" else 1.0


class EMA:
    """Exponential moving average of the weights that train, float32, on their device.

    The decay rises to its full value over the first steps, as (1 + step) / (10 + step), so that the random start is
    soon forgotten (the rule of TensorFlow's and diffusers' EMA).
    """

    def __init__(self, parameters: Parameters, decay: float) -> None:
        self._decay = decay
        self._parameters = dict(parameters)
        self.tensors = {name: value.detach().float().clone() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after optimizer step `step`, from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        names = list(self.tensors)
        new = [self._parameters[name].detach().float() for name in names]
        torch._foreach_lerp_(  # type: ignore[reportPrivateImportUsage]
            [self.tensors[name] for name in names], new, 1 - decay
        )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange average and weights; a second call undoes the first."""
        for name, value in self._parameters.items():
            kept = value.detach().clone()
            value.copy_(self.tensors[name])
            self.tensors[name].copy_(kept)


def grad_norm(parameters: Iterable[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Cut the gradients to a length of at most `limit` and return the length that they had."""
    return torch.nn.utils.clip_grad_norm_(list(parameters), limit, foreach=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, torch.Tensor]:
    """Return an optimizer's state as named tensors; `names` are the parameters' in the optimizer's order."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{name}.{field}": torch.as_tensor(value)
        for name, parameter in zip(names, parameters, strict=True)
        for field, value in optimizer.state[parameter].items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, torch.Tensor]) -> None:
    """Put named tensors back into an optimizer."""
    if not tensors:
        return
    indices = {name: index for index, name in enumerate(names)}
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        name, _, field = key.rpartition(".")
        state.setdefault(indices[name], {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
