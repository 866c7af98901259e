"""Checkpoints of DensePose models."""

from typing import Any

from torch import nn

from detectron2.checkpoint import DetectionCheckpointer

__all__ = ["DensePoseCheckpointer"]

# Published HRNets of every width have so many entries, and so many of them in stages 2 to 4.
_HRNET_ENTRIES = 1956
_HRNET_STAGE_ENTRIES = 1716


class DensePoseCheckpointer(DetectionCheckpointer):
    """A ``DetectionCheckpointer`` that also takes the published weights of a bare HRNet, for the backbone.

    Weights in the names of Caffe2 (``AnnIndex_lowres_w``) are read as by ``DetectionCheckpointer``.

    Args:
        model: the model.
        save_dir: folder for checkpoints.
        save_to_disk: whether this process writes; by default the main process does.
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
