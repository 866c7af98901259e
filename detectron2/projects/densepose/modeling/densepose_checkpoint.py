"""Checkpoints of DensePose models."""

from typing import Any

from torch import nn

from detectron2.checkpoint import DetectionCheckpointer

__all__ = ["DensePoseCheckpointer"]

# Numbers of entries of published HRNets (of any width), in total and in stages 2 to 4.
_HRNET_ENTRIES = 1956
_HRNET_STAGE_ENTRIES = 1716


class DensePoseCheckpointer(DetectionCheckpointer):
    """A ``DetectionCheckpointer`` that also loads published weights of a bare HRNet into the backbone.

    It reads weights with Caffe2 names (``AnnIndex_lowres_w``) like ``DetectionCheckpointer``.

    Args:
        model: the model.
        save_dir: folder for checkpoints.
        save_to_disk: whether this process writes; None = only the main process.
        checkpointables: other objects to save and load.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: object,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = super()._load_file(filename)
        weights = content["model"]
        in_stages = sum(name.startswith("stage") for name in weights)
        if (len(weights), in_stages) != (_HRNET_ENTRIES, _HRNET_STAGE_ENTRIES):
            return content
        return {"model": {f"backbone.bottom_up.{name}": value for name, value in weights.items()}}
