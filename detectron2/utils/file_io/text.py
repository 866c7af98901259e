"""Read text, JSON, XML and YAML files from any editor on any system."""

from __future__ import annotations

import codecs
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from typing import Any

import yaml

from . import PathManager

__all__ = ["csv_encoding", "decode_text", "read_json", "read_text", "read_xml", "read_yaml"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(data: bytes) -> str:
    """Decode text by its byte order mark, as UTF-8 or UTF-16, or in the East Asian code page that fits.

    Without a mark, text is read as UTF-16 if it has zero bytes, as that of line breaks, spaces and other ASCII has.

    Korean syllables in cp949 and Chinese characters in GBK share their bytes; text that consists of common syllables is
    read as Korean. The fallback is Latin-1, which never fails.

    Raises:
        ValueError: the text does not match its byte order mark, or has zero bytes.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data.decode(codec)
    if b"\0" in data:
        return _utf16(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _code_page(data)


def _utf16(data: bytes) -> str:
    """Decode UTF-16 without a mark, which has zero bytes where the text is ASCII, unlike text in other encodings."""

    def plainness(codec: str) -> tuple[int, int]:
        text = data.decode(codec, errors="replace")
        # White space and quotes are rare in the wrong byte order, but 一 turns into N.
        return sum(map(text.count, ' "\r\n')), len(text.encode("ascii", errors="ignore"))

    text = data.decode(max("utf-16-le", "utf-16-be", key=plainness))
    if "\0" in text:
        raise ValueError("it has zero bytes, unlike text")
    return text


# Syllables and single letters (ㄱ자 강판), and the Greek letters of units and formulas, which all differ from Chinese.
_KOREAN = re.compile("[가-힣ㄱ-ㆎΑ-Ωα-ω\u2126]")


def _code_page(data: bytes) -> str:
    found = {}
    for codec in ("cp949", "shift_jis", "gbk"):
        try:
            found[codec] = data.decode(codec)
        except UnicodeDecodeError:
            continue
    korean, japanese = found.get("cp949", ""), found.get("shift_jis", "")
    foreign = [c for c in japanese if not c.isascii()]
    kana = sum("\u3040" <= c <= "\u30ff" for c in foreign)
    if kana * 3 > len(foreign):  # rare in other languages decoded as Japanese
        return japanese
    if korean and all(not c.isalpha() or c.isascii() or _KOREAN.match(c) for c in korean):
        return korean
    return found.get("gbk") or data.decode("latin-1")


def csv_encoding(names: Iterable[str]) -> str:
    """Choose the encoding of a CSV file: UTF-8, with a byte order mark if a name is not ASCII.

    Spreadsheets read a file without a mark in the code page of the system, such as cp949.

    Args:
        names: texts that the file will contain.
    """
    return "utf-8" if all(name.isascii() for name in names) else "utf-8-sig"


def _bytes(path: str | os.PathLike[str]) -> bytes:
    with PathManager.open(os.fspath(path), "rb") as f:
        return bytes(f.read())


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file; see :func:`decode_text`.

    Raises:
        ValueError: it is not text; the message names the file.
    """
    try:
        return decode_text(_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path} is not a text file: {error}") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is not JSON, truncated, or nested too deeply; the message names the file.
    """
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is not a usable JSON file: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a complete JSON file: {error}") from error


_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")


def read_xml(path: str | os.PathLike[str]) -> ElementTree.Element:
    """Read an XML file in its declared encoding, or in that of :func:`decode_text`.

    Raises:
        ValueError: it is not XML, or truncated; the message names the file.
    """
    data = _bytes(path)
    if not data.strip():
        raise ValueError(f"{path} is empty")
    try:
        declared = _DECLARED.match(data)
        text = _decode_as(data, declared.group(1).decode()) if declared else decode_text(data)
        # The parser would read the declaration again, and supports few encodings.
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} is not a complete XML file: {error}") from error


def _decode_as(data: bytes, codec: str) -> str:
    """Decode as declared, or automatically, since editors often change the encoding but not the declaration."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return decode_text(data)
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return decode_text(data)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a YAML file of plain values.

    Raises:
        ValueError: it is not YAML; the message names the file.
    """
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, TypeError, KeyError, AttributeError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path} is not a valid YAML file: {problem}") from error
