"""Recursive-descent parser of values of overrides; see the grammar in ``overrides.py``."""

import re
from typing import Any

__all__ = ["parse_value"]

# Numbers and words of Hydra's grammar: "007" and "None" are strings.
_WHOLE = r"(?:0|[1-9](?:_?\d)*)"
_POWER = r"[eE][+-]?\d(?:_?\d)*"
_INT = re.compile(rf"[+-]?{_WHOLE}\Z")
_FLOAT = re.compile(
    rf"[+-]?(?:{_WHOLE}\.(?:\d(?:_?\d)*)?(?:{_POWER})?|\.\d(?:_?\d)*(?:{_POWER})?|{_WHOLE}{_POWER}"
    r"|[iI][nN][fF]|[nN][aA][nN])\Z"
)
_WORDS = {"null": None, "true": True, "false": False}
_CAST = re.compile(r"(int|float|str|bool)[ \t]*\(")
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def parse_value(text: str) -> object:
    """Parse the text after ``=``.

    Raises:
        ValueError: if brackets or quotes do not match, or a list has no brackets.
    """
    reader = _Reader(text)
    value = reader.value(stops="")
    reader.skip_space()
    if reader.at < len(text):
        raise reader.error("the value should end here")
    return value


def _scalar(text: str) -> object:
    """Convert a bare word to a number, bool, None or string."""
    low = text.lower()
    if low in _WORDS:
        return _WORDS[low]
    if _INT.match(text):
        return int(text)
    if _FLOAT.match(text):
        return float(text)
    return text


def _cast(value: object, kind: str) -> Any:
    if isinstance(value, list):
        return [_cast(v, kind) for v in value]
    if isinstance(value, dict):
        return {k: _cast(v, kind) for k, v in value.items()}
    if kind == "str":
        return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "bool" and isinstance(value, str):
        if value.lower() not in ("true", "false"):
            raise ValueError(value)
        return value.lower() == "true"
    return {"int": int, "float": float, "bool": bool}[kind](value)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def error(self, what: str) -> ValueError:
        return ValueError(f"{what}\n  {self.text}\n  {' ' * self.at}^")

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def skip_space(self) -> None:
        while self.peek().isspace():
            self.at += 1

    def value(self, stops: str) -> object:
        """Parse one value; a bare word inside brackets ends at one of ``stops``."""
        self.skip_space()
        c = self.peek()
        if c and c in "[(":
            return self.sequence()
        if c == "{":
            return self.mapping()
        if c and c in "'\"":
            return self.quoted()
        cast = _CAST.match(self.text, self.at)
        if cast:
            return self.cast(cast)
        return self.bare(stops)

    def cast(self, found: re.Match[str]) -> Any:
        """Parse ``int(…)``, ``float(…)``, ``str(…)`` or ``bool(…)``, applied to each entry of lists and dictionaries."""
        start = self.at
        self.at = found.end()
        value = self.value(stops=")")
        if not self.closed(")"):
            raise self.error("expected ')'")
        try:
            return _cast(value, found[1])
        except (TypeError, ValueError, OverflowError) as error:
            self.at = start
            raise self.error(f"cannot convert {value!r} by {found[1]}(…)") from error

    def sequence(self) -> list[Any]:
        close = _CLOSING[self.peek()]
        self.at += 1
        items: list[Any] = []
        while not self.closed(close):
            items.append(self.value(stops="," + close))
            self.separator(close)
        return items

    def mapping(self) -> dict[Any, Any]:
        self.at += 1
        items: dict[Any, Any] = {}
        while not self.closed("}"):
            self.skip_space()
            start = self.at
            key = self.quoted() if self.peek() in ("'", '"') else self.bare(":,}")
            self.skip_space()
            if self.peek() != ":":
                raise self.error("expected ':' after the key of a dictionary")
            if isinstance(key, (float, type(None))) or key in items:
                self.at = start
                raise self.error(
                    "this cannot be a key of the dictionary" if key not in items else "this key occurs twice"
                )
            self.at += 1
            items[key] = self.value(stops=",}")
            self.separator("}")
        return items

    def closed(self, close: str) -> bool:
        """Consume ``close`` if it is next, and return whether it was."""
        self.skip_space()
        if not self.peek():
            raise self.error(f"expected {close!r}")
        if self.peek() != close:
            return False
        self.at += 1
        return True

    def separator(self, close: str) -> None:
        """Consume a comma, or leave the closing bracket to :meth:`closed`."""
        self.skip_space()
        if self.peek() == ",":
            self.at += 1
        elif self.peek() != close:
            raise self.error(f"expected ',' or {close!r}")

    def quoted(self) -> str:
        quote = self.peek()
        start = self.at
        self.at += 1
        out: list[str] = []
        while True:
            c = self.peek()
            if not c:
                self.at = start
                raise self.error("this quote is not closed")
            self.at += 1
            if c == quote:
                return "".join(out)
            if c == "\\" and self.peek() in ("\\", quote, *_ESCAPES):
                c = _ESCAPES.get(self.peek(), self.peek())
                self.at += 1
            out.append(c)

    def bare(self, stops: str) -> object:
        """Parse a word without quotes, including interpolations; outside brackets it extends to the end."""
        start = self.at
        while self.at < len(self.text):
            c = self.peek()
            if self.text.startswith("${", self.at):
                self.interpolation()
                continue
            if c in stops:
                break
            if not stops and c == ",":
                raise self.error("write a list in brackets, [a, b], and text with a comma in quotes")
            self.at += 1
        word = self.text[start : self.at].strip()
        if not word and stops:
            raise self.error("expected a value")
        return _scalar(word)

    def interpolation(self) -> None:
        """Consume ``${…}``, which may contain others."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            if self.text.startswith("${", self.at):
                depth += 1
                self.at += 2
            elif self.peek() == "}":
                depth -= 1
                self.at += 1
                if depth == 0:
                    return
            else:
                self.at += 1
        self.at = start
        raise self.error("this '${' is not closed")
