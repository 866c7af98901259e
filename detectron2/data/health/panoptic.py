"""Check the segments of panoptic labels against the pixels of their label map."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from detectron2.utils.image_io import READ_ERRORS

from .report import Finding

__all__ = ["segment_defects"]


def segment_defects(record: Mapping[str, Any], index: int) -> Iterator[Finding]:
    """Find segments without a pixel, pixels without a segment, and label maps that cannot be read.

    Args:
        record: with ``pan_seg_file_name`` and ``segments_info``.
        index: position of the record, for the findings.
    """
    file = str(record["pan_seg_file_name"])
    try:
        with Image.open(file) as image:
            rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    except (*READ_ERRORS, ValueError) as error:
        yield Finding("image-broken", file, f"{type(error).__name__}: {error}"[:200], index=index)
        return
    size = record.get("height"), record.get("width")
    if None not in size and rgb.shape[:2] != size:
        yield Finding(
            "image-size", file, f"label map {rgb.shape[:2]}, image {size} (height, width)", index=index
        )
        return
    found = dict(zip(*(v.tolist() for v in np.unique(rgb @ [1, 256, 256**2], return_counts=True))))
    segments: Sequence[Any] = record.get("segments_info") or ()
    seen: set[Any] = set()
    for position, segment in enumerate(segments):
        name = segment.get("id")
        name = name if isinstance(name, (int, str)) else str(name)
        if name in seen:
            yield Finding("segment-odd", file, "its id is used twice", name, index, position)
        elif name not in found:
            yield Finding("segment-odd", file, "it has no pixel in the label map", name, index, position)
        elif segment.get("area") not in (None, found[name]):
            value = f"area {segment['area']}, but {found[name]} pixels"
            yield Finding("value-mended", file, f"segment {name}: {value}", name, index, position)
        seen.add(name)
    rest = sorted(set(found) - seen - {0})
    if rest:
        yield Finding("segment-odd", file, f"ids {rest[:5]} of the label map are no segments", index=index)
