"""JSON values of records, made where a record is written and nowhere before."""

from dataclasses import fields, is_dataclass


def json_values(record: object) -> object:
    """Return a dataclass as its `to_json` gives it, or as its fields in order; for `default` of `json.dumps`."""
    to_json = getattr(record, "to_json", None)
    if to_json is not None:
        return to_json()
    if not is_dataclass(record):
        raise TypeError(f"{type(record).__name__} has no JSON values")
    return {field.name: getattr(record, field.name) for field in fields(record)}
