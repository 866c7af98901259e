"""Select records of a dataset by conditions given as text."""

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["AllEntrySelector", "EntrySelector", "FieldEntrySelector"]

_TYPES: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
_CONDITION = re.compile(r"(?P<field>[^:=,]+)(:(?P<type>[^:=,]*))?=(?P<value>.*)")
_NUMBER = r"[+-]?[\d.]+(?:e[+-]?\d+)?"
_RANGE = re.compile(f"({_NUMBER})-({_NUMBER})", re.IGNORECASE)


class EntrySelector:
    """Base of the selectors of records."""

    @staticmethod
    def from_string(spec: str) -> "EntrySelector":
        """Build a selector from its description.

        Args:
            spec: ``*`` = all records, or conditions, see :class:`FieldEntrySelector`.
        """
        return AllEntrySelector() if spec == AllEntrySelector.SPECIFIER else FieldEntrySelector(spec)

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        """Return whether a record is selected."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


class AllEntrySelector(EntrySelector):
    """Selects all records."""

    SPECIFIER = "*"

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        """Say yes."""
        return True


class FieldEntrySelector(EntrySelector):
    """Selects the records that meet all of several conditions.

    Args:
        spec: conditions such as ``image_id:int=10-20,file_name=images/cat.jpg``. Each compares a field with a value
            of type ``str`` (the default), ``int`` or ``float``, or a number with a closed range.

    Raises:
        ValueError: a condition cannot be read.
    """

    def __init__(self, spec: str) -> None:
        self._conditions = [_condition(part) for part in spec.split(",")]

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        """Return whether a record meets the conditions; a record without the field does not.

        Args:
            entry: a record.
        """
        return all(condition(entry) for condition in self._conditions)


def _condition(text: str) -> Callable[[Mapping[str, Any]], bool]:
    found = _CONDITION.fullmatch(text.strip())
    kind = (found["type"] or "str") if found else ""
    if found is None or kind not in _TYPES:
        raise ValueError(
            f"cannot read the condition {text!r}: expected 'field=value' or 'field:type=value' with a type of "
            f"{', '.join(_TYPES)}, or '*' for all records"
        )
    field, convert = found["field"].strip(), _TYPES[kind]
    limits = _RANGE.fullmatch(found["value"]) if kind != "str" else None
    try:
        low, high = map(convert, limits.groups() if limits else (found["value"],) * 2)
    except ValueError as reason:
        raise ValueError(f"{found['value']!r} in the condition {text!r} is no {kind}") from reason
    return lambda entry: field in entry and low <= convert(entry[field]) <= high
