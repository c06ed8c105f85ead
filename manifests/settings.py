"""Settings: TOML tables and `key=value` words become frozen dataclasses; nothing unknown is let through."""

import dataclasses
import functools
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .errors import ConfigError
from .near import nearest
from .plugins import Group, find_plugins

T = typing.TypeVar("T")
Table = dict[str, typing.Any]
MAX_DEPTH = 8
"""Tables in tables; settings have two levels, and a selection's facts no more than three."""
MAX_SHOWN = 60
"""Characters of a value that a message shows."""
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a setting may be, both ends with it: `stride: Annotated[int, Range(1, 250)] = 5`."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:,.10g} to {self.high:,.10g}"


@dataclasses.dataclass(frozen=True)
class OrPlugin:
    """Mark of a setting that may name a plugin, too: `Annotated[Literal["a", "b"], OrPlugin(group)]`."""

    group: Group


def check_ranges(config: object) -> None:
    """Raise `ValueError` when a number of a config dataclass lies outside its `Range`; for `__post_init__`."""
    for name, allowed in ranges(type(config)).items():
        value = getattr(config, name)
        if not allowed.low <= value <= allowed.high:
            raise ValueError(f"{name}: {shown(value)} is out of range; give {allowed}")


@functools.cache
def ranges(cls: type) -> dict[str, Range]:
    """Return the ranges of the numbers of a config dataclass by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    extras = [(name, extra) for name, hint in hints.items() for extra in getattr(hint, "__metadata__", ())]
    return {name: extra for name, extra in extras if isinstance(extra, Range)}


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, and cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def load_toml(path: Path) -> Table:
    """Read one TOML file; raise `ConfigError` that names the file and the line when it cannot be parsed."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply; no setting is") from error
    except ValueError as error:  # of TOML, of UTF-8, or a number of thousands of digits
        raise ConfigError(f"{path}: not valid TOML ({error}); mend that line") from error
    _check_depth(table, str(path))
    return table


def parse_assignments(words: list[str]) -> Table:
    """Turn `["crop.policy=eyes", "faces.stride=1"]` into nested tables.

    A value is read as a TOML value, and as a plain string when it is none, so that no shell quoting is needed.
    """
    table: Table = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {word}: no key and value; write --set stage.key=value")
        branch = table
        *parents, leaf = key.strip().split(".")
        if len(parents) >= MAX_DEPTH:
            raise ConfigError(f"--set {word[:MAX_SHOWN]}...: nested too deeply; write --set stage.key=value")
        value = _read_value(text, key)
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise ConfigError(f"--set {word}: {parent} is a value, not a table; write --set stage.key=value")
        branch[leaf] = value
    return table


def _read_value(text: str, key: str) -> object:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except RecursionError as error:
        raise ConfigError(f"--set {key}: nested too deeply; no setting is") from error
    except ValueError:
        return text
    _check_depth(value, f"--set {key}")
    return value


def _check_depth(table: object, where: str) -> None:
    """Refuse what functions that call themselves level by level could not take: TOML's dotted keys go down for ever."""
    level = [table]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ConfigError(f"{where}: nested too deeply; no setting is")


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()


def section(table: Mapping[str, typing.Any], name: str) -> Table:
    """Return one section of a table, empty where it is not there; raise `ConfigError` where it is no table."""
    found = table.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name}: {shown(found)} is not a table; write {name}.key=value")
    return dict(found)


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


def build(cls: type[T], table: Mapping[str, typing.Any], *, path: str = "", others: Iterable[str] = ()) -> T:
    """Make a dataclass of a table.

    Args:
        cls: the dataclass.
        table: its values; what it lacks has its default.
        path: what stands before its keys in messages, such as `select.`.
        others: dotted keys that are settings too, but stand elsewhere; an unknown key may have meant one of them.

    Raises:
        ConfigError: an unknown key (it names the nearest), or a value of a wrong type or out of range.
    """
    _check_keys(cls, table, path, [*(f"{path}{key}" for key, _, _ in keys(cls)), *others])
    hints = typing.get_type_hints(cls, include_extras=True)
    values = {key: _convert(hints[key], raw, f"{path}{key}") for key, raw in table.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{path}{error}") from error


def _check_keys(cls: type, table: Mapping[str, typing.Any], path: str, known: list[str]) -> None:
    """Refuse keys that a dataclass, or one in it, has not; the hint looks at all known settings."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    for key, raw in table.items():
        if key not in names:
            whole = _deepest(f"{path}{key}", raw)
            shown_key = whole[: len(path) + MAX_SHOWN]  # the path may be that of a file
            raise ConfigError(f"{shown_key}: no such setting; {meant(whole, known, path, names, key)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(raw, Mapping):
            _check_keys(typing.cast(type, hints[key]), raw, f"{path}{key}.", known)


def _deepest(key: str, raw: object) -> str:
    """Return the first whole key of a table that is not known: its last part says best what was meant."""
    while isinstance(raw, Mapping) and raw:
        inner, raw = next(iter(raw.items()))
        key = f"{key}.{inner}"
    return key


def meant(key: str, known: Sequence[str], path: str = "", names: Sequence[str] = (), table: str = "") -> str:
    """Return which setting an unknown key stands for: one of the same name elsewhere, or one that is spelt alike.

    Args:
        key: the unknown one, dotted.
        known: all settings, dotted.
        path: the table that has no such key, with a dot behind it.
        names: what that table knows.
        table: the part of the key that it does not know.
    """
    leaf = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == leaf]
    near = nearest(table or leaf, names)
    alike = nearest(leaf, dict.fromkeys(name.rpartition(".")[2] for name in known))
    elsewhere = [name for name in known if name.rpartition(".")[2] == alike]
    table_path = path.rpartition(": ")[2]
    found = same or ([f"{table_path}{near}"] if near else elsewhere)
    return f"did you mean {' or '.join(found)}?" if found else "docs/settings.md lists all of them"


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
    if origin is typing.Annotated:
        kind, more = args[0], _plugin_names(args, raw)
        origin, args = typing.get_origin(kind), (*typing.get_args(kind), *more)
    if dataclasses.is_dataclass(kind):
        if not isinstance(raw, Mapping):
            raise ConfigError(f"{name}: {shown(raw)} is not a table; write {name}.key=value")
        return build(typing.cast(type, kind), raw, path=f"{name}.")
    if origin is typing.Literal:
        if raw in args:
            return raw
        near = nearest(raw, args) if isinstance(raw, str) else None
        hint = f"did you mean {near}? " if near else ""
        raise ConfigError(f"{name}: {shown(raw)} is not possible; {hint}choose one of {', '.join(map(str, args))}")
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return None if raw in (None, "") else _convert(inner[0], raw, name)
    if origin is tuple:
        items = raw if isinstance(raw, list | tuple) else str(raw).split(",")
        return tuple(_convert(args[0], item, name) for item in items)
    return _plain(kind, raw, name)


def _plugin_names(annotated: tuple[typing.Any, ...], raw: object) -> Iterator[str]:
    """Yield what other packages let a setting be; they are looked for only where it is none of our own words."""
    kind, *marks = annotated
    for mark in marks:
        if isinstance(mark, OrPlugin) and raw not in (ours := typing.get_args(kind)):
            yield from find_plugins(mark.group, ours)


def _plain(kind: type, raw: object, name: str) -> object:
    """Convert what is neither a table nor a list: numbers, words, yes and no."""
    is_whole = isinstance(raw, int) and not isinstance(raw, bool)
    if kind is float and is_whole:
        try:
            return float(typing.cast(int, raw))
        except OverflowError:
            raise ConfigError(f"{name}: {shown(raw)} is too large; give a smaller number") from None
    if isinstance(raw, float) and not math.isfinite(raw) and kind is not str:
        raise ConfigError(f"{name}: {raw} is not a number that can be written down; give a finite one")
    if not isinstance(raw, kind) or (kind is not bool and isinstance(raw, bool)):
        raise ConfigError(f"{name}: {shown(raw)} is not {WORDS[kind]}; give {WORDS[kind]}")
    return raw
