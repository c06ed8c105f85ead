"""The recipes that ship, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...manifests import settings
from ...manifests.errors import ConfigError
from ...manifests.near import choice
from .highsync import HighSyncConfig, HighSyncStage1, HighSyncStage2, Stage1Config
from .recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A recipe and its settings."""

    config: type
    """Dataclass of the settings."""
    make: Callable[[Any], Recipe]
    """Makes the recipe of them."""


RECIPES = {
    "highsync-stage1": Kind(config=Stage1Config, make=HighSyncStage1),
    "highsync-stage2": Kind(config=HighSyncConfig, make=HighSyncStage2),
}


def make_recipe(name: str, table: settings.Table) -> Recipe:
    """Make a recipe from its section of the settings.

    Raises:
        ConfigError: no such recipe, or a setting that it cannot use.
    """
    if name not in RECIPES:
        raise ConfigError(f"--recipe {name}: no such recipe; {choice(name, RECIPES)}")
    kind = RECIPES[name]
    return kind.make(settings.build(kind.config, table, path="recipe."))
