"""Text of others, such as file names, made fit for a terminal and a log."""

import json
import logging
import re
import sys
from dataclasses import is_dataclass

from .json_values import json_values

UNPRINTABLE = re.compile(
    # Control characters but the line feed (an escape sequence colours, moves the cursor, writes to the clipboard),
    # marks that turn the direction of writing, line separators, and halves of pairs, which no stream can encode.
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Return text with every character spelled out that would steer a terminal: ESC becomes `\\x1b`.

    Line feeds stay; `printable_name` spells them out too.
    """
    return UNPRINTABLE.sub(lambda found: _spelled(found[0]), text)


def printable_name(name: object) -> str:
    """Return a file name, or what else stands on one line, as `printable` does, line feeds spelled out too."""
    return printable(str(name).replace("\n", "\\n"))


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode()


def printable_json(value: object) -> str:
    """Return a value as indented JSON with such characters as `\\u009b`, which reads back as the same value."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_value)
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _value(value: object) -> object:
    return json_values(value) if is_dataclass(value) else str(value)


class PrintableFormatter(logging.Formatter):
    """Log lines in which nothing steers a terminal; a traceback keeps its lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return printable(super().format(record))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Show log lines from a level on, in this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
