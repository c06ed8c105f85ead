"""The setup of a run: what the command said, resolved, on its way to every process that trains."""

import json
from dataclasses import dataclass, fields

from ..manifests import settings
from .config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainSetup:
    """Everything that a process of a run needs to know."""

    recipe: str
    config: TrainConfig
    """The settings, built once a launch and resolved: no `auto` is left."""
    options: settings.Table
    """The recipe's own settings."""
    run: str
    init: tuple[str, ...] = ()
    """Weights to begin with: runs, checkpoints, or files whose names the recipe knows; the later wins."""
    resume: bool = False
    other_data: bool = False
    """Whether the run may go on with other samples than it began with, or on latents its weights do not know."""
    go_on: str = "the same command and --resume"
    """Words on how to go on with the run, for messages."""


def to_table(setup: TrainSetup) -> settings.Table:
    """Return a setup as JSON values."""
    values = {field.name: getattr(setup, field.name) for field in fields(setup)}
    return {**values, "config": settings.to_table(setup.config), "init": list(setup.init)}


def to_json(setup: TrainSetup) -> str:
    """Write a setup for another process."""
    return json.dumps(to_table(setup))


def from_json(text: str) -> TrainSetup:
    """Read what `to_json` wrote."""
    table = json.loads(text)
    config = settings.build(TrainConfig, table["config"])
    return TrainSetup(**{**table, "config": config, "init": tuple(table["init"])})
