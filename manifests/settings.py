"""Settings: TOML tables and `key=value` words become frozen dataclasses; nothing unknown is let through."""

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import ConfigError

T = typing.TypeVar("T")
Table = dict[str, typing.Any]


def load_toml(path: Path) -> Table:
    """Read one TOML file; raise `ConfigError` that names the file and the line when it cannot be parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML ({error}); mend that line") from error


def parse_assignments(words: list[str]) -> Table:
    """Turn `["crop.policy=eyes", "faces.stride=1"]` into nested tables.

    A value is read as a TOML value, and as a plain string when it is none, so that no shell quoting is needed.
    """
    table: Table = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {word}: no key and value; write --set stage.key=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        branch = table
        *parents, leaf = key.strip().split(".")
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"--set {word}: {parent} is a value, not a table; write --set stage.key=value")
        branch[leaf] = value
    return table


def merge(*layers: Mapping[str, typing.Any]) -> Table:
    """Lay tables over each other, the later one winning key by key."""
    merged: Table = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                below = merged.get(key)
                merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
            else:
                merged[key] = value
    return merged


def build(cls: type[T], table: Mapping[str, typing.Any], *, path: str = "") -> T:
    """Make a dataclass of a table; raise `ConfigError` on an unknown key (naming the nearest) or a wrong type."""
    hints = typing.get_type_hints(cls)
    known = {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {}
    for key, raw in table.items():
        name = f"{path}{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            hint = f"did you mean {path}{near[0]}?" if near else "remove it"
            raise ConfigError(f"{name}: no such setting; {hint}")
        values[key] = _convert(known[key], raw, name)
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{path}{error}") from error


def to_table(config: object) -> Table:
    """Turn a config dataclass into plain tables that JSON and TOML can hold; the inverse of `build`."""
    table: Table = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            table[field.name] = to_table(value)
        elif isinstance(value, tuple):
            table[field.name] = list(value)
        else:
            table[field.name] = value
    return table


def keys(cls: type, *, path: str = "") -> Iterator[tuple[str, type, object]]:
    """Yield `(dotted key, type, default)` of every setting below a config dataclass, in order of definition."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from keys(typing.cast(type, kind), path=f"{path}{field.name}.")
        else:
            default = field.default_factory() if callable(field.default_factory) else field.default
            yield f"{path}{field.name}", kind, default


def _convert(kind: typing.Any, raw: typing.Any, name: str) -> typing.Any:  # noqa: ANN401 - any type hint, any value
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{name}: {raw!r} is not a table; write {name}.key=value")
        return build(typing.cast(type, kind), raw, path=f"{name}.")
    if origin is typing.Literal:
        if raw in args:
            return raw
        raise ConfigError(f"{name}: {raw!r} is not possible; choose one of {', '.join(map(str, args))}")
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return None if raw in (None, "") else _convert(inner[0], raw, name)
    if origin is tuple:
        items = raw if isinstance(raw, list | tuple) else str(raw).split(",")
        return tuple(_convert(args[0], item, name) for item in items)
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if isinstance(raw, bool) and kind is not bool:
        raise ConfigError(f"{name}: {raw!r} is not of type {kind.__name__}; give a {kind.__name__}")
    if isinstance(raw, float) and not math.isfinite(raw):
        raise ConfigError(f"{name}: {raw} is not a number that can be written down; give a finite one")
    if not isinstance(raw, kind):
        raise ConfigError(f"{name}: {raw!r} is not of type {kind.__name__}; give a {kind.__name__}")
    return raw
