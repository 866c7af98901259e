"""A part of the inputs, for schedulers that start a command several times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import UserError

__all__ = ["Shard", "shard_option"]

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts, numbered from 0."""

    index: int = 0
    count: int = 1

    def of(self, items: Sequence[T]) -> list[T]:
        """Return the items of this part: every ``count``-th."""
        return list(items[self.index :: self.count])

    def name(self, stem: str, ending: str) -> str:
        """Return the name of a file that the other parts write too, each under its own."""
        return f"{stem}-{self.index}-of-{self.count}{ending}" if self.count > 1 else stem + ending


def shard_option(text: str | None) -> Shard:
    """Return the part that ``--shard i/n`` names; None is everything.

    Raises:
        UserError: if the text is no such part.
    """
    if text is None:
        return Shard()
    index, slash, count = text.partition("/")
    if slash and index.isdecimal() and count.isdecimal() and int(index) < int(count):
        return Shard(int(index), int(count))
    raise UserError(
        f"--shard takes i/n with i from 0 to n - 1, such as 0/4 for the first of four, got {text!r}"
    )
