"""Reading text, JSON, XML and YAML files that any editor on any system may have written."""

from __future__ import annotations

import codecs
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import yaml

from . import PathManager

__all__ = ["decode_text", "read_json", "read_text", "read_xml", "read_yaml"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(data: bytes) -> str:
    """Decode text by its byte order mark, as UTF-8, or in the East Asian code page that makes sense of it.

    Korean syllables in cp949 and Chinese characters in GBK share their bytes; a text that is made of common syllables
    alone is taken for Korean. What fits nothing else is Latin-1, which never fails.

    Raises:
        ValueError: a byte order mark promises what the rest does not hold, or there are zero bytes.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return data.decode(codec)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _code_page(data)
    if "\0" not in text:
        return text
    # UTF-16 without a mark: every second byte of plain text is zero.
    text = data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be")
    if "\0" in text:
        raise ValueError("it has zero bytes, as no text has")
    return text


def _code_page(data: bytes) -> str:
    found = {}
    for codec in ("cp949", "shift_jis", "gbk"):
        try:
            found[codec] = data.decode(codec)
        except UnicodeDecodeError:
            continue
    korean, japanese = found.get("cp949", ""), found.get("shift_jis", "")
    foreign = [c for c in japanese if not c.isascii()]
    if sum("\u3040" <= c <= "\u30ff" for c in foreign) * 3 > len(
        foreign
    ):  # kana, which the others hardly yield
        return japanese
    if korean and all(not c.isalpha() or c.isascii() or "가" <= c <= "힣" for c in korean):
        return korean
    return found.get("gbk") or data.decode("latin-1")


def _bytes(path: str | os.PathLike[str]) -> bytes:
    with PathManager.open(os.fspath(path), "rb") as f:
        return bytes(f.read())


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file; see :func:`decode_text`.

    Raises:
        ValueError: it is no text; names the file.
    """
    try:
        return decode_text(_bytes(path))
    except ValueError as error:
        raise ValueError(f"{path} is no text file: {error}") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is not JSON, is cut off, or is nested too deeply; names the file.
    """
    text = read_text(path)
    if not text.strip():
        raise ValueError(f"{path} is empty")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is no usable JSON file: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is no whole JSON file: {error}") from error


_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")


def read_xml(path: str | os.PathLike[str]) -> ElementTree.Element:
    """Read an XML file in the encoding that it declares, or that its bytes show.

    Raises:
        ValueError: it is not XML or cut off; names the file.
    """
    data = _bytes(path)
    if not data.strip():
        raise ValueError(f"{path} is empty")
    try:
        declared = _DECLARED.match(data)
        text = _decode_as(data, declared.group(1).decode()) if declared else decode_text(data)
        # The parser would look at the declaration again, and knows few encodings.
        return ElementTree.fromstring(re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise ValueError(f"{path} is no whole XML file: {error}") from error


def _decode_as(data: bytes, codec: str) -> str:
    """Decode as declared; editors that save anew in another encoding often leave the declaration."""
    if any(data.startswith(mark) for mark, _ in _MARKS):
        return decode_text(data)
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return decode_text(data)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Read a YAML file of plain values.

    Raises:
        ValueError: it is not YAML; names the file.
    """
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, TypeError, KeyError, AttributeError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path} is no valid YAML file: {problem}") from error
