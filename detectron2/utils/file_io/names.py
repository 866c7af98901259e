"""Choose distinct names for files to write."""

import os
from collections.abc import Iterable

__all__ = ["distinct_names"]


def distinct_names(paths: Iterable[str | os.PathLike[str]], ending: str | None = None) -> list[str]:
    """Choose a file name in one folder for each path, and number equal ones: ``a.jpg``, ``a-2.jpg``, ``a-3.jpg``.

    Names that differ only in case are equal, as on some file systems. A path whose own name has such a number keeps it.

    Args:
        paths: files in any folders.
        ending: extension of the names, such as ``".jpg"``; None keeps the original ones.
    """
    wanted = []
    for path in paths:
        stem, own = os.path.splitext(os.path.basename(os.fspath(path)))
        wanted.append((stem, own if ending is None else ending))
    first = {(stem + end).lower() for stem, end in wanted}
    taken: set[str] = set()
    names = []
    for stem, end in wanted:
        name, number = stem + end, 1
        while name.lower() in taken or (number > 1 and name.lower() in first):
            number += 1
            name = f"{stem}-{number}{end}"
        taken.add(name.lower())
        names.append(name)
    return names
