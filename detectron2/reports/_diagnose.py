"""What went well and wrong in a set of predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.data import Metadata
from detectron2.structures import Instances


def diagnose(
    records: Sequence[Mapping[str, Any]], predictions: Mapping[Any, Instances], metadata: Metadata
) -> dict[str, Any]:
    """Figures by class, notes on suspicious results, and the images with the worst errors."""
    return {"classes": [], "notes": [], "worst": []}
