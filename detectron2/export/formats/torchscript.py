"""TorchScript, for programs that still load it. PyTorch has deprecated it; ``pt2`` is its successor."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.tensor_inference import Tensors
from detectron2.structures import Instances
from detectron2.utils.errors import BadValue

from ..torchscript_patch import patch_builtin_len
from .base import KEY, Format, Graph, Metadata, Runner, dump

__all__ = ["TorchScript"]

_FIELDS = {
    "pred_boxes": "boxes", "proposal_boxes": "boxes", "objectness_logits": "logits", "scores": "scores",
    "pred_classes": "classes", "pred_masks": "masks", "pred_keypoints": "keypoints",
}  # fmt: skip


class TorchScript(Format):
    """See the module. Its files give the real rows only, so that ``valid`` is always true."""

    name = "torchscript"
    suffix = ".ts"
    precisions = ("fp32", "fp16", "bf16")
    batched = False
    read_by = "torch.jit.load"

    def write(self, graph: Graph, path: Path, metadata: Metadata, precision: str) -> None:
        with torch.no_grad(), patch_builtin_len(), warnings.catch_warnings():
            # Of deprecation, and of checks of arguments, which are no part of a trace.
            warnings.simplefilter("ignore")
            try:
                traced = torch.jit.trace(_OneImage(graph.model), graph.image, check_trace=False, strict=False)
            except NotImplementedError as error:
                raise BadValue(f"TorchScript cannot hold {type(graph.model).__name__}: {error}") from error
            torch.jit.save(traced, str(path), _extra_files={KEY: dump(metadata)})

    def read(self, path: Path) -> tuple[Runner, Metadata]:
        import torchvision  # noqa: F401  (registers its operators)

        extra = {KEY: ""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)

        def run(image: Tensor) -> Tensors:
            with torch.no_grad():
                return dict(module(image))

        return run, json.loads(extra[KEY] or "{}")


class _OneImage(nn.Module):
    """A model as a function from an image to a dict of tensors, by the model's own inference."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, image: Tensor) -> Tensors:
        items = [{"image": image}]
        if not hasattr(self.model, "inference"):
            return _tensors(self.model(items)[0])
        found = self.model.inference(items, do_postprocess=False)
        if isinstance(found, tuple):  # a panoptic model's instances and scores of pixels
            things, sem_seg = found
            return _of_instances(things[0]) | {"sem_seg": sem_seg[0][:, : image.shape[1], : image.shape[2]]}
        return _of_instances(found[0])


def _tensors(output: dict[str, Any]) -> Tensors:
    found: Tensors = {}
    for value in output.values():
        found |= _of_instances(value) if isinstance(value, Instances) else {"sem_seg": value}
    return found


def _of_instances(found: Instances) -> Tensors:
    out: Tensors = {}
    for name, value in found.get_fields().items():
        tensor = value if isinstance(value, Tensor) else value.tensor
        out[_FIELDS.get(name, name)] = tensor[:, 0] if name == "pred_masks" else tensor
    return out | {"valid": torch.ones_like(out["boxes"][:, 0], dtype=torch.bool)}
