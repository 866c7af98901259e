"""Read a large JSON file one array element at a time, with the byte position of each."""

import json
import re
from collections.abc import Iterator
from json.scanner import make_scanner  # type: ignore[attr-defined]
from typing import IO, Any

__all__ = ["JsonStream"]

_WINDOW = 256 << 10  # objects of a window fit into the processor's cache
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[-+0-9.eE]*")
_BREAK = re.compile(r"\}[ \t\r\n]*,[ \t\r\n]*\{")


class JsonStream:
    """Iterates over the keys of a JSON object that is too large to parse at once.

    The file is searched as Latin-1, so that character positions are byte positions; JSON's syntax is the same in
    UTF-8.

    Args:
        file: open for reading bytes.
        name: of the file, for errors.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._buffer = ""
        self._base = 0  # position in the file of the first character of the buffer
        self._at = 0  # next character of the buffer
        self._end = False
        self._decode = json.JSONDecoder().decode
        self._scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]
        self._refill()
        if self._buffer.startswith("\xef\xbb\xbf"):
            self._at = 3

    def _refill(self) -> None:
        """Drop what was parsed and read more: at least a window, or as much as is left if an element is larger."""
        rest = self._buffer[self._at :]
        more = self._file.read(max(_WINDOW, len(rest)))
        self._base += self._at
        self._buffer, self._at = rest + more.decode("latin-1"), 0
        self._end = not more

    def error(self, what: str) -> ValueError:
        """Return an error that states the position in the file."""
        near = self._buffer[self._at : self._at + 40]
        return ValueError(
            f"{self._name} is not a complete JSON file: {what} at byte {self._base + self._at}: {near!r}"
        )

    def _skip_space(self) -> str:
        """Skip whitespace and return the next character without consuming it; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer) or self._end:
                return self._buffer[self._at : self._at + 1]
            self._refill()

    def _take(self, signs: str) -> str:
        """Consume whitespace and the next character, which must be one of ``signs``."""
        sign = self._skip_space()
        if not sign or sign not in signs:
            raise self.error(f"expected one of {signs!r}")
        self._at += 1
        return sign

    def value(self) -> tuple[Any, int, int]:
        """Parse one value, and return it with its start and end in the file."""
        self._skip_space()
        while True:
            try:
                value, end = self._scan(self._buffer, self._at)
            except (StopIteration, json.JSONDecodeError) as error:
                if self._end:
                    raise self.error(str(error) or "expected a value") from None
                self._refill()
                continue
            # A number at the end of the buffer may be incomplete ("-1" of "-1.5").
            last = _NUMBER.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if max(last, end) < len(self._buffer) or self._end:
                start, self._at = self._at, end
                text = self._buffer[start:end]
                if not text.isascii():
                    value = self._decode(_as_utf8(text))
                return value, self._base + start, self._base + end
            self._refill()

    def keys(self) -> Iterator[str]:
        """Yield the keys of the object; the caller reads each value with :meth:`value` or :meth:`chunks`."""
        self._take("{")
        if self._skip_space() == "}":
            return
        while True:
            key = self.value()[0]
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    @property
    def position(self) -> int:
        """Where the next character is in the file."""
        return self._base + self._at

    def go_to(self, position: int) -> None:
        """Go on at another position of the file."""
        self._file.seek(position)
        self._buffer, self._base, self._at = "", position, 0
        self._refill()

    def first_object(self) -> int | None:
        """Return where the first element of an array is; None if it is no object. The array stays to be read."""
        self._skip_space()
        here = self.position
        self._take("[")
        is_object = self._skip_space() == "{"
        found = self.position
        self.go_to(here)
        return found if is_object else None

    def chunks(self, inside: bool = False) -> Iterator[tuple[list[Any], list[int], list[int]]]:
        """Yield the elements of an array, many at a time: elements, their starts and their ends in the file.

        Args:
            inside: the stream is after an element of the array, and the elements after that one are wanted.
        """
        if inside:
            if self._take(",]") == "]":
                return
        else:
            self._take("[")
            if self._skip_space() == "]":
                self._at += 1
                return
        slow = -1  # window in which elements must be parsed one by one
        while True:
            found = None if self._base == slow else self._many()
            if found is not None:
                yield found
                continue
            slow = self._base
            value, start, end = self.value()
            yield [value], [start], [end]
            if self._take(",]") == "]":
                return
            self._skip_space()

    def _many(self) -> tuple[list[Any], list[int], list[int]] | None:
        """Parse the objects that end in the buffer at once; None if that does not tell where each of them ends.

        Text between objects of the array looks like ``}, {``. If all elements are objects, and as many as there are such
        places, then none of these is inside an element.
        """
        breaks = [match.span() for match in _BREAK.finditer(self._buffer, self._at)]
        if not breaks:
            return None
        try:
            values = self._decode(f"[{_as_utf8(self._buffer[self._at : breaks[-1][0] + 1])}]")
        except json.JSONDecodeError:
            return None
        if len(values) != len(breaks) or any(type(value) is not dict for value in values):
            return None
        base = self._base
        ends = [base + first + 1 for first, _ in breaks]
        starts = [base + self._at, *(base + last - 1 for _, last in breaks[:-1])]
        self._at = breaks[-1][1] - 1
        return values, starts, ends


def _as_utf8(text: str) -> str:
    return text if text.isascii() else text.encode("latin-1").decode("utf-8", "surrogatepass")
