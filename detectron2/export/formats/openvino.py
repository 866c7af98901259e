"""OpenVINO's intermediate representation: an ``.xml`` with the graph, and a ``.bin`` with the weights."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detectron2.modeling.tensor_inference import Tensors

from .base import KEY, Format, Graph, Metadata, Runner, dump, optional
from .onnx import write_onnx
from .quantize import quantize_openvino

__all__ = ["OpenVino"]


class OpenVino(Format):
    """See the module."""

    name = "openvino"
    suffix = ".xml"
    precisions = ("fp32", "fp16", "int8")
    read_by = "OpenVINO"

    def halves_backbone(self, precision: str) -> bool:
        return False  # OpenVINO keeps weights in float16 itself, and converts them as the processor likes it

    def write(self, graph: Graph, path: Path, metadata: Metadata, precision: str) -> None:
        openvino = optional("openvino", "exporting to OpenVINO")
        with tempfile.TemporaryDirectory() as folder:
            onnx = Path(folder) / "model.onnx"
            write_onnx(graph, onnx, {})
            model = openvino.convert_model(str(onnx))
            if precision == "int8":
                model = quantize_openvino(model, graph.calibration)
            model.set_rt_info(dump(metadata), KEY)
            openvino.save_model(model, str(path), compress_to_fp16=precision == "fp16")

    def read(self, path: Path) -> tuple[Runner, Metadata]:
        openvino = optional("openvino", "running an OpenVINO model")
        model = openvino.Core().read_model(str(path))
        metadata = _metadata(model)
        # By itself OpenVINO computes in bfloat16 where the processor can, and then does not agree.
        exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(model, "CPU", exact)
        # A tensor may have the names of several steps.
        names = [next(n for n in metadata["outputs"] if n in port.get_names()) for port in compiled.outputs]

        def run(image: Tensor) -> Tensors:
            found = compiled.create_infer_request().infer([image.numpy()])
            return {name: torch.from_numpy(found[i].copy()) for i, name in enumerate(names)}

        return run, metadata


def _metadata(model: Any) -> Metadata:
    if not model.has_rt_info(KEY):
        return {}
    return json.loads(model.get_rt_info(KEY).astype(str))
