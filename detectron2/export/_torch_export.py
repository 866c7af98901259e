"""Whole models as one ``torch.export`` graph, from the image to the detections."""

from __future__ import annotations

import operator
import os
import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from detectron2.modeling.tensor_inference import TensorInference
from detectron2.utils.file_io.atomic import atomic_write

__all__ = ["export_program", "load_program", "save_program"]


def export_program(
    model: nn.Module,
    image: Tensor,
    *,
    min_size: int = 129,
    max_size: int = 4096,
    dynamic: bool = True,
    strict: bool = True,
) -> ExportedProgram:
    """Export a whole model with ``torch.export``.

    The program's ``module()`` takes an image [C, H, W] and returns the dict of
    :class:`detectron2.modeling.tensor_inference.TensorInference`: counts are fixed, and ``valid`` says which rows are
    real. ``outputs_to_instances`` of the same module makes ``Instances`` of it.

    Args:
        model: of a kind that ``TensorInference`` takes: R-CNNs, RPN, RetinaNet, FCOS, semantic and panoptic models.
            It is switched to evaluation.
        image: an example [C, H, W], or [N, C, H, W] for N images of one size (N is then fixed); channels, dtype and
            range as the model takes them, on the model's device. Height and width should differ, and neither be 1.
        min_size: lowest height and width that the program takes, in pixels. The coarsest feature map must be at
            least 2 x 2, since ``torch.export`` treats sizes of 1 apart: more than 128 pixels for the strides up to 128
            of RetinaNet and FCOS, more than 64 for an FPN with strides up to 64. For the same reason, maps of
            transformers with windows must take two windows or more in each direction.
        max_size: highest height and width; at most the side of the square, where the backbone pads to one (ViTDet).
        dynamic: whether height and width may vary; otherwise they are those of ``image``.
        strict: whether ``torch.export`` reads the Python code instead of running it: safer for code that it has not
            seen before, at twice the time.

    Raises:
        TypeError: the model has no such form.
        ValueError: the example is not an image, or not within the limits.
    """
    graph = TensorInference(model)
    _check_image(image, min_size, max_size, dynamic)
    lead = image.dim() - 2
    sizes = {
        lead: Dim("height", min=min_size, max=max_size),
        lead + 1: Dim("width", min=min_size, max=max_size),
    }
    with torch.no_grad(), warnings.catch_warnings():
        # Said of torchvision's own description of its NMS; users cannot mend it.
        warnings.filterwarnings("ignore", message=".*create_unbacked_symint", category=FutureWarning)
        # Of some conditions on sizes that transformers make the tracer cannot prove that they always hold. Deferred, they
        # become assertions in the graph.
        program = torch.export.export(
            graph,
            (image,),
            dynamic_shapes={"image": sizes} if dynamic else None,
            strict=strict,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
    for part in program.graph_module.modules():  # loops are modules of their own
        if isinstance(part, fx.GraphModule):
            _split_sums(part)
    return program


def save_program(program: ExportedProgram, path: str | os.PathLike[str]) -> None:
    """Write a program to a file that :func:`load_program` and ``torch.export.load`` read.

    The file appears whole or not at all.

    Args:
        program: of :func:`export_program`.
        path: of the file; its name must end in ``.pt2``.
    """
    if not os.fspath(path).endswith(".pt2"):
        raise ValueError(f"programs are kept in files named *.pt2, got {os.fspath(path)!r}")
    with atomic_write(path, "wb") as f:
        torch.export.save(program, f)


def load_program(path: str | os.PathLike[str]) -> ExportedProgram:
    """Read a program that :func:`save_program` wrote; ``.module()`` of it can be called.

    ``torch.export.load`` does the same where the operators in use are known: they are once ``torchvision`` and, for
    deformable or rotated models, ``detectron2.layers`` have been imported.

    Args:
        path: of the file.
    """
    import torchvision  # noqa: F401  (registers its operators)

    return torch.export.load(os.fspath(path))


def _split_sums(module: fx.GraphModule) -> None:
    """Replace ``torch.sym_sum`` of several sizes by additions of two: PyTorch makes such nodes and cannot write them."""
    for node in module.graph.find_nodes(op="call_function", target=torch.sym_sum):
        (terms,) = node.args
        total: Any = terms[0]
        with module.graph.inserting_before(node):
            for term in terms[1:]:
                values = [t.meta["val"] if isinstance(t, fx.Node) else t for t in (total, term)]
                total = module.graph.call_function(operator.add, (total, term))
                total.meta["val"] = values[0] + values[1]
        node.replace_all_uses_with(total)
        module.graph.erase_node(node)
    module.recompile()


def _check_image(image: object, min_size: int, max_size: int, dynamic: bool) -> None:
    if not isinstance(image, Tensor) or image.dim() not in (3, 4):
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f"the example must be a tensor [C, H, W] or [N, C, H, W], got {got}")
    height, width = image.shape[-2:]
    if not dynamic:
        return
    if not 1 < min_size <= min(height, width) or max(height, width) > max_size:
        raise ValueError(
            f"the example is {height} x {width}, but sizes are limited to {min_size}..{max_size}; "
            "give another example or other limits"
        )
