"""Wrong words on the command line, told in one line: what, where, what to do."""

import re
from collections.abc import Mapping
from typing import Any

CHOICES = re.compile(r"is not one of (.*?)\.?$")
LIMITS = {
    "ge": "give {:g} or more",
    "le": "give {:g} or less",
    "gt": "give more than {:g}",
    "lt": "give less than {:g}",
}
"""Pydantic's name of a limit to what is said of it."""


def is_usage_error(error: BaseException) -> bool:
    """Tell an error of the command line's parser; typer does not name the class that all of them share."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def explain(error: Any) -> str:  # noqa: ANN401 - of a class that has no public name
    """Say in our words what the parser found; its own may be those of pydantic."""
    message = _message(error)
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "hs-data"
    end = " " if message.endswith("?") else "; "
    return f"{message}{end}see  {command} --help"


def _message(error: Any) -> str:  # noqa: ANN401
    from ..manifests.near import nearest  # noqa: PLC0415

    if possible := getattr(error, "possibilities", None):
        name = error.option_name
        return f"{name}: no such option; did you mean {nearest(name, possible) or sorted(possible)[0]}?"
    if getattr(error, "option_name", None) and "No such option" in error.message:
        return f"{error.option_name}: no such option"
    param = getattr(error, "param", None)
    if param is None:
        return error.format_message().rstrip(".?").replace(". Did you mean", "; did you mean")
    is_option = bool(param.opts) and param.opts[0].startswith("-")
    name = max(param.opts, key=len) if is_option else (param.metavar or param.name.upper()).strip("[].")
    if type(error).__name__ == "MissingParameter":
        return f"{name}: is missing; give it"
    cause = error.__cause__
    faults = cause.errors() if hasattr(cause, "errors") else []
    return _fault(name, faults[0]) if faults else f"{name}: {error.message.rstrip('.')}"


def _fault(name: str, fault: Mapping[str, Any]) -> str:
    """Say in our words what pydantic found of one value."""
    from ..manifests.near import choice  # noqa: PLC0415

    value, limits = str(fault.get("input", "")), fault.get("ctx", {})
    if listed := CHOICES.search(fault["msg"]):
        known = re.findall(r"'([^']+)'", listed[1])
        return f"{name} {value}: is not possible; {choice(value, known)}"
    for key, words in LIMITS.items():
        if key in limits:
            return f"{name} {value}: is out of range; {words.format(limits[key])}"
    wanted = {"int": "a whole number", "float": "a number", "bool": "yes or no", "path": "a path"}
    kind = fault["type"].partition("_")[0]
    return f"{name} {value}: is not {wanted[kind]}; give one" if kind in wanted else f"{name} {value}: cannot be used"
