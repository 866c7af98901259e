"""AOTInductor packages: machine code for the processor that they were made on."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from detectron2.modeling.tensor_inference import Tensors
from detectron2.utils.errors import BadState

from .base import KEY, Format, Graph, Metadata, Runner, dump

__all__ = ["Aoti"]


class Aoti(Format):
    """See the module."""

    name = "aoti"
    suffix = ".aoti.pt2"
    precisions = ("fp32", "fp16", "bf16")
    read_by = "torch._inductor.aoti_load_package, or C++"

    def write(self, graph: Graph, path: Path, metadata: Metadata, precision: str) -> None:
        if shutil.which("g++") is None and shutil.which("clang++") is None:
            raise BadState("AOTInductor compiles C++ and needs a compiler: install g++ or clang++")
        configs = {"aot_inductor.metadata": {KEY: dump(metadata)}}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(
                _fresh(graph), package_path=str(path), inductor_configs=configs
            )

    def read(self, path: Path) -> tuple[Runner, Metadata]:
        import torchvision  # noqa: F401  (registers its operators)

        package: Any = torch._inductor.aoti_load_package(str(path))

        def run(image: Tensor) -> Tensors:
            with torch.no_grad():
                return package(image)

        return run, json.loads(package.get_metadata().get(KEY, "{}"))


def _fresh(graph: Graph) -> ExportedProgram:
    """Return the program by way of a file: other exporters leave unknown sizes behind, which the compiler trips over."""
    file = io.BytesIO()
    torch.export.save(graph.program, file)
    file.seek(0)
    return torch.export.load(file)
