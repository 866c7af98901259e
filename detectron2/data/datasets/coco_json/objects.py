"""Find the objects of a JSON array and their values with NumPy, many objects at once.

The objects of a long array nearly always have the same keys in the same order. Where that is so, the n-th string of each
object is the same key, and the values of a key are read from all objects together. Nothing is taken for granted: each key
of each object is compared, and an object that differs is left for ``json``.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Flags", "Ints", "JsonObjects", "LikeObjects", "like_objects", "spread"]

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_KINDS = 4  # orders of keys that are looked for in a piece
_PADDING = bytes(8)
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_COMMA = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")
_CLOSE = re.compile(rb"[ \t\r\n]*\]")


def _table(signs: bytes) -> Flags:
    found = np.zeros(256, dtype=np.bool_)
    found[list(signs)] = True
    return found


_SPACE, _AFTER_NUMBER = _table(b" \t\r\n"), _table(b",} \t\r\n")


@dataclass(frozen=True)
class JsonObjects:
    """The objects of a piece of a JSON array.

    Attributes:
        piece: the bytes of the file.
        data: bytes of the piece, uint8; escapes are replaced by ones, and eight zeros follow.
        quotes: positions of the quotation marks.
        starts: [n] first byte of each object.
        ends: [n] byte after each object.
        first: [n] quotation marks before each object.
        counts: [n] quotation marks in each object.
        simple: [n] whether an object has neither escapes nor objects inside.
        close: position after the array; None if it goes on.
    """

    piece: bytes
    data: npt.NDArray[np.uint8]
    quotes: Ints
    starts: Ints
    ends: Ints
    first: Ints
    counts: Ints
    simple: Flags
    close: int | None

    @classmethod
    def find(cls, piece: bytes) -> JsonObjects | None:
        """Find the objects of a piece; None if it is not certain where each of them ends.

        Args:
            piece: starts with an object, and ends with one, or anywhere after the array.
        """
        escaped = b"\\" in piece
        text = (_ESCAPED.sub(b"\1\1", piece) if escaped else piece) + _PADDING
        data = np.frombuffer(text, dtype=np.uint8)
        quotes = np.flatnonzero(data == ord('"'))
        braces = np.flatnonzero((data == ord("{")) | (data == ord("}")))
        before = np.searchsorted(quotes, braces)
        if (inside := before % 2 == 1).any():
            braces, before = braces[~inside], before[~inside]
        opening = data[braces] == ord("{")
        depth = np.cumsum(np.where(opening, 1, -1))
        first, last = np.flatnonzero(opening & (depth == 1)), np.flatnonzero(~opening & (depth == 0))
        number = min(len(first), len(last))
        if not number or braces[first[0]] != 0:
            return None
        first, last = first[:number], last[:number]
        starts, ends = braces[first], braces[last] + 1
        number, close = _in_array(text, data, starts, ends)
        if not number or (close is None and ends[-1] != len(piece)):
            return None
        part = slice(number)
        simple = last[part] == first[part] + 1
        if escaped:
            signs = np.searchsorted(np.flatnonzero(data == 1), np.stack([starts[part], ends[part]]))
            simple &= signs[0] == signs[1]
        counts = before[last[part]] - before[first[part]]
        return cls(piece, data, quotes, starts[part], ends[part], before[first[part]], counts, simple, close)

    def parsed(self, rows: Ints) -> list[Any]:
        """Parse some of the objects."""
        return [json.loads(self.piece[self.starts[row] : self.ends[row]]) for row in rows]

    @functools.cached_property
    def commas(self) -> Ints:
        return np.flatnonzero(self.data == ord(","))

    @functools.cached_property
    def brackets(self) -> tuple[Ints, Ints]:
        """Positions of opening and closing brackets, of which those in strings are some."""
        return np.flatnonzero(self.data == ord("[")), np.flatnonzero(self.data == ord("]"))

    @functools.cached_property
    def words(self) -> npt.NDArray[np.uint64]:
        """The eight bytes from each position on, as one number."""
        return np.ndarray((len(self.data) - 7,), dtype="<u8", buffer=self.data.data, strides=(1,))

    def after_space(self, at: Ints) -> Ints:
        """Return the positions of the next characters that are no white space."""
        while (space := _SPACE[self.data[at]]).any():
            at = at + space
        return at


def _in_array(text: bytes, data: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> tuple[int, int | None]:
    """Return how many objects belong to the array, and the position after it; none if text between them varies."""
    good = np.ones(len(starts) - 1, dtype=np.bool_)
    if len(starts) > 1:
        between = text[ends[0] : starts[1]]
        if len(between) > 64 or not _COMMA.fullmatch(between):
            good[:1] = False
        else:
            good = starts[1:] - ends[:-1] == len(between)
            for number, sign in enumerate(between):
                good &= data[ends[:-1] + number] == sign
    number = len(starts) if good.all() else int(np.argmin(good)) + 1
    close = _CLOSE.match(text, int(ends[number - 1]))
    if close is None and number < len(starts):
        return 0, None
    return number, None if close is None else close.end()


# ------------------------------------------------------------------ objects of one kind
@dataclass(frozen=True)
class LikeObjects:
    """Objects of a piece that have the same keys in the same order, and no objects inside.

    Attributes:
        objects: of the piece.
        rows: [k] which of them.
        slots: key -> its number among the strings of an object.
    """

    objects: JsonObjects
    rows: Ints
    slots: dict[str, int]

    def _quote(self, number: int) -> Ints:
        return self.objects.quotes[self.objects.first[self.rows] + number]

    def start(self, key: str) -> Ints:
        """Return where the values of a key start."""
        after = self.objects.after_space(self._quote(2 * self.slots[key] + 1) + 1)
        return self.objects.after_space(after + 1)

    def limit(self, key: str) -> Ints:
        """Return positions after the values of a key, and before the next string or the end of the object."""
        number = 2 * self.slots[key] + 2
        last = number >= self.objects.counts[self.rows[0]]
        return self.objects.ends[self.rows] if last else self._quote(number)

    def signs(self, at: Ints) -> npt.NDArray[np.uint8]:
        """Return the bytes at positions."""
        return self.objects.data[at]

    def integers(self, key: str) -> tuple[Ints, Flags]:
        """Return the values of a key, and whether each of them is an integer that is not negative."""
        at = self.start(key)
        data = self.objects.data
        digits = data[at] - np.uint8(48)
        more = digits < 10
        good, values = more, np.zeros(len(at), dtype=np.int64)
        for _ in range(18):
            values = np.where(more, values * 10 + digits, values)
            at = at + more
            digits = data[at] - np.uint8(48)
            more = more & (digits < 10)
            if not more.any():
                break
        return values, good & _AFTER_NUMBER[data[at]]

    def texts(self, key: str) -> tuple[Ints, Ints, Flags]:
        """Return first and last position of the values of a key, and whether each of them is a string."""
        start, number = self.start(key), 2 * self.slots[key] + 2
        if number >= self.objects.counts[self.rows[0]]:
            return start, start, np.zeros(len(start), dtype=np.bool_)
        return start + 1, self._quote(number + 1), start == self._quote(number)

    def lists(self, key: str) -> tuple[Ints, Ints, Ints]:
        """Return the numbers of the first opening and closing brackets of each value, and the number of its lists.

        The number is 0 for values that are no lists. Lists of strings are not supported.
        """
        start, limit = self.start(key), self.limit(key)
        opens, closes = self.objects.brackets
        first, last = np.searchsorted(opens, start), np.searchsorted(closes, start)
        count = np.searchsorted(opens, limit) - first
        good = (
            (self.signs(start) == ord("[")) & (count == np.searchsorted(closes, limit) - last) & (count > 0)
        )
        return first, last, np.where(good, count, 0)


def like_objects(objects: JsonObjects) -> Iterator[LikeObjects]:
    """Yield the objects of a piece by their keys; those of rare kinds, and unusual ones, are in none."""
    left = objects.simple.copy()
    for _ in range(_KINDS):
        if not left.any():
            return
        model = int(np.argmax(left))
        rows = np.flatnonzero(left & (objects.counts == objects.counts[model]))
        found = _like(objects, rows, model)
        left[rows if found is None else found.rows] = False
        if found is not None:
            yield found


def _like(objects: JsonObjects, rows: Ints, model: int) -> LikeObjects | None:
    """Return those rows that have the keys of one of them; None if it has a key twice."""
    data = objects.data
    text = data[objects.starts[model] : objects.ends[model]].tobytes()
    try:
        keys = [key for key, _ in json.loads(text, object_pairs_hook=list)]
    except ValueError:
        return None
    if len(set(keys)) < len(keys):
        return None
    names = iter([*keys, None])
    key, slots = next(names), {}
    good = np.ones(len(rows), dtype=np.bool_)
    for number in range(int(objects.counts[model]) // 2):
        start = objects.quotes[objects.first[rows] + 2 * number] + 1
        end = objects.quotes[objects.first[rows] + 2 * number + 1]
        colon = data[objects.after_space(end + 1)] == ord(":")
        if not colon[np.searchsorted(rows, model)]:
            good &= ~colon
            continue
        assert key is not None
        good &= colon & _is_text(objects, start, end, key.encode("utf-8", "surrogatepass"))
        slots[key] = number
        key = next(names)
    if key is not None:
        return None
    return LikeObjects(objects, rows[good], slots)


def _is_text(objects: JsonObjects, start: Ints, end: Ints, text: bytes) -> Flags:
    """Return whether the text from ``start`` to ``end`` is a given one."""
    good = end - start == len(text)
    for at in range(0, len(text), 8):
        part = text[at : at + 8]
        word = objects.words[np.minimum(start + at, len(objects.words) - 1)]
        if len(part) < 8:
            word = word & np.uint64(256 ** len(part) - 1)
        good &= word == np.uint64(int.from_bytes(part, "little"))
    return good


def spread(first: Ints, counts: Ints) -> Ints:
    """Return ``first[i], first[i] + 1, …``, ``counts[i]`` numbers for each i."""
    before = np.cumsum(counts) - counts
    return np.repeat(first - before, counts) + np.arange(int(counts.sum()))
