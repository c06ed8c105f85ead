"""Parts that other packages bring by entry points: sources, recipes and face detectors.

A package names them in its `pyproject.toml`, `[project.entry-points."hs_data.sources"]`; docs/extending.md shows each.
"""

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from .errors import ConfigError

Group = Literal["hs_data.sources", "hs_data.recipes", "hs_data.detectors"]


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """An entry point of another package, found but not imported yet."""

    name: str
    package: str
    """Name and version of the distribution that brings it."""
    entry_point: EntryPoint

    def load(self) -> object:
        """Import the module and return what the entry point names.

        Raises:
            ConfigError: it cannot be imported, whatever the reason.
        """
        try:
            return self.entry_point.load()
        except Exception as error:  # the package's code may raise anything; the user is to learn whose it was
            raise self.fault(f"cannot be loaded ({type(error).__name__}: {error})") from error

    def fault(self, what: str) -> ConfigError:
        """Return the error that says in one line what is wrong with the entry point, and whose it is."""
        point = self.entry_point
        line = f"its entry point {point.group}: {point.name} = {point.value} {' '.join(what.split())}"
        return ConfigError(f"package {self.package}: {line}; update or uninstall the package")


def find_plugins(group: Group, ours: Collection[str]) -> dict[str, Plugin]:
    """Return the entry points of a group by name, in its order; no package is imported.

    Args:
        group: what is looked for.
        ours: names that hs-data itself gives, which nobody else may take.

    Raises:
        ConfigError: a package takes one of our names, or that of another package.
    """
    found: dict[str, Plugin] = {}
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else "(unknown)"
        plugin = Plugin(name=point.name, package=package, entry_point=point)
        if point.name in ours:
            raise plugin.fault("takes a name of hs-data's own")
        if point.name in found:
            # One distribution can be seen twice, in two folders of the path; that is no clash.
            if (found[point.name].package, found[point.name].entry_point.value) == (package, point.value):
                continue
            raise plugin.fault(f"takes the name that {found[point.name].package} has taken")
        found[point.name] = plugin
    return found
