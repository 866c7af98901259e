"""ONNX files, written by PyTorch's exporter and run by ONNX Runtime."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detectron2.modeling.tensor_inference import Tensors
from detectron2.utils.errors import BadValue

from .base import KEY, Format, Graph, Metadata, Runner, dump, optional
from .quantize import quantize_onnx

__all__ = ["Onnx", "write_onnx"]


class Onnx(Format):
    """See the module."""

    name = "onnx"
    suffix = ".onnx"
    precisions = ("fp32", "fp16", "int8")
    read_by = "ONNX Runtime"

    def write(self, graph: Graph, path: Path, metadata: Metadata, precision: str) -> None:
        write_onnx(graph, path, metadata)
        if precision == "int8":
            quantize_onnx(path, graph.calibration)

    def read(self, path: Path) -> tuple[Runner, Metadata]:
        runtime = optional("onnxruntime", "running an ONNX file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = runtime.InferenceSession(str(path), options, providers=runtime.get_available_providers())
        text = session.get_modelmeta().custom_metadata_map.get(KEY, "")
        names = [output.name for output in session.get_outputs()]

        def run(image: Tensor) -> Tensors:
            found = session.run(names, {"image": image.numpy()})
            return {name: torch.from_numpy(value) for name, value in zip(names, found)}

        return run, json.loads(text or "{}")


def write_onnx(graph: Graph, path: Path, metadata: Metadata) -> None:
    """Write a graph as ONNX; weights of more than 2 GB go to a second file.

    Args:
        graph: the model.
        path: of the file.
        metadata: to be kept within it.
    """
    if "onnx" not in graph.made:
        graph.made["onnx"] = _convert(graph)
    written = graph.made["onnx"]
    written.model.metadata_props[KEY] = dump(metadata)
    written.save(str(path))


def _convert(graph: Graph) -> Any:
    optional("onnx", "exporting to ONNX")
    optional("onnxscript", "exporting to ONNX")
    _refuse_own_operators(graph)
    with _quiet():
        written: Any = torch.onnx.export(
            graph.program, (), dynamo=True, optimize=False, verbose=False, output_names=graph.names
        )
    _in_single_precision(written.model)
    _name_sizes(written.model, graph)
    return written


def _refuse_own_operators(graph: Graph) -> None:
    """Refuse operators of this package, such as those on rotated boxes: no runtime of ONNX has them."""
    targets = (node.target for node in graph.program.graph.nodes)
    operators = (target for target in targets if isinstance(target, torch._ops.OpOverload))
    own = sorted({str(o) for o in operators if o.namespace == "detectron2"})
    if own:
        raise BadValue(
            f"{type(graph.model).__name__} uses {', '.join(own)}, which ONNX has not; export it as pt2"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what the exporter tells its developers."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def _in_single_precision(model: Any) -> None:
    """Turn float64 into float32: ONNX suppresses boxes in float32 only, and few accelerators know anything else.

    The models use float64 where boxes of several classes are moved apart for one suppression. They lie on a square
    grid of cells, which keeps coordinates small enough for float32.
    """
    ir = optional("onnx_ir", "exporting to ONNX")
    double, single = ir.DataType.DOUBLE, ir.DataType.FLOAT
    for node in model.graph.all_nodes():
        kind = node.outputs[0].dtype or node.inputs[-1].dtype if node.op_type == "CastLike" else None
        if kind is not None:  # TensorRT and others lack CastLike
            node.attributes["to"] = ir.AttrInt64("to", kind)
            node.resize_inputs(1)
            node.op_type = "Cast"
        to = node.attributes.get("to")
        if node.op_type == "Cast" and to.as_int() == double:
            node.attributes["to"] = ir.AttrInt64("to", single)
        value = node.attributes.get("value")
        if value is not None and value.type == ir.AttributeType.TENSOR and value.value.dtype == double:
            node.attributes["value"] = ir.AttrTensor("value", _single(ir, value.value))
        for output in node.outputs:
            if output.dtype == double:
                output.dtype = single
    for value in model.graph.initializers.values():
        if value.dtype == double:
            value.const_value, value.dtype = _single(ir, value.const_value), single


def _single(ir: Any, tensor: Any) -> Any:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _name_sizes(model: Any, graph: Graph) -> None:
    """Call the sizes of the picture height and width, instead of the symbols of the tracer."""
    ir = optional("onnx_ir", "exporting to ONNX")
    (image,) = model.graph.inputs
    if graph.sides is None:
        return
    lead = [int(n) for n in graph.image.shape[:-2]]
    image.shape = ir.Shape([*lead, "height", "width"])
    for output in model.graph.outputs:
        if output.name in ("sem_seg", "panoptic_seg", "pred_masks") and output.shape is not None:
            output.shape = ir.Shape([*list(output.shape)[:-2], "height", "width"])
