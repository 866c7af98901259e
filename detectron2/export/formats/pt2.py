"""``torch.export`` programs: files that any PyTorch runs, with torchvision's operators."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from detectron2.modeling.tensor_inference import Tensors

from .base import KEY, Format, Graph, Metadata, Runner, dump

__all__ = ["Pt2"]


class Pt2(Format):
    """See the module."""

    name = "pt2"
    suffix = ".pt2"
    precisions = ("fp32", "fp16", "bf16")
    read_by = "torch.export.load"

    def write(self, graph: Graph, path: Path, metadata: Metadata, precision: str) -> None:
        torch.export.save(graph.program, str(path), extra_files={KEY: dump(metadata)})

    def read(self, path: Path) -> tuple[Runner, Metadata]:
        import torchvision  # noqa: F401  (registers its operators)

        extra = {KEY: ""}
        logger = logging.getLogger("torch._export.serde.serialize")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it tells of sizes that the graph has no use for
        try:
            module = torch.export.load(str(path), extra_files=extra).module()
        finally:
            logger.setLevel(level)

        def run(image: torch.Tensor) -> Tensors:
            with torch.no_grad():
                return module(image)

        return run, json.loads(extra[KEY])
