"""Freeze what a recipe does not train."""

import re
from collections.abc import Sequence

import torch

from ...manifests.errors import ConfigError
from .recipe import Recipe


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tell whether one of the patterns, regular expressions, describes the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def freeze(network: torch.nn.Module, recipe: Recipe) -> list[str]:
    """Let only the parameters train that the recipe names, and return their names.

    Raises:
        ConfigError: none of them is in the network.
    """
    trained = []
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(recipe.trains(name))
        if parameter.requires_grad:
            trained.append(name)
    if not trained:
        raise ConfigError(f"recipe.trainable: {recipe.name} names no parameter of this network; see its patterns")
    return trained
