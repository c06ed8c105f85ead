"""Conditions on `clips.parquet`, such as `sync_confidence>5`: one column, one comparison, one value."""

import operator
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ...manifests.errors import ConfigError

COMPARISONS = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|!=|==|>|<)\s*(.+?)\s*")


def parse_conditions(texts: Sequence[str], schema: pa.Schema) -> pc.Expression | None:
    """Turn conditions into one expression that holds where all of them do; a clip without the value does not pass.

    Raises:
        ConfigError: not of the form `column>value`, a column that the table has not, a value of another type.
    """
    expression = None
    for text in texts:
        condition = _parse(text, schema)
        expression = condition if expression is None else expression & condition
    return expression


def columns_of(texts: Sequence[str]) -> list[str]:
    """Return the columns that conditions name."""
    return [match[1] for text in texts if (match := CONDITION.fullmatch(text))]


def _parse(text: str, schema: pa.Schema) -> pc.Expression:
    match = CONDITION.fullmatch(text)
    if match is None:
        raise ConfigError(f"data.where: {text} cannot be read; write column>value, such as sync_confidence>5")
    name, sign, value = match.groups()
    if name not in schema.names:
        raise ConfigError(f"data.where: clips.parquet has no column {name}; see docs/dataset.md for those it has")
    kind = schema.field(name).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise ConfigError(f"data.where: {name} holds no single number or word; choose another column")
    try:
        # A float32 is compared with a float32, so that a value that equals its limit passes; integers may meet 1.5.
        exact = kind if pa.types.is_floating(kind) else pa.float64()
        typed = pa.scalar(value) if pa.types.is_string(kind) else pa.scalar(float(value), exact)
    except ValueError:
        raise ConfigError(f"data.where: {name} is a number and {value} is none; write one") from None
    return COMPARISONS[sign](pc.field(name), pc.scalar(typed))
