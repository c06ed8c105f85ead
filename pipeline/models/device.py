"""Device and number format of networks: decided once by the driver, then part of the settings."""

from dataclasses import replace

import torch

from ...manifests.errors import ConfigError
from .registry import ModelsConfig

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(config: ModelsConfig) -> ModelsConfig:
    """Replace `auto` by what this machine has: CUDA and bfloat16, or the CPU and float32.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError("models.device: cuda is not available here; run `hs-data doctor`, or set models.device=cpu")
    device = ("cuda" if has_cuda else "cpu") if config.device == "auto" else config.device
    precision = ("bfloat16" if device == "cuda" else "float32") if config.precision == "auto" else config.precision
    return replace(config, device=device, precision=precision)


def device_and_dtype(config: ModelsConfig) -> tuple[torch.device, torch.dtype]:
    """Return the device and the number format; what the driver has not resolved is resolved here."""
    config = resolve_device(config)
    if config.device == "cuda":
        torch.backends.cudnn.deterministic = True  # the same bytes from every run on the same GPU
    return torch.device(config.device), PRECISIONS[config.precision]
