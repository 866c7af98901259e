"""How many training images of LVIS v1 show each category: ``LVIS_CATEGORY_IMAGE_COUNT``, a list of dicts."""

from .builtin_meta import category_rows

__all__ = ["LVIS_CATEGORY_IMAGE_COUNT"]

# Filled by __getattr__.
LVIS_CATEGORY_IMAGE_COUNT: list[dict[str, int]]


def __getattr__(name: str) -> list[dict[str, int]]:
    if name != "LVIS_CATEGORY_IMAGE_COUNT":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    counts = [{"id": row["id"], "image_count": row["image_count"]} for row in category_rows("lvis_v1")]
    return globals().setdefault(name, counts)
