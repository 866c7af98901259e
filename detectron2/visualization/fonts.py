"""Fonts for labels in any script: Pillow's own for Latin letters, one of the system's for what it lacks."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import ImageFont

__all__ = ["open_font", "split_by_font"]

Font = ImageFont.FreeTypeFont
BUILT_IN = ""  # stands for Pillow's own font among the paths
FONT_VARIABLE = "DETECTRON2_FONT"
# Fonts that cover much, by the names that they have on Linux, macOS and Windows.
_PREFERRED = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKkr-Regular.otf",
    "NotoSans-Regular.ttf",
    "NanumGothic.ttf",
    "AppleSDGothicNeo.ttc",
    "malgun.ttf",
    "msyh.ttc",
    "YuGothR.ttc",
    "Arial Unicode.ttf",
    "segoeui.ttf",
    "DejaVuSans.ttf",
)
# Python packages that bring fonts; the first is what the extra "fonts" installs.
_PACKAGES = (
    "noto_cjk_sans_jp_regular",
    "koreanize_matplotlib",
    "mplfonts",
    "matplotlib_fontja",
    "matplotlib",
)
_SUFFIXES = (".ttf", ".otf", ".ttc")
_MOST_FONTS = (
    600  # a search ends here, so that a machine with thousands of fonts is not read whole for one label
)
_PROBE_SIZE = 24
_NO_CHARACTER = "\U0010ffff"

_found: dict[str, str | None] = {}  # character -> path; None where no font has it
_warned: set[str] = set()


@functools.lru_cache(maxsize=64)
def open_font(path: str, size: int) -> Font:
    """Open a font.

    Args:
        path: of the file; "" for Pillow's own.
        size: height in pixels.
    """
    if path == BUILT_IN:
        font = ImageFont.load_default(size)
        if not isinstance(font, ImageFont.FreeTypeFont):
            raise ImportError("writing on pictures needs a Pillow with FreeType, as its wheels on PyPI have")
        return font
    return ImageFont.truetype(path, size)


def split_by_font(text: str) -> list[tuple[str, str]]:
    """Split a line into pieces that can be written in one font each.

    A character that no font has becomes "?", and a warning, once for each script, says what to install.

    Args:
        text: one line.

    Returns:
        Pairs of the font's path ("" for Pillow's own) and the piece.
    """
    _find({c for c in text if c not in _found})
    pieces: list[tuple[str, str]] = []
    for character in text:
        path = _found[character]
        shown = "?" if path is None else character
        path = path or BUILT_IN
        if pieces and (pieces[-1][0] == path or _joins(character)):
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + shown)
        else:
            pieces.append((path, shown))
    return pieces


def _joins(character: str) -> bool:
    """Tell whether a character has no form of its own: a space, a joiner, an accent that stands on the letter before."""
    return unicodedata.category(character)[0] in "ZCM"


def _find(characters: set[str]) -> None:
    """Look for fonts for characters; fonts that are in use already come first."""
    missing = {c for c in characters if not _joins(c)}
    _found.update({c: BUILT_IN for c in characters - missing})
    in_use = list(dict.fromkeys(path for path in _found.values() if path))
    for count, path in enumerate(_unique([BUILT_IN, *in_use], _candidates())):
        if not missing or count > _MOST_FONTS:
            break
        covered = _covered(path, missing)
        _found.update(dict.fromkeys(covered, path))
        missing -= covered
    _found.update(dict.fromkeys(missing))
    _warn(missing)


def _unique(*parts: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for part in parts:
        for path in part:
            if path not in seen:
                seen.add(path)
                yield path


def _covered(path: str, characters: Iterable[str]) -> set[str]:
    """Return the characters that a font has: those that it does not draw as the sign for a missing one."""
    try:
        font = open_font(path, _PROBE_SIZE) if path == BUILT_IN else _opened_for_a_moment(path)
        missing = _drawn(font, _NO_CHARACTER)
        return {c for c in characters if _drawn(font, c) != missing}
    except OSError:
        return set()  # not a font that FreeType reads


def _opened_for_a_moment(path: str) -> Font:
    """Open a font without keeping it, as a search may look at more files than a process may hold open."""
    return ImageFont.truetype(path, _PROBE_SIZE, layout_engine=ImageFont.Layout.BASIC)


def _drawn(font: Font, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character, mode="L")
    return mask.size, bytes(mask)


def _candidates() -> Iterator[str]:
    """Yield the files of all fonts, those that are likely to help first."""
    chosen = os.environ.get(FONT_VARIABLE)
    if chosen:
        yield chosen
    folders = [*_package_folders(), *_system_folders()]
    files = [f for folder in folders for f in _files_of(folder)]
    rank = {name: k for k, name in enumerate(_PREFERRED)}
    files.sort(key=lambda f: (rank.get(f.name, len(rank)), not _is_plain(f.name)))
    yield from map(str, files)


@functools.cache
def _files_of(folder: Path) -> list[Path]:
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted(f for f in files if f.suffix.lower() in _SUFFIXES)


def _is_plain(name: str) -> bool:
    return not any(
        word in name.lower() for word in ("bold", "italic", "oblique", "light", "thin", "black", "mono")
    )


def _package_folders() -> list[Path]:
    specs = (importlib.util.find_spec(name) for name in _PACKAGES)
    return [Path(place) for s in specs if s is not None for place in s.submodule_search_locations or ()]


def _system_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        return [
            Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"),
            Path(os.environ.get("LOCALAPPDATA", home), "Microsoft", "Windows", "Fonts"),
        ]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")
    own = os.environ.get("XDG_DATA_HOME", str(home / ".local/share"))
    return [home / ".fonts", *(Path(place, "fonts") for place in (own, *shared) if place)]


def _warn(missing: set[str]) -> None:
    new = {_script_of(c): c for c in sorted(missing)}
    if not new or set(new) <= _warned:
        return
    _warned.update(new)
    logging.getLogger("detectron2.visualization").warning(
        "No font here has %s, so such letters are drawn as '?'. Install a font that has them (pip install "
        "'detectron2[fonts]' brings one for Chinese, Japanese and Korean), or name its file in %s.",
        ", ".join(f"{character!r} ({script})" for script, character in new.items()),
        FONT_VARIABLE,
    )


def _script_of(character: str) -> str:
    """Return the first word of a character's name, which is that of its script: HANGUL, CJK, DEVANAGARI."""
    return unicodedata.name(character, f"U+{ord(character):04X}").split()[0]
