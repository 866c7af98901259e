"""Find the images that label files name, even if their paths come from another machine."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from detectron2.utils.image_io import IMAGE_SUFFIXES

__all__ = ["ImageFinder", "as_spelled", "composed", "files_below"]


def files_below(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order; links are followed once, hidden folders left out."""
    seen: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(here, name) for name in sorted(names))


def composed(text: str) -> str:
    """Return a text with each accented letter and each Korean syllable as one character, as label files have it."""
    return unicodedata.normalize("NFC", text)


def as_spelled(path: Path) -> Path:
    """Return a path as the file system spells its last part, which archives from macOS decompose into single letters.

    A path that exists in neither form is returned as it is.
    """
    forms = (path.with_name(unicodedata.normalize(form, path.name)) for form in ("NFC", "NFD"))
    return path if path.name.isascii() or path.exists() else next((p for p in forms if p.exists()), path)


def name_parts(name: str) -> list[str]:
    """Return the parts of a path of any operating system, without drive, root and dots."""
    parts = re.split(r"[\\/]+", re.sub(r"^[A-Za-z]:", "", name.strip()))
    return [p for p in parts if p not in ("", ".", "..")]


class ImageFinder:
    """Finds images by the names in label files.

    A name is first used as it is. Otherwise the image below the folders is found that shares the most trailing path
    parts with it, ignoring case, and if need be the extension; only if exactly one matches.

    Attributes:
        moved: name -> image, of those found elsewhere than named.
        doubtful: name -> images that match equally well, or the one image that another name has; none of them is used.
    """

    def __init__(self, *folders: str | os.PathLike[str]) -> None:
        """
        Args:
            *folders: searched in this order, with their sub-folders.
        """
        self.folders = [Path(f) for f in folders]
        self.moved: dict[str, Path] = {}
        self.doubtful: dict[str, list[Path]] = {}
        self._taken: dict[Path, str] = {}
        self._by_name: dict[str, list[Path]] | None = None
        self._by_stem: dict[str, list[Path]] = {}

    def find(self, name: str, *more: str) -> Path | None:
        """Find an image.

        Args:
            name: as in the label file.
            *more: names to try if the first is not found, such as that of the label file itself.

        Returns:
            The image; None if there is none, or several match.
        """
        for each in (name, *more):
            exact = self._exact(each)
            if exact is not None:
                return self._keep(name, exact)
        for each in (name, *more):
            found = self._alike(each)
            if len(found) == 1 and self._taken.get(found[0], name) == name:
                self.moved[name] = found[0]
                return self._keep(name, found[0])
            if found:
                self.doubtful[name] = found
                return None
        return None

    def _keep(self, name: str, path: Path) -> Path:
        self._taken[path] = name
        return path

    def _exact(self, name: str) -> Path | None:
        for folder in self.folders:
            if name and (path := as_spelled(folder / name)).is_file():
                return path
        return None

    def _alike(self, name: str) -> list[Path]:
        """Return the images that share the most trailing path parts with a name."""
        if self._by_name is None:
            self._index()
        assert self._by_name is not None
        parts = [_folded(p) for p in name_parts(name)]
        if not parts:
            return []
        found = self._by_name.get(parts[-1]) or self._by_stem.get(_stem(parts[-1]), [])
        shared = [_shared(parts[:-1], [_folded(p) for p in f.parts[:-1]]) for f in found]
        return [f for f, n in zip(found, shared) if n == max(shared)]

    def _index(self) -> None:
        self._by_name = {}
        seen = set()
        for folder in self.folders:
            for path in files_below(folder):
                real = os.path.abspath(path)
                if path.suffix.lower() in IMAGE_SUFFIXES and real not in seen:
                    seen.add(real)
                    self._by_name.setdefault(_folded(path.name), []).append(path)
                    self._by_stem.setdefault(_stem(_folded(path.name)), []).append(path)


def _folded(name: str) -> str:
    """Return what equal names of files have in common on any operating system."""
    return composed(name).lower()


def _stem(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return stem if ending in IMAGE_SUFFIXES else name


def _shared(left: Sequence[str], right: Sequence[str]) -> int:
    count = 0
    while count < min(len(left), len(right)) and left[-1 - count] == right[-1 - count]:
        count += 1
    return count
