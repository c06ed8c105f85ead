"""Recipes by name: those in the folders beside this file, and those of other packages by entry points."""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from ...manifests import settings
from ...manifests.errors import ConfigError
from ...manifests.near import choice
from ...manifests.plugins import find_plugins
from .. import recipes
from .recipe import Recipe, RecipeSpec

GROUP = "hs_data.recipes"


def own_recipes() -> Mapping[str, RecipeSpec]:
    """Return the recipes that ship, by name: `RECIPES` of every folder's `recipe.py`."""
    found: dict[str, RecipeSpec] = {}
    for folder in iter_modules(recipes.__path__):
        if folder.ispkg:
            found |= import_module(f"{recipes.__name__}.{folder.name}.recipe").RECIPES
    return found


def recipe_names() -> list[str]:
    """Return the names of all recipes; other packages are not imported.

    Raises:
        ConfigError: two packages claim one name.
    """
    own = own_recipes()
    return [*own, *find_plugins(GROUP, own)]


def find_recipe(name: str) -> RecipeSpec:
    """Return the recipe of a name.

    Raises:
        ConfigError: there is none, or another package's cannot be used.
    """
    own = own_recipes()
    if name in own:
        return own[name]
    plugins = find_plugins(GROUP, own)
    if name not in plugins:
        raise ConfigError(f"--recipe {name}: no such recipe; {choice(name, [*own, *plugins])}")
    spec = plugins[name].load()
    if not isinstance(spec, RecipeSpec):
        raise plugins[name].fault("names no RecipeSpec")
    return spec


def make_recipe(name: str, table: settings.Table) -> Recipe:
    """Make a recipe from its section of the settings.

    Raises:
        ConfigError: no such recipe, or a setting that it cannot use.
    """
    spec = find_recipe(name)
    return spec.make(settings.build(spec.config, table, path="recipe."))
