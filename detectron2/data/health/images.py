"""Check image files in parallel."""

import hashlib
import itertools
import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.utils.file_io import PathManager
from detectron2.utils.image_io import READ_ERRORS, is_turned

from .report import Finding, HealthReport

__all__ = ["ImageCheck", "add_image_findings", "check_images", "content_groups", "near_duplicate_pairs"]

ImageCheck = Literal["none", "exists", "header", "decode"]


def threads_for(count: int, threads: int | None) -> int:
    """Return the number of threads to use for ``count`` files."""
    return max(1, min(threads or min(16, 2 * (os.cpu_count() or 1)), count))


def check_images(
    records: Sequence[Mapping[str, Any]], how: ImageCheck = "header", threads: int | None = None
) -> Iterator[Finding]:
    """Check the image files of records.

    Args:
        records: with ``file_name``, and ``height`` and ``width`` if they are known.
        how: ``none``; ``exists``; ``header`` checks the size and that the file is not truncated; ``decode`` reads all
            pixels.
        threads: number of files read in parallel.
    """
    if how == "none" or not records:
        return
    with ThreadPoolExecutor(threads_for(len(records), threads)) as pool:
        found = pool.map(_check_file, range(len(records)), records, itertools.repeat(how))
        yield from (f for f in found if f is not None)


def _check_file(index: int, record: Mapping[str, Any], how: ImageCheck) -> Finding | None:
    file, height, width = str(record.get("file_name", "")), record.get("height"), record.get("width")
    try:
        path = PathManager.get_local_path(file)
    except Exception as error:
        return Finding("image-missing", file, f"{type(error).__name__}: {error}", index=index)
    if not os.path.isfile(path):
        return Finding("image-missing", file, index=index)
    if how == "exists":
        return None
    try:
        (real_width, real_height), turned = _open(path, how == "decode")
    except (*READ_ERRORS, ValueError) as error:
        return Finding("image-broken", file, f"{type(error).__name__}: {error}"[:200], index=index)
    if height is None or width is None:
        return None
    shown = (real_width, real_height) if not turned else (real_height, real_width)
    if (width, height) == shown:
        return None
    if turned and (width, height) == (real_width, real_height):
        return Finding(
            "image-exif", file, f"given {width}x{height}, shown as {shown[0]}x{shown[1]}", index=index
        )
    return Finding("image-size", file, f"given {width}x{height}, file has {shown[0]}x{shown[1]}", index=index)


def _open(path: str, decode: bool) -> tuple[tuple[int, int], bool]:
    """Return the size as stored, and whether EXIF rotates the image by 90 degrees; raise if the file is broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            turned = is_turned(image)
            size = image.size
            if decode:
                image.load()
            else:
                _check_end(path, image.format)
    return size, turned


def _check_end(path: str, format: str | None) -> None:
    """Raise if a JPEG or PNG lacks its end mark, as after an interrupted copy or download."""
    if format not in ("JPEG", "PNG"):
        return
    mark = b"\xff\xd9" if format == "JPEG" else b"IEND"
    with open(path, "rb") as f:
        f.seek(max(0, os.path.getsize(path) - 4096))
        tail = f.read()
    if mark not in tail:
        # Some writers append data after the end mark; decoding decides then.
        with Image.open(path) as image:
            image.load()


def add_image_findings(
    report: HealthReport, records: Sequence[Mapping[str, Any]], images: ImageCheck, threads: int | None
) -> None:
    """Check the image files of records; if none exists, report one error instead of many skips."""
    with_file = [r for r in records if "file_name" in r]
    found = list(check_images(records, images, threads)) if with_file else []
    if found and all(f.kind == "image-missing" for f in found) and len(found) == len(records):
        report.add(
            [
                Finding(
                    "all-images-missing", report.source, f"{len(found)} files, for instance {found[0].file}"
                )
            ]
        )
    else:
        report.add(found)


# ------------------------------------------------------------------ copies of one image
def _digest(file: str) -> str | None:
    try:
        with PathManager.open(file, "rb") as f:
            return hashlib.blake2b(f.read(), digest_size=16).hexdigest()
    except OSError:
        return None


def content_groups(files: Iterable[str], threads: int | None = None) -> list[list[str]]:
    """Group files with the same bytes, each group with at least two files.

    Args:
        files: paths; unreadable ones are ignored.
        threads: number of files read in parallel.
    """
    files = list(dict.fromkeys(files))
    by_digest: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor(threads_for(len(files), threads)) as pool:
        for file, digest in zip(files, pool.map(_digest, files)):
            if digest is not None:
                by_digest[digest].append(file)
    return [group for group in by_digest.values() if len(group) > 1]


def _fingerprint(file: str) -> int | None:
    """Return 64 bits that change little when an image is resized or recompressed.

    They are the signs of the horizontal gradient of the image at 9 x 8 pixels ("difference hash").
    """
    try:
        with PathManager.open(file, "rb") as f, Image.open(f) as image:
            image.draft("L", (64, 64))
            small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    except (*READ_ERRORS, ValueError):
        return None
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_duplicate_pairs(
    left: Sequence[str], right: Sequence[str], max_bits: int = 3, threads: int | None = None
) -> list[tuple[str, str, int]]:
    """Find pairs of images that look alike, one from each list.

    Args:
        left: paths.
        right: paths; if it is the same list, each pair is returned once.
        max_bits: how many of the 64 bits of their fingerprints may differ.
        threads: number of files read in parallel.

    Returns:
        ``(left file, right file, differing bits)``.
    """
    same = left is right
    files = list(dict.fromkeys([*left, *right]))
    with ThreadPoolExecutor(threads_for(len(files), threads)) as pool:
        marks = {f: m for f, m in zip(files, pool.map(_fingerprint, files)) if m is not None}
    a = [f for f in dict.fromkeys(left) if f in marks]
    b = [f for f in dict.fromkeys(right) if f in marks]
    values = np.array([marks[f] for f in b], dtype=np.uint64)
    pairs = []
    for i, file in enumerate(a):
        differ = (
            np.bitwise_count(values ^ np.uint64(marks[file]))
            if hasattr(np, "bitwise_count")
            else _bits(values, marks[file])
        )
        for j in np.flatnonzero(differ <= max_bits):
            if (same and j <= i) or b[j] == file:
                continue
            pairs.append((file, b[j], int(differ[j])))
    return pairs


def _bits(values: npt.NDArray[np.uint64], other: int) -> npt.NDArray[np.uint64]:
    different = values ^ np.uint64(other)
    return np.unpackbits(different[:, None].view(np.uint8), axis=1).sum(1)
